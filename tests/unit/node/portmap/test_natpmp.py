"""NAT-PMP: its datagrams, and exchanges with an imitation on loopback."""

from ipaddress import IPv4Address
from typing import cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.unit.node.portmap.contract import GatewayContract
from tests.unit.node.portmap.fakes import OUTER, FakeNATPMP, FakeRouter, port_number
from vifibnet.node.portmap import natpmp
from vifibnet.node.portmap.gateway import GatewayTrouble, Granted, IReactor, MappingRefused
from vifibnet.node.portmap.natpmp import NATPMPGateway

reactor = cast(IReactor, global_reactor)
ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth1\t00000000\t010200C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\tFE01A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t010200C0\t0003\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""


class DatagramTests(SynchronousTestCase):
    """Writing requests and reading answers."""

    def test_requests(self) -> None:
        """Byte for byte as RFC 6886 has them."""
        self.assertEqual(natpmp.address_request(), bytes.fromhex("0000"))
        self.assertEqual(
            natpmp.map_request(1194, "udp", 1195, 600), bytes.fromhex("00010000 04aa04ab 00000258")
        )
        self.assertEqual(natpmp.map_request(1194, "tcp", 0, 0), bytes.fromhex("00020000 04aa0000 00000000"))

    def test_answers(self) -> None:
        """What was granted."""
        self.assertEqual(natpmp.read_address(bytes.fromhex("00800000 00000007 2c800002")), OUTER)
        mapped = bytes.fromhex("00810000 00000007 04aa04ab 00000258")
        self.assertEqual(natpmp.read_mapping(mapped, 1194, "udp"), Granted(1195, 600))

    def test_not_an_answer(self) -> None:
        """Another operation's answer, another port's, a request, and what is too short are nothing."""
        mapped = bytes.fromhex("00810000 00000007 04aa04ab 00000258")
        self.assertIsNone(natpmp.read_mapping(mapped, 1194, "tcp"))
        self.assertIsNone(natpmp.read_mapping(mapped, 1195, "udp"))
        self.assertIsNone(natpmp.read_mapping(mapped[:-1], 1194, "udp"))
        self.assertIsNone(natpmp.read_address(mapped))
        self.assertIsNone(natpmp.read_address(b"\0\x80\0\0"))
        self.assertIsNone(natpmp.read_address(b"\0\0"))

    def test_refusals(self) -> None:
        """A result other than success is a refusal; so is the answer of a PCP-only gateway."""
        for data, code in (("00810002 00000007", 2), ("00810063 00000007", 99), ("02810001 00000000", 1)):
            with self.assertRaises(MappingRefused) as caught:
                natpmp.read_mapping(bytes.fromhex(data), 1194, "udp")
            self.assertEqual(caught.exception.code, code)

    @given(st.binary(max_size=40))
    def test_any_datagram(self, data: bytes) -> None:
        """Any datagram is read, ignored or a refusal."""
        for read in (natpmp.read_address, lambda data: natpmp.read_mapping(data, 1194, "udp")):
            try:
                read(data)
            except MappingRefused:
                continue


class RouteTests(SynchronousTestCase):
    """Which router is ours."""

    def test_least_metric(self) -> None:
        """Of several default routes with a router the one that the kernel prefers."""
        self.assertEqual(natpmp.parse_routes(ROUTES), "192.168.1.254")

    def test_none(self) -> None:
        """No default route, no router."""
        self.assertIsNone(natpmp.parse_routes(ROUTES.splitlines()[0]))
        self.assertIsNone(natpmp.parse_routes(""))


class _Exchanging(TestCase):
    """Tests with an imitation of a router on loopback."""

    def setUp(self) -> None:
        """Start it."""
        self.router = FakeRouter()
        self.server = FakeNATPMP(self.router)
        self.client = self.listen(self.server)

    def listen(self, server: DatagramProtocol) -> NATPMPGateway:
        """A gateway that asks this server."""
        port = reactor.listenUDP(0, server, "127.0.0.1", 8192)
        self.addCleanup(port.stopListening)
        return NATPMPGateway(reactor, "127.0.0.1", port=port_number(port), waits=(0.1, 0.2, 3.0))


class ContractTests(_Exchanging, GatewayContract):
    """It does what every gateway must do."""

    def setUp(self) -> None:
        """Have one."""
        super().setUp()
        self.gateway = self.client


class ExchangeTests(_Exchanging):
    """Asking."""

    async def test_lost(self) -> None:
        """A lost request is sent again."""
        self.server.deaf = 2
        self.assertEqual(await self.client.external_address(), OUTER)
        self.assertEqual(len(self.server.requests), 3)

    async def test_silent(self) -> None:
        """A gateway that never answers is in trouble, soon; and so is a host without one."""
        self.server.deaf = 99
        where = self.client._where
        for port in (where[1], 1):
            silent = NATPMPGateway(reactor, where[0], port=port, waits=(0.01, 0.02))
            with self.assertRaises(GatewayTrouble):
                await silent.external_address()

    async def test_refused(self) -> None:
        """A refusal is one at once."""
        self.server.result = 2
        with self.assertRaises(MappingRefused) as caught:
            await self.client.add(1194, "udp", 1194, 600)
        self.assertEqual(caught.exception.code, 2)

    async def test_another_port(self) -> None:
        """When the port is somebody else's, the router grants another one."""
        self.router.table["udp", 1194] = "192.168.77.9", 1194
        self.assertEqual(await self.client.add(1194, "udp", 1194, 600), Granted(1195, 600))

    async def test_nothing_granted(self) -> None:
        """A lease of nothing is not taken for a mapping."""
        with self.assertRaises(GatewayTrouble):
            await self.client.add(1194, "udp", 1194, 0)

    async def test_somebody_else(self) -> None:
        """Only the gateway's own port may answer."""
        outer = self

        class Meddler(FakeNATPMP):
            """Lets another port answer first, with a lie."""

            def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
                liar = FakeRouter()
                liar.address = IPv4Address("66.6.6.6")
                other = FakeNATPMP(liar)
                port = reactor.listenUDP(0, other, "127.0.0.1", 8192)
                outer.addCleanup(port.stopListening)
                other.datagramReceived(datagram, addr)
                reactor.callLater(0.05, FakeNATPMP.datagramReceived, self, datagram, addr)

        gateway = self.listen(Meddler(self.router))
        self.assertEqual(await gateway.external_address(), OUTER)

    async def test_cancelled(self) -> None:
        """A cancelled request leaves nothing behind: trial would see it."""
        self.server.deaf = 99
        asking = Deferred.fromCoroutine(self.client.external_address())
        asking.cancel()
        with self.assertRaises(CancelledError):
            await asking

    async def test_find(self) -> None:
        """Nobody to ask and nobody who answers are both no gateway."""
        self.patch(natpmp, "WAITS", (0.01,))
        self.assertIsNone(await natpmp.find(reactor, None))
