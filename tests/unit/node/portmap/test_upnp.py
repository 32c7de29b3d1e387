"""UPnP: what is ours around txupnp, against an imitation of a router on loopback."""

from ipaddress import IPv4Address
from typing import Any, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Site

from tests.unit.node.portmap.contract import GatewayContract
from tests.unit.node.portmap.fakes import OUTER, SERVICE, WANIP1, FakeIGD, FakeRouter, listen, port_number
from tests.unit.node.portmap.test_fetch import BOMB
from tests.unit.node.portmap.test_ssdp import Responder, answer
from vifibnet.node.portmap import ssdp
from vifibnet.node.portmap.gateway import GatewayTrouble, Granted, IReactor, MappingRefused, PortTaken
from vifibnet.node.portmap.upnp import SERVICES, UPnPGateway, find, make_gateway

reactor = cast(IReactor, global_reactor)
ME = "127.0.0.1"


class _IGDTest(TestCase):
    """Tests with an imitation of a router."""

    def setUp(self) -> None:
        """Make its table."""
        self.router = FakeRouter()

    def found(self, igd: FakeIGD) -> ssdp.Found:
        """Serve it, and return what a search would find."""
        self.port = listen(self, Site(igd))
        return ssdp.Found(ME, f"http://{ME}:{port_number(self.port)}/root.xml", ssdp.TARGETS[0], "", "")

    async def make(self, igd: FakeIGD) -> UPnPGateway:
        """The gateway that this is."""
        gateway = await make_gateway(reactor, self.found(igd), timeout=5)
        assert gateway is not None
        return gateway


class ContractTests(_IGDTest, GatewayContract):
    """It does what every gateway must do."""

    async def setUp(self) -> None:  # type: ignore[override]
        """Have one."""
        super().setUp()
        self.gateway = await self.make(FakeIGD(self.router))


class GatewayTests(_IGDTest):
    """Calls."""

    async def test_services(self) -> None:
        """Every kind of service is called by its own name, in quotes."""
        for service in SERVICES:
            igd = FakeIGD(self.router, type=service)
            gateway = await self.make(igd)
            self.assertEqual(await gateway.add(1194, "udp", 1194, 600), Granted(1194, 600))
            self.assertIn(f'"{service}#AddPortMapping"', igd.actions)
            self.assertEqual(self.router.table, {("udp", 1194): (ME, 1194)})

    async def test_urls(self) -> None:
        """Absolute, relative and URLBase-relative references work, as long as they stay on the host."""
        found = self.found(FakeIGD(self.router))
        base = found.location.removesuffix("root.xml")
        for igd in (
            FakeIGD(self.router, scpd_url=base + "scpd.xml", control_url=base + "control"),
            FakeIGD(self.router, scpd_url="scpd.xml", control_url="control"),
            FakeIGD(self.router, base=base, scpd_url="scpd.xml", control_url="control"),
        ):
            self.assertEqual(await (await self.make(igd)).external_address(), OUTER)

    async def test_elsewhere(self) -> None:
        """A router that sends us to another host is of no use."""
        for igd in (
            FakeIGD(self.router, control_url="http://127.0.0.2:1/control"),
            FakeIGD(self.router, scpd_url="//127.0.0.2:1/scpd.xml"),
            FakeIGD(self.router, base="http://127.0.0.2:1/"),
        ):
            self.assertIsNone(await make_gateway(reactor, self.found(igd)))

    async def test_permanent_only(self) -> None:
        """A router that knows no leases gets mappings without; it is asked only once."""
        self.router.permanent_only = True
        gateway = await self.make(igd := FakeIGD(self.router))
        self.assertEqual(await gateway.add(1194, "udp", 1194, 600), Granted(1194, 0))
        self.assertEqual(await gateway.add(1194, "udp", 1194, 600), Granted(1194, 0))
        self.assertEqual(self.router.leases, [0, 0])
        self.assertEqual(len([action for action in igd.actions if "AddPortMapping" in action]), 3)

    async def test_taken(self) -> None:
        """A port of somebody else is seen, also where the router would have overwritten it or says 501."""
        theirs = {("udp", 1194): ("192.168.77.9", 1194)}
        self.router.table = dict(theirs)
        gateway = await self.make(igd := FakeIGD(self.router))
        for overwrites in (False, True):
            self.router.overwrites = overwrites
            with self.assertRaises(PortTaken):
                await gateway.add(1194, "udp", 1194, 600)
            self.assertEqual(self.router.table, theirs)
        self.router.refuses = MappingRefused(501, "ActionFailed")
        with self.assertRaises(PortTaken):
            await gateway.add(1195, "udp", 1195, 600)
        # One that cannot be asked who has it.
        self.router.refuses, self.router.overwrites = None, False
        igd.pages["/scpd.xml"] = igd.pages["/scpd.xml"].replace("GetSpecific", "GetVague")
        gateway = await self.make(igd)
        with self.assertRaises(PortTaken):
            await gateway.add(1194, "udp", 1194, 600)

    async def test_refused(self) -> None:
        """A refusal keeps its code and its words."""
        self.router.refuses = MappingRefused(606, "Action <not> authorized")
        gateway = await self.make(FakeIGD(self.router))
        with self.assertRaises(MappingRefused) as caught:
            await gateway.add(1194, "udp", 1194, 600)
        self.assertEqual((caught.exception.code, caught.exception.problem), (606, "Action <not> authorized"))

    async def test_gone(self) -> None:
        """A router that is no longer there is in trouble."""
        gateway = await self.make(FakeIGD(self.router))
        await cast("Deferred[None]", self.port.stopListening())
        with self.assertRaises(GatewayTrouble):
            await gateway.external_address()

    async def test_nonsense(self) -> None:
        """Whatever it answers to a call that is not an answer is trouble."""
        igd = FakeIGD(self.router)
        gateway = await self.make(igd)
        for body in (
            b"",
            b"<a/>",
            b"no",
            BOMB,
            b'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"/>',
        ):
            self.patch(igd, "render_POST", lambda _, body=body: body)
            for call in (gateway.external_address(), gateway.add(1194, "udp", 1194, 600)):
                with self.assertRaises(GatewayTrouble, msg=body):
                    await call

    async def test_no_address(self) -> None:
        """A router without an outer address says so in several ways."""
        igd = FakeIGD(self.router)
        gateway = await self.make(igd)
        self.patch(igd, "_act", lambda *_: {"NewExternalIPAddress": ""})
        self.assertEqual(await gateway.external_address(), IPv4Address("0.0.0.0"))

    async def test_cancelled(self) -> None:
        """A cancelled call is cancelled, not a router in trouble."""
        gateway = await self.make(FakeIGD(self.router))
        call = Deferred.fromCoroutine(gateway.external_address())
        call.cancel()
        with self.assertRaises(CancelledError):
            await call


class DescriptionTests(_IGDTest):
    """Reading what a router says about itself."""

    async def test_of_no_use(self) -> None:
        """Descriptions that are missing, hostile, or of something else are no gateway's."""
        fine = FakeIGD(self.router).pages
        for path, page in (
            ("/root.xml", None),
            ("/root.xml", ""),
            ("/root.xml", BOMB.decode()),
            ("/root.xml", "<root/>"),
            ("/root.xml", fine["/root.xml"].replace("WANIPConnection", "WANToaster")),
            ("/root.xml", fine["/root.xml"].replace("<UDN>uuid:1</UDN>", "<devices>1</devices>")),
            ("/root.xml", fine["/root.xml"].replace("/control", "/con trol")),
            ("/root.xml", fine["/root.xml"].replace("<controlURL>/control</controlURL>", "")),
            ("/scpd.xml", None),
            ("/scpd.xml", "<scpd/>"),
            ("/scpd.xml", BOMB.decode()),
            ("/scpd.xml", fine["/scpd.xml"].replace("GetExternalIPAddress", "GetLost")),
        ):
            igd = FakeIGD(self.router)
            if page is None:
                del igd.pages[path]
            else:
                igd.pages[path] = page
            self.assertIsNone(await make_gateway(reactor, self.found(igd)), (path, page))

    async def test_the_connected_one(self) -> None:
        """Of several connections the one that has an address is taken."""

        class Two(FakeIGD):
            """Only its PPP connection is in use."""

            def _act(self, action: str, arguments: dict[str, str], client: str) -> dict[str, object]:
                if action == "GetExternalIPAddress" and WANIP1 in self.actions[-1]:
                    return {"NewExternalIPAddress": "0.0.0.0"}
                return super()._act(action, arguments, client)

        igd = Two(self.router)
        ppp = SERVICE.format(type=SERVICES[2], scpd="/scpd.xml", control="/control")
        igd.pages["/root.xml"] = igd.pages["/root.xml"].replace(
            "</serviceList></device></deviceList>", f"{ppp}</serviceList></device></deviceList>"
        )
        self.assertEqual(await (await self.make(igd)).external_address(), OUTER)

    async def test_hung(self) -> None:
        """A router that accepts and then says nothing costs one timeout."""
        port = listen(self, Factory.forProtocol(Protocol))
        found = ssdp.Found(ME, f"http://{ME}:{port_number(port)}/root.xml", ssdp.TARGETS[0], "", "")
        started = reactor.seconds()
        self.assertIsNone(await make_gateway(reactor, found, timeout=0.2))
        self.assertLess(reactor.seconds() - started, 2)


class FindTests(_IGDTest):
    """Searching: 127.0.0.1 is the multicast group here, 127.0.0.2 the default route's router."""

    def serve(self, host: str, factory: Factory[Any], port: int = 0) -> int:
        """A host that answers the search with this factory's place; the port where it is asked."""
        web = listen(self, factory, host)
        responder = Responder(answer(f"http://{host}:{port_number(web)}/root.xml"))
        udp = reactor.listenUDP(port, responder, host, 8192)
        self.addCleanup(udp.stopListening)
        self.patch(ssdp, "GROUP", (ME, port or port_number(udp)))
        return port or port_number(udp)

    async def found_with(self, router: Factory[Any]) -> str | None:
        """Which of two gateways is taken when this is the router's web server."""
        port = self.serve(ME, Site(FakeIGD(self.router)))
        self.serve("127.0.0.2", router, port)
        gateway = await find(reactor, "127.0.0.2")
        return gateway.name if gateway else None

    async def test_router_first(self) -> None:
        """The default route's router is preferred."""
        self.assertEqual(await self.found_with(Site(FakeIGD(self.router))), "127.0.0.2 (UPnP)")

    async def test_useless_router(self) -> None:
        """When it is of no use, any other gateway will do."""
        self.assertEqual(await self.found_with(Site(Resource())), "127.0.0.1 (UPnP)")

    async def test_hung(self) -> None:
        """Gateways that hang cost one time limit altogether."""
        self.serve(ME, Factory.forProtocol(Protocol))
        started = reactor.seconds()
        self.assertIsNone(await find(reactor, None, timeout=0.2))
        self.assertLess(reactor.seconds() - started, 2)
