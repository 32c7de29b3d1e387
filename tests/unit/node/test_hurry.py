"""When babeld is hurried, and to whom."""

from __future__ import annotations

import socket
from collections.abc import Collection
from ipaddress import IPv6Address, IPv6Network

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.liveness import INFINITY
from vifibnet.model.ways import Offer, Way
from vifibnet.node.hurry import AGAIN, ANSWERS, FEW, KNOWN, MANY, PAUSE, Hurry
from vifibnet.wire.babeld import Neighbour, Xroute
from vifibnet.wire.babelpacket import Wanted

OWN = IPv6Address("fe80::1")
NEAR, FAR = Way("fe80::2", "vifc0"), Way("fe80::3", "vifs0")
LAN = Way("fe80::4", "eth0")
PREFIX, OTHER = IPv6Network("2001:db8:42:7::/64"), IPv6Network("2001:db8:42:8::/64")


class FakeBabel:
    """Two neighbours on tunnels, one on the LAN, that offer the same; nobody offers OTHER."""

    def __init__(self) -> None:
        self.near = [(NEAR, 96), (FAR, 96), (LAN, 96)]
        self.ways = [Offer(way, 192, 96) for way in (NEAR, FAR, LAN)]
        self.xroutes: tuple[Xroute, ...] = ()

    @property
    def neighbours(self) -> list[Neighbour]:
        return [Neighbour("", way.via, way.interface, 0xFFFF, 96, 96, cost) for way, cost in self.near]

    def offers(self, prefix: IPv6Network) -> Collection[Offer]:
        return () if prefix == OTHER else self.ways

    def count(self) -> int:
        return 7

    def is_tunnel(self, interface: str) -> bool:
        return interface.startswith("vif")


class FakePrompter:
    """Notes whom babeld answers at once, who is asked, and what babeld tells on which taps."""

    def __init__(self) -> None:
        self.said: list[Way] = []
        self.told: list[tuple[Way, list[IPv6Network]]] = []
        self.among: list[int | None] = []
        self.asked: list[tuple[Way, list[IPv6Network]]] = []
        self.closed = False

    def hurry(self, interface: str, neighbour: IPv6Address) -> None:
        self.said.append(Way(str(neighbour), interface))

    def ask(
        self, interface: str, neighbour: IPv6Address, prefixes: list[IPv6Network], among: int | None
    ) -> None:
        self.told.append((Way(str(neighbour), interface), prefixes))
        self.among.append(among)

    def inquire(self, interface: str, neighbour: IPv6Address, prefixes: list[IPv6Network]) -> None:
        self.asked.append((Way(str(neighbour), interface), prefixes))

    def close(self) -> None:
        self.closed = True


class HurryTests(SynchronousTestCase):
    """One babel, as it changes."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.reactor.advance(1000)
        self.prompter = FakePrompter()
        self.babel = FakeBabel()
        self.troubles = 0
        self.hurry = self.make(OWN)
        self.hurry.on_trouble = self.trouble
        self.hurry.startService()
        self.addCleanup(self.stop)

    def make(self, own: IPv6Address | None) -> Hurry:
        """One with a real socket, which must not be in the way."""
        return Hurry(
            self.reactor,
            own,
            64,
            self.babel,
            lambda own: self.prompter,  # type: ignore[arg-type,return-value]
            lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK),
        )

    def trouble(self) -> None:
        """A way is lost."""
        self.troubles += 1

    def stop(self) -> None:
        """If it runs."""
        if self.hurry.running:
            self.hurry.stopService()

    def wait(self, seconds: float) -> None:
        """Step by step."""
        self.reactor.pump([PAUSE] * round(seconds / PAUSE))

    def said(self, after: float = 0.0) -> list[Way]:
        """To whom something was sent until then."""
        self.reactor.advance(after)
        said, self.prompter.said = self.prompter.said, []
        return said

    def lose(self, *prefixes: IPv6Network) -> None:
        """babel gives up the ways there."""
        for prefix in prefixes:
            self.hurry.note(prefix, lost=True)
        self.wait(PAUSE)

    def find(self, *prefixes: IPv6Network) -> None:
        """babel has a way again."""
        ways, self.babel.ways = self.babel.ways, [Offer(NEAR, 192, 96, installed=True)]
        for prefix in prefixes:
            self.hurry.note(prefix, lost=False)
        self.babel.ways = ways
        self.wait(PAUSE)

    def test_lost(self) -> None:
        """Who still offers a way where babel takes none is asked, but not on the LAN, where all is signed."""
        self.hurry.note(PREFIX, lost=False)
        self.hurry.note(OTHER, lost=False)
        self.assertEqual(self.said(), [NEAR, FAR])
        self.assertEqual(self.said(10), [])

    def test_misses(self) -> None:
        """What is lost is missed until there is a way again."""
        self.assertFalse(self.hurry.misses(PREFIX))
        self.hurry.note(PREFIX, lost=True)
        self.assertTrue(self.hurry.misses(PREFIX))
        self.wait(PAUSE)
        self.assertTrue(self.hurry.misses(PREFIX))
        self.find(PREFIX)
        self.assertFalse(self.hurry.misses(PREFIX))

    def test_lost_for_long(self) -> None:
        """babel has to hear of others first, which takes a moment; nobody knows when it has."""
        began = self.reactor.seconds()
        self.hurry.note(PREFIX, lost=True)
        self.assertEqual((self.said(), self.troubles), ([NEAR, FAR], 1))
        for delay in sorted(AGAIN):
            self.assertEqual(self.said(began + delay - 0.001 - self.reactor.seconds()), [])
            self.assertEqual(self.said(0.002), [NEAR, FAR])
        self.assertEqual(self.said(10), [])

    def test_inquired(self) -> None:
        """Those who offer the shortest ways are asked about them, once, and not on the LAN."""
        ways = [Way(f"fe80::{number}", f"vifc{number}") for number in range(5, 12)]
        self.babel.ways = [Offer(LAN, 96, 0)] + [Offer(way, 900 - at, 9) for at, way in enumerate(ways)]
        self.lose(PREFIX)
        self.assertEqual(self.prompter.asked, [(way, [PREFIX]) for way in ways[:-4:-1]])
        self.wait(1)
        self.assertEqual(len(self.prompter.asked), 3)

    def test_found(self) -> None:
        """All neighbours on taps, and nobody twice, hear at once of what babel finds when it was lost."""
        deaf = Way("fe80::5", "vifc2")
        self.babel.near = [(Way("fe80::9", "vifs0"), 96), *self.babel.near, (deaf, INFINITY)]
        self.lose(PREFIX)
        self.wait(1)
        self.find(PREFIX)
        told = [(Way("fe80::9", "vifs0"), [PREFIX]), (NEAR, [PREFIX])]
        self.assertEqual((self.prompter.told, self.prompter.among), (told, [7, 7]))
        self.find(PREFIX)
        self.wait(1)
        self.assertEqual(len(self.prompter.told), 2)

    def test_many_neighbours(self) -> None:
        """With many there is a moment's time, and nothing is done several times."""
        self.babel.near = [(Way("fe80::9", f"vifc{number}"), 96) for number in range(FEW + 1)]
        self.lose(PREFIX)
        self.wait(1)
        self.assertEqual(len(self.said()), 4)
        self.find(PREFIX)
        self.assertEqual(self.prompter.among, [None] * (FEW + 1))
        self.babel.ways[0] = Offer(NEAR, 192, 96, installed=True)
        self.hurry._note_request(FAR, Wanted(PREFIX, newer=True))
        self.wait(1)
        self.assertEqual(self.prompter.told[FEW + 1 :], [(FAR, [PREFIX])])

    def test_replaced(self) -> None:
        """babel tells first what it takes no more, then what it takes instead: that is no loss."""
        self.hurry.note(PREFIX, lost=True)
        self.babel.ways = [Offer(NEAR, 192, 96), Offer(FAR, 193, 97, installed=True)]
        self.hurry.note(PREFIX, lost=False)
        self.wait(1)
        self.assertEqual((self.troubles, self.prompter.told), (0, []))

    def test_new(self) -> None:
        """What was never taken is no loss either: nobody waits for it."""
        self.hurry.note(PREFIX, lost=False)
        self.wait(1)
        self.find(PREFIX)
        self.wait(1)
        self.assertEqual((self.troubles, self.prompter.told), (0, []))

    def test_very_many(self) -> None:
        """Where much is lost at once, babel may take its time for the rest."""
        every = [IPv6Network((OTHER.network_address + (number << 64), 64)) for number in range(1, KNOWN + 9)]
        self.lose(*every)
        self.wait(1)
        self.find(*every)
        self.assertEqual([len(prefixes) for _, prefixes in self.prompter.told], [MANY, MANY])
        self.find(*every)
        self.wait(1)
        self.assertEqual(len(self.prompter.told), 2)

    def test_not_lost(self) -> None:
        """babel takes one, whichever: there is nothing to ask."""
        for taken in (NEAR, FAR, LAN):
            self.babel.ways = [Offer(way, 192, 96, installed=way == taken) for way in (NEAR, FAR, LAN)]
            self.hurry.note(PREFIX, lost=False)
            self.assertEqual(self.said(10), [])

    def test_asked(self) -> None:
        """What a neighbour asks for is passed on also where babel takes a way; not what the LAN asks for."""
        self.babel.ways[0] = Offer(NEAR, 192, 96, installed=True)
        self.hurry._note_request(LAN, Wanted(PREFIX, newer=True))
        self.assertEqual((self.said(10), self.troubles), ([], 0))
        self.hurry._note_request(FAR, Wanted(OTHER, newer=True))
        self.assertEqual((self.said(10), self.troubles), ([], 1))
        self.wait(1)
        self.hurry._note_request(FAR, Wanted(PREFIX, newer=True))
        self.assertEqual((self.said(), self.troubles), ([NEAR, FAR], 2))
        self.assertEqual(self.said(PAUSE), [NEAR, FAR])

    def test_answered(self) -> None:
        """Who asks hears at once what babel has, and a while later again, when others have answered; however
        often it asks meanwhile."""
        self.babel.ways[0] = Offer(NEAR, 192, 96, installed=True)
        for _ in range(3):
            self.hurry._note_request(FAR, Wanted(PREFIX, newer=True))
            self.wait(PAUSE)
        self.wait(1)
        self.assertEqual(self.prompter.told, [(FAR, [PREFIX])] * len(ANSWERS))
        self.hurry._note_request(FAR, Wanted(PREFIX, newer=True))
        self.wait(1)
        self.assertEqual(len(self.prompter.told), 2 * len(ANSWERS))

    def test_answered_once(self) -> None:
        """Where whatever babel has will do, it has that already."""
        self.babel.ways[0] = Offer(NEAR, 192, 96, installed=True)
        self.hurry._note_request(FAR, Wanted(PREFIX, newer=False))
        self.wait(1)
        self.assertEqual((self.prompter.told, self.said()), ([(FAR, [PREFIX])], []))

    def test_answered_with_nothing(self) -> None:
        """Where babel takes no way, it has nothing to say, unless that is our own subnet."""
        self.hurry._note_request(FAR, Wanted(PREFIX, newer=True))
        self.wait(1)
        self.assertEqual(self.prompter.told, [])
        self.babel.xroutes = (Xroute("", OTHER, 0),)
        self.hurry._note_request(FAR, Wanted(OTHER, newer=True))
        self.wait(1)
        self.assertEqual(self.prompter.told, [(FAR, [OTHER])] * len(ANSWERS))

    def test_asked_for_everything(self) -> None:
        """What is remembered for that is bounded."""
        self.babel.ways[0] = Offer(NEAR, 192, 96, installed=True)
        for number in range(1, 3 * KNOWN):
            prefix = IPv6Network((OTHER.network_address + (number << 64), 64))
            self.hurry._note_request(FAR, Wanted(prefix, newer=True))
        self.assertLessEqual(max(len(self.hurry._later), len(self.hurry._asked)), KNOWN)
        self.wait(1)
        self.assertLessEqual({len(prefixes) for _, prefixes in self.prompter.told}, set(range(MANY + 1)))

    def test_pause(self) -> None:
        """Many events are one, and what follows waits for a moment."""
        said = 0
        for _ in range(1000):
            self.hurry.note(PREFIX, lost=False)
            said += len(self.said(0.001))
        self.assertLessEqual(said, 2 * (1 + 1 / PAUSE))
        self.assertGreater(said, 0.8 / PAUSE)
        self.hurry.note(PREFIX, lost=False)
        self.assertEqual(self.said(PAUSE), [NEAR, FAR])

    def test_stop(self) -> None:
        """Nothing is left."""
        self.lose(PREFIX)
        self.hurry.stopService()
        self.said()
        self.assertEqual(self.said(10), [])
        self.hurry.note(PREFIX, lost=True)
        self.assertEqual((self.said(10), self.prompter.closed), ([], True))
        self.assertEqual((self.reactor.getReaders(), self.reactor.getDelayedCalls()), ([], []))

    def test_cannot(self) -> None:
        """Without an address, or the right to have sockets, nothing happens, and that is said."""
        self.stop()
        self.hurry = self.make(None)
        self.hurry.startService()
        self.hurry.note(PREFIX, lost=True)

        def refuse() -> socket.socket:
            raise PermissionError(1, "not permitted")

        other = Hurry(self.reactor, OWN, 64, self.babel, make_socket=refuse)
        other.startService()
        other.note(PREFIX, lost=True)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        other.stopService()
