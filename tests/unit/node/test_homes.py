"""Watching the machine's addresses."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fakes import FakeLeaving
from vifibnet.errors import CommandFailed
from vifibnet.node.drain import Leaving
from vifibnet.node.homes import SETTLE, Homes, _parse

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


ADDED, DELETED, TENTATIVE = 20, 21, 0x40
"""Of linux/rtnetlink.h and linux/if_addr.h."""


def news(
    scope: int,
    address: str = "192.0.2.1",
    kind: int = ADDED,
    flags: int = 0,
    interface: int = 2,
    age: int = 0,
) -> bytes:
    """A message as the kernel sends it: an address in this scope was added (linux/if_addr.h)."""
    packed = ip_address(address).packed
    # The first is IFA_CACHEINFO, the other IFA_ADDRESS.
    attributes = struct.pack("=HHIIII", 20, 6, age, age, 0, age)
    attributes += struct.pack("=HH", 4 + len(packed), 1) + packed
    head = struct.pack("=LHHLL", 24 + len(attributes), kind, 0, 0, 0)
    return head + struct.pack("=BBBBL", socket.AF_INET, 24, flags, scope, interface) + attributes


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
        self.moved = 0
        self.homes = Homes(self.reactor, NETWORK, self.look, lambda: ours)
        self.homes.on_moved = self.move
        self.servers = [FakeServer(), FakeServer()]
        self.leaving = FakeLeaving()

    async def look(self) -> list[Sequence[IPv4Address | IPv6Address]]:
        self.looks += 1
        if self.fails:
            raise CommandFailed(command="ip", status=1, output="no")
        return [[ip_address(address)] for address in self.addresses]

    def move(self) -> None:
        """Another address may be used."""
        self.moved += 1

    def begin(self, homes: Homes | None = None) -> None:
        begun = Deferred.fromCoroutine((homes or self.homes).begin(self.servers, self.leaving))
        self.successResultOf(begun)

    def change(self, *addresses: str, scope: int = GLOBAL) -> None:
        """The machine has these addresses now."""
        self.addresses = list(addresses)
        self.tell(news(scope))

    def tell(self, message: bytes) -> None:
        """The kernel says so."""
        self.kernel.send(message)
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

    def test_moved(self) -> None:
        """One that comes may be used, once nobody else has it; that it may be kept for longer is said of it
        again and again."""
        self.begin()
        old, new = "192.0.2.1", "2001:db8:7::7"
        steps = [
            (news(LINK, new), 0),
            (news(GLOBAL, old, age=7), 1),
            (news(GLOBAL, old, age=9), 1),
            (news(GLOBAL, old, DELETED), 1),
            (news(GLOBAL, new, flags=TENTATIVE), 2),
            (news(GLOBAL, new), 3),
            (news(GLOBAL, new), 3),
            (news(GLOBAL, new, interface=3), 4),
            (news(GLOBAL, old), 5),
            (b"", 6),
        ]
        for message, moved in steps:
            self.tell(message)
            self.assertEqual(self.moved, moved, message)

    @given(st.binary(max_size=60))
    def test_nonsense(self, more: bytes) -> None:
        """Whatever follows is read to its end; what is cut off is known as that."""
        message = news(GLOBAL, age=7)
        self.assertIsNotNone(_parse(message[:24] + more))
        self.assertIsNone(_parse(message[:23]))

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
