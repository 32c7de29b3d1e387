"""The seams where a real part and a fake can stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from zope.interface import Attribute, Interface

from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.news import News
from vifibnet.model.visits import Visit
from vifibnet.model.ways import Place, Way
from vifibnet.wire.document import Kind


class IMailer(Interface):
    """Sends the registry's mails."""

    async def send(to: str, subject: str, body: str) -> None:
        """Hand one mail to the mail server. Raises MailFailed."""


class IRegistry(Interface):
    """The registry as a node sees it. Every call raises RegistryUnreachable or a RegistryRefusal."""

    seen = Attribute("The address (str) that the registry last saw us from, or None.")

    async def declare(endpoints: Sequence[Endpoint]) -> None:
        """Say where we can be reached."""

    async def peers(count: int) -> list[tuple[Prefix, tuple[Endpoint, ...]]]:
        """Up to ``count`` random peers."""

    async def bootstrap() -> tuple[Prefix, tuple[Endpoint, ...]]:
        """One peer that can be reached."""

    async def document(kind: Kind, known: int) -> bytes | None:
        """The signed document of this kind, or None when its number is not greater than ``known``."""

    async def renew(request: str) -> str:
        """A new certificate for a certificate request, both as PEM; ours may have expired."""


class IPeerCaller(Interface):
    """Calls other nodes over the network itself."""

    async def visit(visit: Visit, own: Sequence[Endpoint]) -> list[News]:
        """Tell a neighbour where we are, and ask what the visit asks; also hear where the neighbour is.

        Raises PeerUnreachable where the called one does not answer as a member with this very prefix does.
        """


class IKernel(Interface):
    """What the node asks of the machine's network. Every call raises CommandFailed."""

    async def clean() -> None:
        """Remove whatever an earlier run left: our taps, our routes, our babeld."""

    async def add_taps(names: Sequence[str], mtu: int) -> None:
        """Make persistent taps that are up, with no address but their link-local one."""

    async def set_mtu(names: Sequence[str], mtu: int) -> None:
        """Give taps that are there another MTU."""

    async def add_subnet(
        interface: str,
        address: IPv6Address,
        subnet: IPv6Network,
        network: IPv6Network,
    ) -> None:
        """Own the subnet: the address on the interface, the rest of subnet and network unreachable."""

    async def addresses() -> Sequence[Sequence[IPv4Address | IPv6Address]]:
        """The addresses of each interface that are valid beyond its link, but those of our taps'."""

    async def flush_routes() -> None:
        """Remove the routes that a killed babeld left behind."""

    async def announce() -> None:
        """Have babeld send our subnet to all neighbours now, not with its next full update."""

    async def keep(put: Mapping[Place, Way], drop: Sequence[Place]) -> None:
        """Have these ways beside babeld's routes, for when it has none, and those no more."""

    async def restore() -> None:
        """Take back everything that add_taps and add_subnet did."""


class IPortMapper(Interface):
    """Makes a port of ours reachable through a gateway."""

    async def map(port: int, proto: str) -> Endpoint | None:
        """Map an external port (``proto``: ``udp`` or ``tcp-server``) and keep the lease renewed.

        Returns where the world can reach it, or None when there is no gateway: a normal answer.
        """

    async def close() -> None:
        """Remove all mappings and stop renewing."""
