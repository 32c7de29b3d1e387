"""Imitations of routers: one table, with three faces (in memory, UPnP on loopback, NAT-PMP on loopback)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any, cast
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from twisted.internet import reactor as global_reactor
from twisted.internet.address import IPv4Address as HostAddress
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import Request
from zope.interface import implementer

from vifibnet.node.portmap.gateway import Granted, IGateway, IReactor, MappingRefused, PortTaken, Transport

reactor = cast(IReactor, global_reactor)
OUTER = IPv4Address("44.128.0.2")


def port_number(port: IListeningPort) -> int:
    """The number of a listening port on loopback, UDP or TCP."""
    address = port.getHost()
    assert isinstance(address, HostAddress)
    return address.port


def listen(case: TestCase, factory: Factory[Any], host: str = "127.0.0.1") -> IListeningPort:
    """Serve on loopback until the test ends."""
    factory.noisy = False
    port = reactor.listenTCP(0, factory, 5, host)  # type: ignore[arg-type]
    case.addCleanup(port.stopListening)
    return port


class FakeRouter:
    """The table of a router; the attributes are its manners."""

    def __init__(self) -> None:
        self.address = OUTER
        self.table: dict[tuple[str, int], tuple[str, int]] = {}
        self.leases: list[int] = []
        self.permanent_only = False
        self.overwrites = False
        self.refuses: MappingRefused | None = None

    def add(self, client: str, port: int, transport: str, external: int, lease: int) -> None:
        """Map, or raise MappingRefused with UPnP's code."""
        if self.refuses:
            raise self.refuses
        if self.permanent_only and lease:
            raise MappingRefused(725, "OnlyPermanentLeasesSupported")
        there = self.table.get((transport, external), (client, port))
        if there != (client, port) and not self.overwrites:
            raise PortTaken(718, "ConflictInMappingEntry")
        self.table[transport, external] = client, port
        self.leases.append(lease)

    def remove(self, client: str, transport: str, external: int) -> None:
        """Unmap, or raise MappingRefused with UPnP's code."""
        if self.table.get((transport, external), ("", 0))[0] != client:
            raise MappingRefused(714, "NoSuchEntryInArray")
        del self.table[transport, external]


@implementer(IGateway)
class FakeGateway:
    """A router in memory, as the machine ``client`` sees it. ``before`` runs first in every call."""

    def __init__(self, router: FakeRouter, client: str = "192.168.77.2", name: str = "fake") -> None:
        self.router = router
        self.client = client
        self.name = name
        self.before: Callable[[], object] = lambda: None
        self.calls: list[str] = []

    async def _called(self, what: str) -> None:
        self.calls.append(what)
        waiting = self.before()
        if waiting is not None:
            await waiting  # type: ignore[misc]

    async def external_address(self) -> IPv4Address:
        """See IGateway."""
        await self._called("address")
        return self.router.address

    async def add(self, port: int, transport: Transport, external: int, lease: int) -> Granted:
        """See IGateway."""
        await self._called(f"add {external}")
        self.router.add(self.client, port, transport, external, lease)
        return Granted(external, lease)

    async def remove(self, port: int, transport: Transport, external: int) -> None:
        """See IGateway."""
        await self._called(f"remove {external}")
        self.router.table.pop((transport, external), None)


# -- UPnP -------------------------------------------------------------------------------------------

DEVICE = """<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0">
<specVersion><major>1</major><minor>0</minor></specVersion>{base}
<device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><UDN>uuid:1</UDN>
<serviceList><service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>
<serviceId>l3f</serviceId><SCPDURL>/l3f</SCPDURL><controlURL>/l3f</controlURL></service></serviceList>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><UDN>uuid:2</UDN>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><UDN>uuid:3</UDN>
<serviceList>{services}</serviceList></device></deviceList></device></deviceList></device></root>"""

SERVICE = """<service><serviceType>{type}</serviceType><serviceId>id</serviceId>
<SCPDURL>{scpd}</SCPDURL><controlURL>{control}</controlURL><eventSubURL>/events</eventSubURL></service>"""

ACTIONS = {
    "AddPortMapping": (
        "NewRemoteHost NewExternalPort NewProtocol NewInternalPort NewInternalClient NewEnabled"
        " NewPortMappingDescription NewLeaseDuration",
        "",
    ),
    "DeletePortMapping": ("NewRemoteHost NewExternalPort NewProtocol", ""),
    "GetExternalIPAddress": ("", "NewExternalIPAddress"),
    "GetSpecificPortMappingEntry": (
        "NewRemoteHost NewExternalPort NewProtocol",
        "NewInternalPort NewInternalClient NewEnabled NewPortMappingDescription NewLeaseDuration",
    ),
    "UnheardOf": ("NewThing", ""),
}

FAULT = """<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault>
<faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>
<UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>{code}</errorCode>
<errorDescription>{text}</errorDescription></UPnPError></detail></s:Fault></s:Body></s:Envelope>"""

WANIP1 = "urn:schemas-upnp-org:service:WANIPConnection:1"


def scpd() -> str:
    """The description of a service with all ACTIONS."""
    actions = []
    for name, directions in ACTIONS.items():
        arguments = "".join(
            f"<argument><name>{argument}</name><direction>{direction}</direction></argument>"
            for direction, names in zip(("in", "out"), directions, strict=True)
            for argument in names.split()
        )
        listed = f"<argumentList>{arguments}</argumentList>" if arguments else ""
        actions.append(f"<action><name>{name}</name>{listed}</action>")
    return (
        '<?xml version="1.0"?><scpd xmlns="urn:schemas-upnp-org:service-1-0"><actionList>'
        + "".join(actions)
        + "</actionList></scpd>"
    )


class FakeIGD(Resource):
    """The web server of a UPnP router: ``pages`` by path, and SOAP for everything that is POSTed."""

    isLeaf = True

    def __init__(
        self,
        router: FakeRouter,
        *,
        type: str = WANIP1,
        base: str = "",
        scpd_url: str = "/scpd.xml",
        control_url: str = "/control",
    ) -> None:
        super().__init__()
        self.router = router
        service = SERVICE.format(type=type, scpd=scpd_url, control=control_url)
        self.pages = {
            "/root.xml": DEVICE.format(base=f"<URLBase>{base}</URLBase>" if base else "", services=service),
            "/scpd.xml": scpd(),
        }
        self.actions: list[str] = []

    def render_GET(self, request: Request) -> bytes:
        """Serve a description."""
        page = self.pages.get(request.path.decode())
        if page is None:
            request.setResponseCode(404)
            return b""
        return page.encode()

    def render_POST(self, request: Request) -> bytes:
        """Serve one SOAP call."""
        assert request.content is not None
        body = ElementTree.fromstring(request.content.read())[0][0]
        action = body.tag.rpartition("}")[2]
        header = request.getHeader("SOAPAction") or ""
        self.actions.append(header)
        arguments = {element.tag: element.text or "" for element in body}
        try:
            result = self._act(action, arguments, str(request.getClientAddress().host))
        except MappingRefused as refusal:
            request.setResponseCode(500)
            return FAULT.format(code=refusal.code, text=escape(refusal.problem)).encode()
        inner = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in result.items())
        service = header.strip('"').partition("#")[0]
        return (
            '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
            f'<u:{action}Response xmlns:u="{service}">{inner}</u:{action}Response></s:Body></s:Envelope>'
        ).encode()

    def _act(self, action: str, arguments: dict[str, str], client: str) -> dict[str, object]:
        if action == "GetExternalIPAddress":
            return {"NewExternalIPAddress": self.router.address}
        transport, external = arguments["NewProtocol"].lower(), int(arguments["NewExternalPort"])
        if action == "AddPortMapping":
            if arguments["NewInternalClient"] != client:
                raise MappingRefused(606, "Action not authorized")
            port, lease = int(arguments["NewInternalPort"]), int(arguments["NewLeaseDuration"])
            self.router.add(client, port, transport, external, lease)
        elif action == "DeletePortMapping":
            self.router.remove(client, transport, external)
        elif action == "GetSpecificPortMappingEntry":
            if (transport, external) not in self.router.table:
                raise MappingRefused(714, "NoSuchEntryInArray")
            client, port = self.router.table[transport, external]
            return dict(zip(ACTIONS[action][1].split(), (port, client, 1, "x", 600), strict=True))
        return {}


# -- NAT-PMP ----------------------------------------------------------------------------------------


class FakeNATPMP(DatagramProtocol):
    """The NAT-PMP port of a router. It drops the first ``deaf`` requests."""

    noisy = False

    def __init__(self, router: FakeRouter) -> None:
        self.router = router
        self.deaf = 0
        self.result = 0
        self.requests: list[bytes] = []

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Answer as RFC 6886 wants it."""
        self.requests.append(datagram)
        if len(self.requests) > self.deaf and self.transport is not None:
            self.transport.write(self.answer(datagram, addr[0]), addr)

    def answer(self, request: bytes, client: str) -> bytes:
        """The answer to one request."""
        opcode = request[1]
        head = struct.pack("!BBHI", 0, 128 + opcode, self.result, 7)
        if opcode == 0:
            return head + self.router.address.packed
        _, _, _, port, external, lease = struct.unpack("!BBHHHI", request)
        transport = {1: "udp", 2: "tcp"}[opcode]
        if not lease:
            table = self.router.table
            for key in [
                key for key, there in table.items() if key[0] == transport and there == (client, port)
            ]:
                del table[key]
            return head + struct.pack("!HHI", port, 0, 0)
        while self.router.table.get((transport, external), (client, port)) != (client, port):
            external += 1
        self.router.add(client, port, transport, external, lease)
        return head + struct.pack("!HHI", port, external, lease)
