"""Asking new neighbours for their routes."""

from __future__ import annotations

import socket
from dataclasses import replace
from ipaddress import IPv6Network

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.node import nudge
from vifibnet.node.nudge import TRIES, Nudge
from vifibnet.wire.babel import PORT, route_request
from vifibnet.wire.babeld import INFINITY, Neighbour

SUBNET = IPv6Network("2001:db8:42:5::/64")
NEW = Neighbour("a", "fe80::a", "vifs0", reach=0x8000, rxcost=INFINITY, txcost=INFINITY, cost=INFINITY)
KNOWN = replace(NEW, rxcost=96, txcost=96, cost=96)
OTHER = replace(KNOWN, id="b", address="fe80::b")
FULL = route_request([SUBNET])


class NudgeTests(SynchronousTestCase):
    """Who is asked when."""

    def setUp(self) -> None:
        """No neighbours yet."""
        self.clock = Clock()
        self.neighbours: list[Neighbour] = []
        self.sent: list[tuple[str, bytes]] = []
        self.nudge = Nudge(
            self.clock,
            0.5,
            lambda: self.neighbours,
            lambda: [SUBNET],
            lambda neighbour, packet: self.sent.append((neighbour.address, packet)),
        )

    def see(self, *neighbours: Neighbour) -> list[tuple[str, bytes]]:
        """What is sent when these are the neighbours."""
        self.neighbours[:] = neighbours
        self.sent.clear()
        self.nudge.look()
        return self.sent[:]

    def test_new_then_known(self) -> None:
        """A neighbour is asked for everything when it appears and when the link can be used."""
        self.assertEqual(self.see(NEW), [("fe80::a", FULL)])
        self.assertEqual(self.see(NEW), [])
        self.assertEqual(self.see(KNOWN), [("fe80::a", FULL)])
        self.assertEqual(self.see(KNOWN), [])
        self.clock.advance(100)
        self.assertEqual(self.sent, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_only_the_new_ones(self) -> None:
        """Those that are known are left in peace when another one comes, and when one goes."""
        self.assertEqual(self.see(KNOWN), [("fe80::a", FULL)])
        self.assertEqual(self.see(KNOWN, OTHER), [("fe80::b", FULL)])
        self.assertEqual(self.see(OTHER), [])
        self.assertEqual(self.see(KNOWN, OTHER), [("fe80::a", FULL)])

    def test_goes_on_until_the_cost_is_known(self) -> None:
        """While it is not, short questions follow, soon and not for ever."""
        self.see(NEW)
        self.clock.pump([0.1] * 3)
        self.assertEqual(self.sent[1:], [("fe80::a", route_request())] * 3)
        self.clock.pump([0.1] * 1000)
        self.assertEqual(len(self.sent), 1 + TRIES)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_link_that_fails_and_recovers(self) -> None:
        """When a link can be used again its routes are asked for again."""
        self.see(KNOWN)
        self.assertEqual(self.see(NEW), [])
        self.assertEqual(self.see(KNOWN), [("fe80::a", FULL)])

    def test_stop(self) -> None:
        """Nobody is asked any more."""
        self.see(NEW)
        self.nudge.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_real_socket(self) -> None:
        """It goes to babel's port on the neighbour's interface; where that is gone, nowhere."""
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as listener:
            listener.bind(("::1", 0))
            listener.settimeout(5)
            self.patch(nudge, "PORT", listener.getsockname()[1])
            nudge.send(replace(NEW, address="::1", interface="lo"), FULL)
            self.assertEqual(listener.recv(2000), FULL)
        nudge.send(replace(NEW, interface="nosuchinterface"), FULL)
        self.assertEqual(PORT, 6696)
