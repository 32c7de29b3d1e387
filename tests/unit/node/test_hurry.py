"""When babeld is hurried, and to whom."""

from __future__ import annotations

import socket
from ipaddress import IPv6Address, IPv6Network

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.ways import Offer, Way
from vifibnet.node.hurry import PAUSE, Hurry

OWN = IPv6Address("fe80::1")
NEAR, FAR = Way("fe80::2", "vifc0"), Way("fe80::3", "vifs0")
LAN = Way("fe80::4", "eth0")
PREFIX, OTHER = IPv6Network("2001:db8:42:7::/64"), IPv6Network("2001:db8:42:8::/64")


class FakePrompter:
    """Notes whom babeld answers at once."""

    def __init__(self) -> None:
        self.said: list[Way] = []
        self.closed = False

    def hurry(self, interface: str, neighbour: IPv6Address) -> None:
        """It sends what it has."""
        self.said.append(Way(str(neighbour), interface))

    def close(self) -> None:
        """No more."""
        self.closed = True


class HurryTests(SynchronousTestCase):
    """Two neighbours on tunnels, one on the LAN, that offer the same."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.reactor.advance(1000)
        self.prompter = FakePrompter()
        self.offers = [Offer(way, 192, 96) for way in (NEAR, FAR, LAN)]
        self.hurry = self.make(OWN)
        self.hurry.startService()
        self.addCleanup(self.stop)

    def make(self, own: IPv6Address | None) -> Hurry:
        """One with a real socket, which must not be in the way."""
        return Hurry(
            self.reactor,
            own,
            64,
            lambda prefix: self.offers if prefix == PREFIX else (),
            lambda interface: interface.startswith("vif"),
            lambda own: self.prompter,  # type: ignore[arg-type,return-value]
            lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK),
        )

    def stop(self) -> None:
        """If it runs."""
        if self.hurry.running:
            self.hurry.stopService()

    def said(self, after: float = 0.0) -> list[Way]:
        """To whom something was sent until then."""
        self.reactor.advance(after)
        said, self.prompter.said = self.prompter.said, []
        return said

    def test_lost(self) -> None:
        """Who still offers a way where babel takes none is asked, but not on the LAN, where all is signed."""
        self.hurry.note(PREFIX)
        self.hurry.note(OTHER)
        self.assertEqual(self.said(), [NEAR, FAR])
        self.assertEqual(self.said(10), [])

    def test_not_lost(self) -> None:
        """babel takes one, whichever: there is nothing to ask."""
        for taken in (NEAR, FAR, LAN):
            self.offers = [Offer(way, 192, 96, installed=way == taken) for way in (NEAR, FAR, LAN)]
            self.hurry.note(PREFIX)
            self.assertEqual(self.said(10), [])

    def test_asked(self) -> None:
        """What a neighbour asks for is passed on also where babel takes a way; not what the LAN asks for."""
        self.offers[0] = Offer(NEAR, 192, 96, installed=True)
        self.hurry._note_request("eth0", PREFIX)
        self.hurry._note_request("vifs0", OTHER)
        self.assertEqual(self.said(10), [])
        self.hurry._note_request("vifs0", PREFIX)
        self.assertEqual(self.said(), [NEAR, FAR])

    def test_pause(self) -> None:
        """Many events are one, and what follows waits for a moment."""
        said = 0
        for _ in range(1000):
            self.hurry.note(PREFIX)
            said += len(self.said(0.001))
        self.assertLessEqual(said, 2 * (1 + 1 / PAUSE))
        self.assertGreater(said, 1 / PAUSE)
        self.hurry.note(PREFIX)
        self.assertEqual(self.said(PAUSE), [NEAR, FAR])

    def test_stop(self) -> None:
        """Nothing is left."""
        self.hurry.note(PREFIX)
        self.hurry.stopService()
        self.assertEqual(self.said(10), [])
        self.hurry.note(PREFIX)
        self.assertEqual((self.said(10), self.prompter.closed), ([], True))
        self.assertEqual((self.reactor.getReaders(), self.reactor.getDelayedCalls()), ([], []))

    def test_cannot(self) -> None:
        """Without an address, or the right to have sockets, nothing happens, and that is said."""
        self.stop()
        self.hurry = self.make(None)
        self.hurry.startService()
        self.hurry.note(PREFIX)

        def refuse() -> socket.socket:
            raise PermissionError(1, "not permitted")

        other = Hurry(self.reactor, OWN, 64, lambda _: self.offers, lambda _: True, make_socket=refuse)
        other.startService()
        other.note(PREFIX)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        other.stopService()
