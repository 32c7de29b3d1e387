"""Documents on their way from neighbour to neighbour."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.pki.making import authority
from vifibnet.model.addresses import Network
from vifibnet.node.documents import Documents, KeptDocument
from vifibnet.node.gossip import AGAIN, BURST, BURST_PER_PEER, RATE, RATE_PER_PEER, Gossip
from vifibnet.node.tapsocket import ALL_NODES
from vifibnet.pki.document import sign_document
from vifibnet.wire.document import Kind
from vifibnet.wire.hearsay import MAX_SENT, Numbers, format_numbers, parse_numbers

STRANGER = Network.parse("2001:db8:43::/48")
SECOND = sum(AGAIN)


def document(
    number: int, size: int = 1, kind: Kind = Kind.PARAMETERS, network: Network | None = None
) -> bytes:
    """A document with so many lines."""
    by = authority() if network is None else authority(network=network)
    return sign_document(by, kind, number, [f"line {n}" for n in range(size)])


class Keeper:
    """Keeps any lines."""

    def __init__(self, kind: Kind, state: Path) -> None:
        self.kind = kind
        self.kept = KeptDocument(kind, tuple, state, lambda: [authority().ca])

    @property
    def number(self) -> int:
        """Of the one that is kept."""
        return self.kept.number

    @property
    def data(self) -> bytes:
        """The one that is kept."""
        return self.kept.data

    def take(self, data: bytes) -> None:
        """Keep it."""
        self.kept.take(data)


class Node:
    """One that gossips over the taps that ``wires`` leads from."""

    def __init__(self, ether: Ether, kinds: list[Kind], state: Path) -> None:
        state.mkdir()
        self.ether = ether
        self.address = f"fe80::{len(ether.nodes) + 1:x}"
        self.keepers = {kind: Keeper(kind, state) for kind in kinds}
        self.documents = Documents(ether.clock, Random(1), list(self.keepers.values()))
        self.wires: dict[str, list[tuple[Node, str]]] = {}
        self.gossip = Gossip(ether.clock, self.documents, self.taps, self.send)
        ether.nodes.append(self)

    def taps(self) -> dict[str, int]:
        """How many there are behind each."""
        return {tap: len(ends) for tap, ends in self.wires.items()}

    def send(self, interface: str, data: bytes, to: str = ALL_NODES) -> None:
        """Into the ether."""
        for node, tap in self.wires[interface]:
            if to in (ALL_NODES, node.address):
                self.ether.sent.append((self, data))
                if not self.ether.loses(data):
                    self.ether.flying.append((node, data, tap, self.address))

    def take(self, data: bytes, kind: Kind = Kind.PARAMETERS) -> None:
        """The registry sends it."""
        self.documents.take(self.keepers[kind], data)

    @property
    def numbers(self) -> list[int]:
        """What it has."""
        return [keeper.number for keeper in self.keepers.values()]


class Ether:
    """Where datagrams fly and may get lost."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.nodes: list[Node] = []
        self.flying: list[tuple[Node, bytes, str, str]] = []
        self.sent: list[tuple[Node, bytes]] = []
        self.loses: Callable[[bytes], bool] = lambda _: False

    def settle(self) -> int:
        """Let everything arrive, and what that leads to; how many datagrams that were."""
        count = 0
        while self.flying:
            count += 1
            assert count < 10_000, "there is no end to it"
            node, data, tap, source = self.flying.pop(0)
            node.gossip.datagram(data, tap, source)
        return count

    def advance(self, seconds: float) -> None:
        """Time passes."""
        while seconds > 0:
            self.clock.advance(min(0.05, seconds))
            self.settle()
            seconds -= 0.05


class GossipCase(SynchronousTestCase):
    """Some nodes."""

    kinds = [Kind.PARAMETERS]

    def setUp(self) -> None:
        self.ether = Ether()
        self.state = Path(self.mktemp())
        self.state.mkdir()

    def node(self, *kinds: Kind) -> Node:
        """One more, alone yet."""
        made = Node(self.ether, list(kinds) or self.kinds, self.state / str(len(self.ether.nodes)))
        made.gossip.start()
        return made

    def connect(self, client: Node, server: Node) -> None:
        """A tunnel comes up; only the server hears of it."""
        tap = f"c{len(client.wires)}"
        client.wires[tap] = [(server, "s0")]
        server.wires.setdefault("s0", []).append((client, tap))
        server.gossip.somebody_came()

    def pair(self, *kinds: Kind) -> tuple[Node, Node]:
        """A client and its server, who have nothing to tell each other."""
        one, two = self.node(*kinds), self.node(*kinds)
        self.connect(one, two)
        self.ether.advance(SECOND + 0.1)
        self.ether.sent.clear()
        return one, two


class SpreadTests(GossipCase):
    """Who gets what, and when."""

    def test_at_once(self) -> None:
        """What is new goes through the whole network without time passing, each tunnel carrying it at most
        once in each direction, and that was all."""
        nodes = [self.node() for _ in range(12)]
        for at, client in enumerate(nodes):
            self.connect(client, nodes[(at + 1) % 12])
            self.connect(client, nodes[(at * 5 + 3) % 12])
        self.ether.advance(SECOND + 0.1)
        self.ether.sent.clear()
        data = document(7)
        nodes[4].take(data)
        self.ether.settle()
        self.assertEqual({node.numbers[0] for node in nodes}, {7})
        copies = sum(sent == data for _, sent in self.ether.sent)
        self.assertLessEqual(copies, 2 * 24)
        self.ether.sent.clear()
        self.ether.advance(10)
        self.assertEqual(self.ether.sent, [])

    def test_newcomer(self) -> None:
        """Whoever comes gets it within a tenth of a second, and so gets who it comes to."""
        for client_knows in (True, False):
            one, two = self.node(), self.node()
            (one if client_knows else two).take(document(7))
            self.ether.advance(2)
            self.connect(one, two)
            self.ether.advance(AGAIN[0] + 0.01)
            self.assertEqual((one.numbers, two.numbers), ([7], [7]))

    def test_many_newcomers(self) -> None:
        """However fast they come, the first is told in time; and all are told a few times, not each for
        each."""
        server = self.node()
        server.take(document(7))
        self.ether.advance(2)
        clients = [self.node() for _ in range(20)]
        for at, client in enumerate(clients):
            self.connect(client, server)
            self.ether.advance(0.05)
            if at == 3:
                self.assertEqual(clients[0].numbers, [7])
        self.ether.advance(2)
        self.assertEqual({client.numbers[0] for client in clients}, {7})
        self.assertLess(sum(node is server for node, _ in self.ether.sent), 500)

    def test_lost(self) -> None:
        """A third of all datagrams gets lost; nine of ten neighbours have it soon, and the others when
        numbers are told again."""
        rng = Random(5)
        server = self.node()
        clients = [self.node() for _ in range(20)]
        for client in clients:
            self.connect(client, server)
        self.ether.advance(2)
        self.ether.loses = lambda _: rng.random() < 0.3
        server.take(document(7))
        self.ether.advance(SECOND + 0.1)
        self.assertGreaterEqual(sum(client.numbers == [7] for client in clients), 18)
        for _ in range(5):
            server.gossip.tell()
            self.ether.settle()
        self.assertEqual({client.numbers[0] for client in clients}, {7})

    def test_until_told(self) -> None:
        """It is sent again until the other has told its number, and not after the last time."""
        one, two = self.pair()
        self.ether.loses = lambda _: True
        data = document(7)
        one.take(data)
        self.ether.advance(5)
        self.assertEqual([sent for _, sent in self.ether.sent], [data] * (1 + len(AGAIN)))
        self.ether.loses = lambda _: False
        two.gossip.tell()
        self.ether.settle()
        self.assertEqual(two.numbers, [7])

    def test_signed_twice(self) -> None:
        """A registry that was started anew signs the same once more: two who have each one of these leave it
        at that."""
        one, two = self.node(), self.node()
        one.take(document(7))
        two.take(document(7))
        self.ether.advance(3)
        self.connect(one, two)
        self.ether.advance(3)
        self.assertNotIn(b"vifibnet p", {sent[:10] for _, sent in self.ether.sent})
        self.assertNotEqual(one.keepers[Kind.PARAMETERS].data, two.keepers[Kind.PARAMETERS].data)

    def test_too_long(self) -> None:
        """What is longer than a datagram is not sent, and two who cannot help each other come to an end."""
        one, two = self.pair(Kind.REVOCATIONS, Kind.PARAMETERS)
        one.take(document(7, 2000))
        two.take(document(8, 2000, Kind.REVOCATIONS), Kind.REVOCATIONS)
        self.ether.advance(5)
        self.assertEqual((one.numbers, two.numbers), ([0, 7], [8, 0]))
        self.assertLessEqual(max(len(sent) for _, sent in self.ether.sent), MAX_SENT)
        self.assertLess(len(self.ether.sent), 30)
        one.take(document(9))
        self.ether.settle()
        self.assertEqual(two.numbers, [8, 9])

    def test_other_kinds(self) -> None:
        """Nodes of different age exchange what both know."""
        one, two = self.node(Kind.REVOCATIONS, Kind.PARAMETERS), self.node(Kind.PARAMETERS)
        self.connect(one, two)
        one.take(document(5, kind=Kind.REVOCATIONS), Kind.REVOCATIONS)
        one.take(document(6))
        self.ether.advance(3)
        self.assertEqual((one.numbers, two.numbers), ([5, 6], [6]))

    def test_stop(self) -> None:
        """Nothing is told any more, and nothing waits; before the start it is the same."""
        one, two = self.pair()
        one.gossip.somebody_came()
        one.take(document(7))
        for node in (one, two):
            node.gossip.stop()
        self.assertEqual(self.ether.clock.getDelayedCalls(), [])
        self.ether.sent.clear()
        one.take(document(8))
        self.assertEqual((self.ether.sent, self.ether.clock.getDelayedCalls()), ([], []))


class DistrustTests(GossipCase):
    """What comes from who means no good."""

    def test_forged(self) -> None:
        """Nothing that our authority did not sign is kept, passed on or answered, nor what is damaged."""
        one, two = self.pair()
        good = document(9)
        for bad in (
            document(9, network=STRANGER),
            good.replace(b"number 9", b"number 8"),
            good[:-3],
            document(9, kind=Kind.REVOCATIONS),
            document(9, kind=Kind.REVOCATIONS).replace(b"revocations", b"parameters"),
            b"vifibnet parameters 1\n",
        ):
            two.gossip.datagram(bad, "s0", one.address)
        self.assertEqual((two.numbers, self.ether.sent), ([0], []))

    def test_elsewhere(self) -> None:
        """Only what comes over a tap with a peer behind it is looked at."""
        one, two = self.pair()
        two.take(document(7))
        self.ether.advance(2)
        self.ether.sent.clear()
        two.wires["s1"] = []
        for tap in ("eth0", "s1", "lo"):
            two.gossip.datagram(format_numbers(Numbers({Kind.PARAMETERS: 0})), tap, one.address)
            two.gossip.datagram(document(9), tap, one.address)
        self.assertEqual((two.numbers, self.ether.sent), ([7], []))

    def test_flood(self) -> None:
        """So many datagrams of one tap are dealt with, and no more; those of other taps are not concerned."""
        one, two = self.pair()
        other = self.node()
        self.connect(two, other)
        two.take(document(7))
        self.ether.advance(5)
        self.ether.sent.clear()
        question = format_numbers(Numbers({Kind.PARAMETERS: 0}))
        for _ in range(1000):
            two.gossip.datagram(question, "s0", one.address)
        self.assertEqual(len(self.ether.sent), int(BURST + BURST_PER_PEER))
        other.take(document(8))
        self.ether.settle()
        self.assertEqual(two.numbers, [8])
        self.ether.clock.advance(1)
        self.ether.sent.clear()
        for _ in range(1000):
            two.gossip.datagram(question, "s0", one.address)
        self.assertEqual(len(self.ether.sent), int(RATE + RATE_PER_PEER))

    def test_pretenders(self) -> None:
        """Who speaks under many addresses costs no memory."""
        one, two = self.pair()
        two.take(document(7))
        told = format_numbers(Numbers({Kind.PARAMETERS: 7}))
        for n in range(1000):
            self.ether.clock.advance(1)
            two.gossip.datagram(told, "s0", f"fe80::9:{n:x}")
        self.assertEqual(len(two.gossip._have[Kind.PARAMETERS]["s0"]), 1)
        self.assertEqual(one.numbers, [0])

    def test_liar(self) -> None:
        """Whoever claims to have more is asked for it each time, and that is all."""
        one, two = self.pair()
        two.gossip.datagram(format_numbers(Numbers({Kind.PARAMETERS: 99})), "s0", one.address)
        [(node, sent)] = self.ether.sent
        self.assertIs(node, two)
        self.assertEqual(parse_numbers(sent), Numbers({Kind.PARAMETERS: 0}, want=True))
