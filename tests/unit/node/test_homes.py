"""Watching the machine's addresses."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fakes import FakeLeaving
from vifibnet.errors import CommandFailed
from vifibnet.node.drain import Leaving
from vifibnet.node.homes import SETTLE, Homes

NETWORK = IPv6Network("2001:db8:42::/48")
LINK, GLOBAL = 253, 0


class FakeServer:
    """Counts how often it was told."""

    def __init__(self) -> None:
        self.told: list[Leaving] = []
        self.answer: Deferred[None] = succeed(None)

    def rehome(self, taps: Leaving) -> Deferred[None]:
        """Note it."""
        self.told.append(taps)
        return self.answer


def news(scope: int) -> bytes:
    """A message as the kernel sends it: an address in this scope was added (linux/if_addr.h)."""
    return struct.pack("=LHHLL", 24, 20, 0, 0, 0) + struct.pack("=BBBBL", socket.AF_INET, 24, 0, scope, 2)


class HomesTests(SynchronousTestCase):
    """What is known, and who is told."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.addresses = ["192.0.2.1"]
        self.looks = 0
        self.fails = False
        ours, self.kernel = socket.socketpair(type=socket.SOCK_DGRAM)
        ours.setblocking(False)
        self.addCleanup(self.kernel.close)
        self.addCleanup(ours.close)
        self.homes = Homes(self.reactor, NETWORK, self.look, lambda: ours)
        self.servers = [FakeServer(), FakeServer()]
        self.leaving = FakeLeaving()

    async def look(self) -> list[Sequence[IPv4Address | IPv6Address]]:
        self.looks += 1
        if self.fails:
            raise CommandFailed(command="ip", status=1, output="no")
        return [[ip_address(address)] for address in self.addresses]

    def begin(self, homes: Homes | None = None) -> None:
        begun = Deferred.fromCoroutine((homes or self.homes).begin(self.servers, self.leaving))
        self.successResultOf(begun)

    def change(self, *addresses: str, scope: int = GLOBAL) -> None:
        """The machine has these addresses now."""
        self.addresses = list(addresses)
        self.kernel.send(news(scope))
        for reader in self.reactor.getReaders():
            reader.doRead()

    def told(self) -> list[int]:
        """How often each server was told."""
        return [len(server.told) for server in self.servers]

    def test_begin(self) -> None:
        """It is assumed until it is known; what there was before the servers is no news to them."""
        self.addresses.append("192.0.2.2")
        self.assertTrue(self.homes.several)
        self.begin()
        self.assertTrue(self.homes.several)
        self.change("192.0.2.1")
        self.reactor.advance(SETTLE)
        self.assertFalse(self.homes.several)
        self.assertEqual(self.told(), [0, 0])

    def test_another(self) -> None:
        """When another comes and stays, every server is told once, in spite of another's trouble."""
        self.begin()
        self.assertFalse(self.homes.several)
        self.servers[0].answer = fail(ZeroDivisionError())
        self.change("192.0.2.1", "192.0.2.2")
        self.change("192.0.2.1", "192.0.2.2", "192.0.2.3")
        self.assertEqual(self.told(), [0, 0])
        self.reactor.advance(SETTLE)
        self.assertTrue(self.homes.several)
        self.assertEqual([server.told for server in self.servers], [[self.leaving]] * 2)
        self.assertEqual(self.looks, 2)
        self.change("192.0.2.1", "192.0.2.2")
        self.reactor.advance(SETTLE)
        self.assertEqual((self.looks, self.told()), (3, [1, 1]))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_replaced(self) -> None:
        """One that takes the place of another is nothing to restart for."""
        self.begin()
        self.change("192.0.2.1", "192.0.2.9")
        self.reactor.advance(SETTLE / 2)
        self.change("192.0.2.9")
        self.reactor.advance(SETTLE)
        self.assertFalse(self.homes.several)
        self.assertEqual(self.told(), [0, 0])

    def test_link_local(self) -> None:
        """What is valid on its link alone comes with every tunnel: nobody looks."""
        self.begin()
        self.change("192.0.2.1", "192.0.2.2", scope=LINK)
        self.reactor.advance(SETTLE)
        self.assertEqual(self.looks, 1)

    def test_trouble(self) -> None:
        """What cannot be known is assumed, and those that run otherwise are told."""
        self.begin()
        self.fails = True
        self.change("192.0.2.1")
        self.reactor.advance(SETTLE)
        self.assertTrue(self.homes.several)
        self.assertEqual(self.told(), [1, 1])

    def test_no_socket(self) -> None:
        """Where nobody would tell of another one later, it is assumed to be there."""

        def refuse() -> socket.socket:
            raise PermissionError(1, "no")

        homes = Homes(self.reactor, NETWORK, self.look, refuse)
        self.begin(homes)
        self.assertTrue(homes.several)
        homes.stopService()

    def test_stop(self) -> None:
        """After the end nobody is told, whatever was under way."""
        self.begin()
        self.change("192.0.2.1", "192.0.2.2")
        self.homes.stopService()
        self.reactor.advance(SETTLE)
        self.assertEqual((self.looks, self.told(), self.reactor.getReaders()), (1, [0, 0], []))
