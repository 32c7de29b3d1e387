"""What every kind of gateway has in common: the seam between the mapper and UPnP, NAT-PMP or a fake."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Literal

from twisted.internet.interfaces import IReactorTCP, IReactorTime, IReactorUDP
from zope.interface import Attribute, Interface

from vifibnet.errors import VifibnetError

Transport = Literal["udp", "tcp"]


class IReactor(IReactorTCP, IReactorUDP, IReactorTime):
    """What talking to a gateway needs of a reactor."""


class GatewayTrouble(VifibnetError):
    """The gateway {where} did not do as its protocol says: {problem}."""


class MappingRefused(VifibnetError):
    """The gateway refused with code {code}: {problem}."""

    def __init__(self, code: int, problem: str) -> None:
        """``code`` is the one of the gateway's own protocol."""
        super().__init__(code=code, problem=problem)
        self.code = code
        self.problem = problem


class PortTaken(MappingRefused):
    """The gateway says that this external port belongs to somebody else ({code}: {problem})."""


@dataclass(frozen=True)
class Granted:
    """What a gateway granted: ``lease`` in seconds, 0 when it lasts until it is removed."""

    external: int
    lease: float


class IGateway(Interface):
    """A router that maps external ports to this machine.

    Every call ends within seconds. It raises GatewayTrouble when the gateway is gone or talks nonsense,
    MappingRefused when it understood and said no.
    """

    name = Attribute("How the log calls it (str).")

    async def external_address() -> IPv4Address:
        """The address that the gateway has on its outer side; 0.0.0.0 when it has none (yet)."""

    async def add(port: int, transport: Transport, external: int, lease: int) -> Granted:
        """Map ``external`` to our ``port`` for ``lease`` seconds, or renew that mapping.

        The gateway may grant another external port or another lease. Raises also PortTaken.
        """

    async def remove(port: int, transport: Transport, external: int) -> None:
        """Remove the mapping; none there is fine."""
