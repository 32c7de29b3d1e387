"""Map ports by UPnP (Internet Gateway Device 1 and 2), on the parts of txupnp that work today.

txupnp's ``Gateway`` reads a device description and its ``SCPDCommandRunner`` turns a service description
into SOAP calls. Both fetch through treq: from any host, of any size, for as long as it takes. So the
fetching is ours (fetch.py), the reading and calling is theirs, and nothing of the library is changed.
"""

from __future__ import annotations

import logging
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.logger import Logger
from txupnp.fault import UPnPError
from txupnp.gateway import Device, Gateway, Service
from txupnp.scpd import SCPDCommandRunner, SCPDResponse
from zope.interface import implementer

from vifibnet.node.portmap import ssdp
from vifibnet.node.portmap.fetch import TIMEOUT, Fetcher
from vifibnet.node.portmap.gateway import (
    GatewayTrouble,
    Granted,
    IGateway,
    IReactor,
    MappingRefused,
    PortTaken,
    Transport,
)

SERVICES = (
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)
"""What can map ports, best first."""

ACTIONS = frozenset(
    {"AddPortMapping", "DeletePortMapping", "GetExternalIPAddress", "GetSpecificPortMappingEntry"}
)

ACTION_FAILED, NO_SUCH_ENTRY, CONFLICT, ONLY_PERMANENT = 501, 714, 718, 725
"""Error codes of WANIPConnection:1 and :2; there are gateways that say 501 where they mean 718."""

DISCOVERY_TIMEOUT = 6.0
"""Seconds for reading the descriptions of all that answered the search."""

log = Logger()
# Without any handler Python prints the library's errors on stderr; we report them ourselves.
logging.getLogger("txupnp").addHandler(logging.NullHandler())


class Description(Gateway):
    """One device's description, fetched by us, with every URL checked to be on the answering host."""

    def __init__(self, found: ssdp.Found, fetcher: Fetcher) -> None:
        super().__init__(usn=found.usn, server=found.server, location=found.location, st=found.target)
        self._found = found
        self._fetcher = fetcher
        # The services' URLs are made absolute below; the runner puts this before them.
        self.base_address = b""

    def discover_services(self) -> Deferred[None]:
        """Fetch and read the description. Fails with anything at all: it comes from the network."""
        return Deferred.fromCoroutine(self._discover())

    async def _discover(self) -> None:
        location = self._found.location
        body = await self._fetcher.get(location)
        root = SCPDResponse(location, {}, body).get_device_info()
        self._device = Device(self._devices, self._services, **root["device"])
        base = root.get("URLBase") or location
        for service in self._services:
            if service.serviceType in SERVICES:
                service.SCPDURL = ssdp.url_on(self._found.host, base, service.SCPDURL)
                service.controlURL = ssdp.url_on(self._found.host, base, service.controlURL)


class Runner(SCPDCommandRunner):
    """The SOAP calls of one service of one gateway."""

    def __init__(self, gateway: Description, reactor: IReactor, fetcher: Fetcher, service: Service) -> None:
        super().__init__(gateway, reactor)
        self._http_client = fetcher
        self._service = service

    def discover_commands(self) -> Deferred[None]:
        """Fetch and read the service's description. Fails with anything at all."""
        return Deferred.fromCoroutine(self._discover())

    async def _discover(self) -> None:
        url = self._service.SCPDURL
        body = await self._http_client.get(url)
        for action in SCPDResponse(url, {}, body).get_action_list():
            if action["name"] in ACTIONS:
                self._patch_command(action, self._service.serviceType)

    def _patch_command(self, action_info: dict[str, Any], service_type: str) -> bool:
        super()._patch_command(action_info, service_type)
        # The library encodes the type and then formats the bytes into headers and bodies.
        getattr(self, action_info["name"]).service_id = service_type
        return True

    def knows(self, action: str) -> bool:
        """Whether the service has this action."""
        return action in self._registered_commands


@implementer(IGateway)
class UPnPGateway:
    """One gateway that speaks UPnP."""

    def __init__(self, name: str, runner: Runner, fetcher: Fetcher) -> None:
        """Use make_gateway."""
        self.name = name
        self._runner = runner
        self._fetcher = fetcher
        self._only_permanent = False

    async def external_address(self) -> IPv4Address:
        """See IGateway."""
        text = await self._call("GetExternalIPAddress")
        try:
            return IPv4Address(text)
        except AddressValueError:
            return IPv4Address(0)

    async def add(self, port: int, transport: Transport, external: int, lease: int) -> Granted:
        """See IGateway. Some gateways overwrite other machines' mappings, so who has it is asked first."""
        await self._check_ours(port, transport, external)
        granted = 0 if self._only_permanent else lease
        try:
            await self._call(
                "AddPortMapping",
                NewRemoteHost="",
                NewExternalPort=external,
                NewProtocol=transport.upper(),
                NewInternalPort=port,
                NewInternalClient=self._fetcher.local,
                NewEnabled=1,
                NewPortMappingDescription=f"vifibnet {port}/{transport}",
                NewLeaseDuration=granted,
            )
        except MappingRefused as refusal:
            if refusal.code == ONLY_PERMANENT and granted:
                self._only_permanent = True
                return await self.add(port, transport, external, lease)
            if refusal.code in (CONFLICT, ACTION_FAILED):
                raise PortTaken(refusal.code, refusal.problem) from None
            raise
        return Granted(external, granted)

    async def remove(self, port: int, transport: Transport, external: int) -> None:
        """See IGateway."""
        try:
            await self._call(
                "DeletePortMapping", NewRemoteHost="", NewExternalPort=external, NewProtocol=transport.upper()
            )
        except MappingRefused as problem:
            if problem.code != NO_SUCH_ENTRY:
                raise

    async def _check_ours(self, port: int, transport: Transport, external: int) -> None:
        """Raise PortTaken when the gateway says that somebody else has this port."""
        if not self._runner.knows("GetSpecificPortMappingEntry"):
            return
        try:
            internal, client, *_ = await self._call(
                "GetSpecificPortMappingEntry",
                NewRemoteHost="",
                NewExternalPort=external,
                NewProtocol=transport.upper(),
            )
        except (MappingRefused, GatewayTrouble):
            # No such entry; or it does not tell, and then adding will.
            return
        if (client, internal) != (self._fetcher.local, port):
            raise PortTaken(CONFLICT, f"port {external} leads to {client}")

    async def _call(self, action: str, **arguments: object) -> Any:
        try:
            return await getattr(self._runner, action)(**arguments)
        except (MappingRefused, CancelledError):
            raise
        # The library's parser on a stranger's document may end in any error.
        except Exception as problem:
            if isinstance(problem, UPnPError) and isinstance(problem.args[0], CancelledError):
                raise CancelledError from None
            raise GatewayTrouble(where=self.name, problem=f"{action}: {problem}") from problem


async def make_gateway(
    reactor: IReactor, found: ssdp.Found, *, timeout: float = TIMEOUT
) -> UPnPGateway | None:
    """Read a gateway's descriptions; None when it cannot map ports. ``timeout`` is each request's.

    A gateway may have several kinds of connection, of which one is in use: the one with an address.
    """
    fetcher = Fetcher(reactor, found.host, timeout=timeout)
    usable: UPnPGateway | None = None
    try:
        description = Description(found, fetcher)
        await description.discover_services()
        for service in filter(None, map(description.get_service, SERVICES)):
            runner = Runner(description, reactor, fetcher, service)
            await runner.discover_commands()
            gateway = UPnPGateway(f"{found.host} (UPnP)", runner, fetcher)
            if await gateway.external_address() != IPv4Address(0):
                return gateway
            usable = usable or gateway
    except CancelledError:
        raise
    # See UPnPGateway._call.
    except Exception as problem:
        log.debug(
            "the gateway at {location} is of no use: {problem}", location=found.location, problem=problem
        )
    return usable


async def find(
    reactor: IReactor, router: str | None, *, timeout: float = DISCOVERY_TIMEOUT
) -> UPnPGateway | None:
    """The first gateway that can map ports, the default route's ``router`` before any other; or None.

    The router is also asked directly: its answer passes a firewall that lets in answers only.
    """
    directly = [(router, ssdp.GROUP[1])] if router else []
    answers = await ssdp.search(reactor, [ssdp.GROUP, *directly])
    answers.sort(key=lambda found: found.host != router)

    async def first() -> UPnPGateway | None:
        for found in answers:
            gateway = await make_gateway(reactor, found)
            if gateway is not None:
                return gateway
        return None

    try:
        return await Deferred.fromCoroutine(first()).addTimeout(timeout, reactor)
    except TimeoutError:
        return None
