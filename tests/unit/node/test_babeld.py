"""A babeld that says what the test wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.unit.node.fakes import Pipe
from tests.unit.node.processes import FakeReactor
from vifibnet.errors import BabeldDeaf
from vifibnet.interfaces import IKernel
from vifibnet.model.addresses import Network, Prefix
from vifibnet.model.ways import Health, Place, Way
from vifibnet.node.babeld import LEARN, WARY, Babeld, BabeldSettings, Interface, Xroute
from vifibnet.node.pace import CALM
from vifibnet.node.watchdog import INTERVAL, PATIENCE

KEY = bytes(range(16))
GREETING = ("BABEL 1.0", "version babeld-1.12.1", "host h", "my-id 04:53:7e:30:78:30:2a:4e", "ok")
FILES = ["vifibnet-babeld.conf", "vifibnet-babeld.log"]
UP = "add interface vifc0 up true ipv6 fe80::1"
DOWN = "flush interface vifc0 up false"
XROUTE = "add xroute 2001:db8:42:5::/64-::/0 prefix 2001:db8:42:5::/64 from ::/0 metric 0"


def neighbour(verb: str = "add", cost: int = 96, name: str = "a1") -> str:
    """A line about a neighbour."""
    return (
        f"{verb} neighbour {name} address fe80::2 if vifc0 reach ffff ureach 0000 "
        f"rxcost 96 txcost 96 cost {cost}"
    )


def route(verb: str = "add", installed: str = "yes", metric: int = 96, refmetric: int = 0) -> str:
    """A line about a route."""
    return (
        f"{verb} route b1 prefix 2001:db8:42:7::/64 from ::/0 installed {installed} "
        f"id bc:1c:92:c6:9b:cc:14:cf metric {metric} refmetric {refmetric} via fe80::2 if vifc0"
    )


@implementer(IKernel)
class BabeldTests(SynchronousTestCase):
    """What it tells, and when we tell it on. The test is the machine."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.changes = 0
        self.state = Path(self.mktemp())
        self.state.mkdir()
        settings = self.settings = BabeldSettings(
            Network.parse("2001:db8:42::/48"), Prefix(5, 16), ("vifc0",), self.state, self.state, key=KEY
        )
        for leftover in (settings.socket, settings.pid_file):
            leftover.touch()
        self.direct: dict[IPv6Network, Way] = {}
        self.dead: set[tuple[str, str]] = set()
        self.babeld = Babeld(
            self.reactor, Random(1), settings, self.changed, self, lambda: self.direct, self.health
        )
        self.announced = 0
        self.prepared = 0
        self.flushed: Deferred[None] = succeed(None)
        self.kept: list[tuple[list[str], list[str]]] = []
        self.babeld.startService()

    def changed(self) -> None:
        self.changes += 1

    def health(self, interface: str, via: str) -> Health:
        return Health.DEAD if (interface, via) in self.dead else Health.UNKNOWN

    async def addresses(self) -> list[list[IPv4Address | IPv6Address]]:
        """Nothing to tell."""
        return []

    async def flush_routes(self) -> None:
        self.prepared += 1
        await self.flushed

    async def announce(self) -> None:
        self.announced += 1

    async def clean(self) -> None:
        """Nobody asks for it."""

    async def restore(self) -> None:
        """Nobody asks for it."""

    async def add_taps(self, names: Sequence[str], mtu: int) -> None:
        """Nobody asks for it."""

    async def set_mtu(self, names: Sequence[str], mtu: int) -> None:
        """Nothing to do."""

    async def add_subnet(
        self, interface: str, address: IPv6Address, subnet: IPv6Network, network: IPv6Network
    ) -> None:
        """Nobody asks for it."""

    async def keep(self, put: Mapping[Place, Way], drop: Sequence[Place]) -> None:
        self.kept.append(
            ([f"{place.prefix} {way.via}" for place, way in put.items()], [str(each.prefix) for each in drop])
        )

    def connect(self, *dump: str) -> Any:
        """babeld takes our connection and tells all it has."""
        address, factory, *_ = self.reactor.unixClients[-1]
        self.assertEqual(address, str(self.state / "babeld.sock"))
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(Pipe())
        self.say(protocol, *GREETING)
        self.assertEqual(protocol.transport.value(), b"monitor\n")
        self.say(protocol, *dump, "ok")
        return protocol

    def say(self, protocol: Any, *lines: str) -> None:
        """babeld says something; then a turn of the reactor passes."""
        protocol.dataReceived("".join(f"{line}\n" for line in lines).encode())
        self.reactor.advance(0)

    def live(self, protocol: Any, seconds: int) -> None:
        """Time passes, in which babeld answers whatever it may be asked."""
        for _ in range(seconds):
            self.reactor.advance(1)
            self.say(protocol, "ok")

    def test_start(self) -> None:
        """What a killed one left is gone before it starts."""
        self.assertEqual(self.prepared, 1)
        self.assertEqual(sorted(path.name for path in self.state.iterdir()), FILES)
        file = self.state / "vifibnet-babeld.conf"
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)
        self.assertIn('interface "vifc0"', file.read_text())
        self.assertEqual(self.reactor.children[0].command[:2], ["setsid", "babeld"])

    def test_dump(self) -> None:
        """What it has at first is one change."""
        protocol = self.connect(UP, neighbour(), XROUTE, route())
        self.assertEqual(self.babeld.interfaces, (Interface("vifc0", True, "fe80::1"),))
        self.assertEqual(self.babeld.xroutes[0].prefix, IPv6Network("2001:db8:42:5::/64"))
        self.assertIsInstance(self.babeld.xroutes[0], Xroute)
        self.assertEqual([known.address for known in self.babeld.neighbours], ["fe80::2"])
        self.assertEqual([known.interface for known in self.babeld.routes], ["vifc0"])
        self.assertEqual(self.changes, 1)
        self.say(protocol, "nonsense", "")
        self.assertEqual(self.changes, 1)

    def test_changes(self) -> None:
        """What matters is told once for many lines; repetitions and mere numbers are not told, but known."""
        protocol = self.connect(UP, neighbour(), route())
        self.say(protocol, UP, neighbour("change"), route("change"), route("change", metric=120))
        self.assertEqual((self.changes, self.babeld.routes[0].metric), (1, 120))
        self.say(protocol, route("change", installed="no"), route("change"), route("change", "no"))
        self.assertEqual(self.changes, 2)
        self.say(protocol, route("change", "yes", 65535))
        self.say(protocol, route("change", "yes", 96))
        self.assertEqual(self.changes, 4)
        self.say(protocol, route("change", "no", 96))
        self.say(protocol, route("change", "no", 65535))
        self.assertEqual(self.changes, 6)
        self.say(protocol, route("flush"), neighbour("flush"))
        self.assertEqual((self.changes, self.babeld.routes, self.babeld.neighbours), (7, (), ()))
        self.say(protocol, route("flush"))
        self.assertEqual(self.changes, 7)

    def test_back_again(self) -> None:
        """What was true before the last line is news again."""
        protocol = self.connect(UP, neighbour(), route())
        for metric in (200, 96, 200):
            self.say(protocol, route("change", metric=metric))
            self.assertEqual([each.metric for each in self.babeld.routes], [metric])

    def test_interface_down(self) -> None:
        """A neighbour behind an interface that is down is none."""
        protocol = self.connect(UP, neighbour())
        self.say(protocol, DOWN)
        self.assertEqual(self.babeld.interfaces, (Interface("vifc0", False),))
        self.assertEqual(self.babeld.neighbours, ())

    def test_restart(self) -> None:
        """Nothing is known while it does not run; then it is asked again."""
        protocol = self.connect(UP, neighbour(), route())
        self.reactor.children[0].end(signal=9)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.reactor.advance(0)
        self.assertEqual((self.babeld.routes, self.babeld.interfaces, self.changes), ((), (), 2))
        self.reactor.advance(1)
        self.assertEqual((self.prepared, len(self.reactor.children)), (2, 1))
        self.connect(UP)
        self.assertEqual(len(self.babeld.interfaces), 1)

    def test_learning(self) -> None:
        """One that has just begun may not know all yet; when it does, that is told."""
        self.assertTrue(self.babeld.learning)
        protocol = self.connect(UP, neighbour(), route())
        self.assertTrue(self.babeld.learning)
        learnt: list[int] = []
        self.babeld.on_learnt = lambda: learnt.append(self.changes)
        before = self.changes
        self.live(protocol, round(LEARN * self.settings.update) + 1)
        self.assertEqual((self.babeld.learning, learnt, self.changes), (False, [before], before))
        self.reactor.children[0].end(signal=9)
        self.assertTrue(self.babeld.learning)

    def test_lost_connection(self) -> None:
        """babeld drops who reads too slowly: we come back, and take no notice of what has not changed."""

        def lose(protocol: Any) -> None:
            protocol.connectionLost(Failure(ConnectionDone()))
            self.reactor.advance(0.1)
            self.assertEqual(len(self.babeld.routes), 1)

        lose(self.connect(UP, neighbour(), route()))
        lose(self.connect(UP, neighbour(), route(metric=99)))
        self.assertEqual((self.changes, self.babeld.routes[0].metric), (1, 99))
        self.connect(UP)
        self.assertEqual((self.changes, self.babeld.routes), (2, ()))

    def test_no_socket_yet(self) -> None:
        """The socket is tried until it is there."""
        for _ in range(3):
            _, factory, *_ = self.reactor.unixClients[-1]
            factory.clientConnectionFailed(None, Failure(FileNotFoundError()))
            self.reactor.advance(0.05)
        self.assertEqual(len(self.reactor.unixClients), 4)

    def test_stop(self) -> None:
        """A stop is over when the process is; nothing follows."""
        self.connect(UP)
        self.reactor.children[0].obeys = ()
        stop = self.babeld.stopService()
        self.assertNoResult(stop)
        self.reactor.children[0].end()
        self.successResultOf(stop)
        self.reactor.advance(1)
        self.assertEqual((self.babeld.interfaces, self.reactor.getDelayedCalls()), ((), []))

    def test_hangs(self) -> None:
        """Whether it never takes our connection, or answers no more: it is killed, and another started."""
        for connected in (False, True):
            process = self.reactor.children[0]
            protocol = self.connect(UP) if connected else None
            self.reactor.pump([INTERVAL] * PATIENCE)
            self.assertEqual(process.signals, [])
            self.reactor.advance(INTERVAL)
            self.assertEqual(process.signals, ["KILL"])
            self.assertEqual(self.babeld.supervisor.status().complaint, "hung, and was killed")
            if protocol is not None:
                protocol.connectionLost(Failure(ConnectionDone()))
            self.reactor.advance(1)
            self.assertEqual(len(self.reactor.children), 1)
        self.assertEqual(self.babeld.supervisor.history.restarts, 2)

    def test_lives(self) -> None:
        """Any answer is one, also a late one; and so is that it hangs up."""
        protocol = self.connect(UP)
        for word in ("ok", "no", "bad"):
            protocol.transport.clear()
            self.reactor.pump([INTERVAL] * PATIENCE)
            self.assertEqual(protocol.transport.value(), b"\n" * PATIENCE)
            self.say(protocol, *[word] * PATIENCE)
        for _ in range(PATIENCE):
            self.reactor.pump([INTERVAL] * PATIENCE)
            protocol.connectionLost(Failure(ConnectionDone()))
            self.reactor.advance(0.1)
            protocol = self.connect(UP)
        self.assertEqual(self.reactor.processes[0].signals, [])

    def change(self, **settings: Any) -> Deferred[None]:
        """Change settings."""
        self.settings = replace(self.settings, **settings)
        return Deferred.fromCoroutine(self.babeld.change(self.settings))

    def test_change_live(self) -> None:
        """A running babeld is told line by line what it can be told, between whatever it says itself."""
        protocol = self.connect(UP)
        protocol.transport.clear()
        changed = self.change(key=KEY * 2, tunnels=("vifc0", "vifc1"))
        key = f"key id vifibnet type blake2s128 value {(KEY * 2).hex()}\n".encode()
        self.assertEqual(protocol.transport.value(), key)
        self.say(protocol, neighbour(), "ok", route())
        self.assertIn(b'\ninterface "vifc1" type tunnel', protocol.transport.value())
        self.assertNoResult(changed)
        self.say(protocol, "ok")
        self.successResultOf(changed)
        self.assertEqual((len(self.reactor.processes), len(self.babeld.routes)), (1, 1))
        self.successResultOf(self.change())

    def test_change_restart(self) -> None:
        """What it cannot be told needs another start, at once and without a goodbye; it is over when the new
        one has said what it has."""
        protocol = self.connect(UP)
        changed = self.change(hello=1)
        self.assertEqual(self.reactor.processes[0].signals, ["KILL"])
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(len(self.reactor.children), 1)
        self.assertIn("hello-interval 1 ", (self.state / "vifibnet-babeld.conf").read_text())
        self.assertNoResult(changed)
        self.connect(UP)
        self.successResultOf(changed)
        self.assertEqual(self.babeld.supervisor.history.restarts, 0)

    def test_change_refused(self) -> None:
        """One that refuses, or is deaf, is started again; the key is not in the log."""
        protocol = self.connect(UP)
        changed = self.change(key=KEY * 2)
        self.say(protocol, "bad")
        protocol.connectionLost(Failure(ConnectionDone()))
        self.connect(UP)
        self.successResultOf(changed)
        changed = self.change(key=KEY)
        self.reactor.advance(5)
        self.assertEqual(len(self.reactor.processes), 3)
        self.reactor.advance(5)
        self.assertIn("within 5.0 s", str(self.failureResultOf(changed, BabeldDeaf).value))

    def test_change_while_down(self) -> None:
        """One that is not there is started with the new settings, when it is started."""
        self.reactor.children[0].end(signal=9)
        self.successResultOf(self.change(key=KEY * 2))
        self.reactor.advance(1)
        self.assertIn((KEY * 2).hex(), (self.state / "vifibnet-babeld.conf").read_text())

    def test_change_before_start(self) -> None:
        """So is one that is about to be started."""
        self.flushed = Deferred()
        self.reactor.children[0].end(signal=9)
        self.reactor.advance(1)
        self.assertEqual(self.babeld.supervisor.state, "preparing")
        self.successResultOf(self.change(key=KEY * 2, verbose=3))
        self.flushed.callback(None)
        command = self.reactor.children[0].command
        self.assertEqual(command[command.index("-d") + 1], "3")
        self.assertIn((KEY * 2).hex(), (self.state / "vifibnet-babeld.conf").read_text())

    def test_change_and_stop(self) -> None:
        """A change that a stop overtakes ends without an error."""
        protocol = self.connect(UP)
        self.reactor.obeys = ()
        self.reactor.children[0].obeys = ()
        changed = self.change(hello=1)
        stopped = self.babeld.stopService()
        self.reactor.children[0].end(signal=9)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.successResultOf(stopped)
        self.successResultOf(changed)
        self.reactor.advance(0)
        self.assertEqual(self.reactor.children, [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_keep(self) -> None:
        """Its routes are kept while it is away, and until it has had time to hear of them again: six hellos
        and an update."""
        protocol = self.connect(UP, neighbour(), route())
        self.assertEqual(self.kept, [(["2001:db8:42:7::/64 fe80::2"], [])])
        self.reactor.children[0].end(signal=9)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.reactor.advance(1)
        self.live(self.connect(UP), 92)
        self.assertEqual(len(self.kept), 1)
        self.reactor.advance(1)
        self.assertEqual(self.kept[1:], [([], ["2001:db8:42:7::/64"])])

    def test_destinations(self) -> None:
        """What is reached by kept ways counts, as long as babel has none: also while it does not run."""
        protocol = self.connect(UP, neighbour(), route())
        self.assertEqual(self.babeld.destinations(), {frozenset({"vifc0"})})
        self.assertEqual((self.babeld.spares("vifc0"), self.babeld.spares("vifc1")), (False, True))
        self.direct = {IPv6Network("2001:db8:42:8::/64"): Way("fe80::8", "vifc1")}
        self.babeld.look()
        self.reactor.advance(0)
        self.assertEqual(self.babeld.destinations(), {frozenset({"vifc0"}), frozenset({"vifc1"})})
        self.reactor.children[0].end(signal=9)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.reactor.advance(0)
        self.assertEqual(self.babeld.routes, ())
        self.assertEqual(self.babeld.destinations(), {frozenset({"vifc0"}), frozenset({"vifc1"})})

    def test_dead(self) -> None:
        """A neighbour that others know to be dead is none of the kept ways, where there is another."""
        other = (
            route(installed="no", metric=192)
            .replace("b1", "b2")
            .replace("fe80::2 if vifc0", "fe80::3 if vifc1")
        )
        self.connect(UP, neighbour(), route(), other.replace("refmetric 0", "refmetric 96"))
        kept = "2001:db8:42:7::/64"
        self.assertEqual(self.kept, [([f"{kept} fe80::2", f"{kept} fe80::3"], [])])
        self.dead.add(("vifc0", "fe80::2"))
        self.babeld.look()
        self.reactor.advance(0)
        self.assertEqual(self.kept[1:], [([f"{kept} fe80::3"], [kept])])

    def test_given_up(self) -> None:
        """A route that babel gives up is kept for some hellos."""
        protocol = self.connect(UP, neighbour(), route())
        self.reactor.advance(100)
        self.say(protocol, route("change", "yes", 65535))
        self.live(protocol, 62)
        self.assertEqual(len(self.kept), 1)
        self.reactor.advance(1)
        self.assertEqual(self.kept[1:], [([], ["2001:db8:42:7::/64"])])

    def test_hurry(self) -> None:
        """It runs while babeld does, and hears of each route with the ways that there are by then, and of
        each loss, but of other metrics only where one is missed; while it tells of trouble, nothing that
        babeld says waits."""
        babeld = Babeld(self.reactor, Random(1), self.settings, self.changed, self)
        heard: list[tuple[IPv6Network, bool, list[bool]]] = []
        missed: list[IPv6Network] = []

        class Heard(Service):
            def misses(self, prefix: IPv6Network) -> bool:
                return prefix in missed

            def note(self, prefix: IPv6Network, *, lost: bool) -> None:
                heard.append((prefix, lost, [offer.installed for offer in babeld.offers(prefix)]))

        hurry = babeld.hurry = Heard()  # type: ignore[assignment]
        babeld.startService()
        self.assertTrue(hurry.running)
        protocol = self.connect(UP, neighbour(), route())
        self.assertEqual(heard, [])
        self.say(protocol, route("change", "no"), neighbour("change", cost=97), route("change", "yes", 65535))
        prefix = IPv6Network("2001:db8:42:7::/64")
        self.assertEqual(heard, [(prefix, True, [False]), (prefix, False, [])])
        heard.clear()
        self.say(protocol, route("change"), route("change", metric=196))
        self.assertEqual(heard, [(prefix, False, [True])])
        missed.append(prefix)
        self.say(protocol, route("change", metric=296), route("flush"))
        self.assertEqual(heard[1:], [(prefix, False, [True]), (prefix, True, [])])
        self.assertEqual(babeld.patience(), CALM)
        hurry.on_trouble()  # type: ignore[attr-defined]
        self.assertEqual(babeld.patience(), 0)
        self.reactor.advance(WARY)
        self.assertEqual(babeld.patience(), CALM)
        self.assertEqual([babeld.is_tunnel(name) for name in ("vifc0", "eth0")], [True, False])
        babeld.stopService()
        self.assertFalse(hurry.running)

    def test_direct(self) -> None:
        """The ways over our own tunnels are kept from their beginning; what babel knows is better."""
        self.direct = {IPv6Network("2001:db8:42:7::/64"): Way("fe80::7", "vifc0")}
        self.babeld.look()
        self.assertEqual(self.kept, [])
        protocol = self.connect(UP)
        self.assertEqual(self.kept, [(["2001:db8:42:7::/64 fe80::7"], [])])
        self.say(protocol, neighbour(), route())
        self.assertEqual(self.kept[1:], [(["2001:db8:42:7::/64 fe80::2"], [])])

    def test_newcomers(self) -> None:
        """A link, a neighbour and its cost are reasons to announce our subnet, not too often."""
        protocol = self.connect(UP)
        self.assertEqual(self.announced, 1)
        self.say(protocol, neighbour(cost=65535), neighbour("change", cost=65535))
        self.assertEqual(self.announced, 1)
        self.reactor.advance(0.2)
        self.assertEqual(self.announced, 2)
        self.reactor.advance(1)
        self.say(protocol, neighbour("change"), neighbour("change"), route())
        self.assertEqual(self.announced, 3)
        self.reactor.advance(1)
        self.assertEqual(self.announced, 3)

    def test_mute(self) -> None:
        """A babeld that does not know our subnet is told at once, and also one that has just read the routes
        without it."""
        protocol = self.connect(XROUTE)
        self.reactor.advance(1)
        self.assertEqual(self.announced, 0)
        self.say(protocol, XROUTE.replace("add", "flush"))
        self.assertEqual(self.announced, 1)
        self.say(protocol, XROUTE)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.reactor.advance(1)
        self.connect()
        self.assertEqual(self.announced, 2)
        # Without a babeld there is nobody to be told.
        self.reactor.children[0].end(1)
        self.reactor.advance(1)
        self.assertEqual(self.announced, 2)
