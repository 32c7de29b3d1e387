"""A machine that gets a second address."""

from __future__ import annotations

from ipaddress import IPv6Network

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed

from tests.directories import short_directory
from tests.integration.namespaces import ReactorInside, eventually
from tests.programs.test_tunnels import GUEST, TunnelTestCase
from tests.unit.node.fakes import FakeLeaving
from vifibnet.model.endpoints import Endpoint
from vifibnet.node.drain import Leaving
from vifibnet.node.homes import Homes
from vifibnet.node.kernel import Kernel

NETWORK = IPv6Network("2001:db8:42::/48")
SECOND = "10.99.0.101"


class HomesTests(TunnelTestCase):
    """The server's machine does."""

    def setUp(self) -> None:
        super().setUp()
        self.told = self.moved = 0

    def second(self) -> None:
        """Give the machine another address."""
        self.host.ip("address", "add", f"{SECOND}/24", "dev", "eth0")

    def rehome(self, taps: Leaving) -> Deferred[None]:
        """The test is a server, too."""
        self.told += 1
        return succeed(None)

    def move(self) -> None:
        """Another address may be used."""
        self.moved += 1

    async def test_asked_at_another(self) -> None:
        """Who asks at it is answered from elsewhere, which helps nobody, until the server starts anew."""
        several = False
        server = self.server(several=lambda: several)
        await self.listening()
        self.second()
        reasons = self.ended(self.client(Endpoint(SECOND, 1194, "udp")))
        await eventually(lambda: reasons, "a client that gives up")
        self.assertEqual(server.served, {})
        several = True
        leaving = FakeLeaving()
        leaving.emptied = True
        await server.rehome(leaving)
        await self.listening()
        client = self.client(Endpoint(SECOND, 1194, "udp"))
        await eventually(lambda: client.up and GUEST in server.served, "a tunnel to the second address")

    async def test_noticed(self) -> None:
        """The kernel tells of it; it tells nothing of those that are valid on one link only."""
        kernel = Kernel(ReactorInside(self.host), short_directory(self))
        self.host.ip("address", "add", "2001:db8:42:5::1/128", "dev", "lo")
        with self.host.entered():
            homes = Homes(reactor, NETWORK, kernel.addresses)
            homes.on_moved = self.move
            begun = Deferred.fromCoroutine(homes.begin([self], FakeLeaving()))
        self.addCleanup(homes.stopService)
        await begun
        self.assertFalse(homes.several)
        self.host.ip("tuntap", "add", "dev", "vifc0", "mode", "tap")
        self.host.ip("address", "add", "10.1.1.1/24", "dev", "vifc0")
        self.host.ip("address", "add", "10.1.1.2/24", "dev", "lo", "scope", "link")
        self.second()
        await eventually(lambda: self.moved == 2, "a word about each of two global ones")
        self.host.ip(
            "address", "change", f"{SECOND}/24", "dev", "eth0", "valid_lft", "99", "preferred_lft", "9"
        )
        await eventually(lambda: self.told, "news of a second address")
        self.assertTrue(homes.several)
        self.host.ip("address", "delete", f"{SECOND}/24", "dev", "eth0")
        await eventually(lambda: not homes.several, "the second address gone")
        self.assertEqual((self.told, self.moved), (1, 2))
