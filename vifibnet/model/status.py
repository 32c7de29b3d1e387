"""What an operator sees of a node: the document that its status socket answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class TunnelStatus:
    """One openvpn client of ours, opened for this ``reason``. ``remote`` is an endpoint string, None while
    nobody answered; ``since`` a Unix time; ``routes`` counts those installed over it; ``traffic`` is in
    bytes, both ways."""

    tap: str
    peer: str
    remote: str | None
    up: bool
    since: float
    routes: int
    traffic: int
    reason: str


@dataclass(frozen=True)
class ServedStatus:
    """A peer connected to the openvpn server on the tap ``server``, from this address; ``since`` and
    ``traffic`` as for a tunnel."""

    peer: str
    address: str
    server: str
    since: float
    traffic: int


@dataclass(frozen=True)
class NeighbourStatus:
    """Another babeld that is heard on the interface; a cost of 65535 means that it does not hear us."""

    address: str
    interface: str
    cost: int


@dataclass(frozen=True)
class RouteStatus:
    """A route to another node's subnet; a metric of 65535 means that nothing is reached over it."""

    prefix: str
    interface: str
    metric: int
    installed: bool
    via: str


@dataclass(frozen=True)
class RegistryStatus:
    """Whether the registry answers, and since when (a Unix time); which address it last saw us from."""

    connected: bool
    since: float | None
    seen: str | None


@dataclass(frozen=True)
class LeftStatus:
    """Somebody who uses a node that is drained: the prefix of the ``neighbour``, or the address of one that
    is no peer; ``moving``: one of the two has not moved all that can go elsewhere; ``destinations`` are what
    it reaches through the node."""

    neighbour: str
    interface: str
    moving: bool
    destinations: tuple[str, ...]


@dataclass(frozen=True)
class DrainedStatus:
    """A node that is drained since then (a Unix time), and who is ``left``."""

    since: float
    left: tuple[LeftStatus, ...]


@dataclass(frozen=True)
class ChildStatus:
    """A program that is kept running, in this ``state`` of model.supervision since then (a Unix time).

    ``restarts`` counts those that nobody wanted. ``complaint`` is the last one, made at the Unix time
    ``complained``, None while there was none.
    """

    name: str
    state: str
    since: float
    pid: int | None
    restarts: int
    complaint: str
    complained: float | None


@dataclass(frozen=True)
class ParametersStatus:
    """The number of the network's parameters (0: none were ever heard of), and by their names the values that
    hold for this node, as ``vifibnet set`` takes them; of a secret only that it is ``set``."""

    number: int
    values: Mapping[str, str]


@dataclass(frozen=True)
class NodeStatus:
    """All of it. ``started`` is a Unix time, and so is ``now``, at which all this is so: as if nobody had set
    the machine's clock since ``started``. ``endpoints`` is what we advertise; ``registry`` is None for a node
    that was given none; ``certificate_expires`` and ``authority_expires`` are Unix times by the calendar;
    ``drained`` is None for a node that is not."""

    prefix: str
    address: str
    subnet: str
    network: str
    pid: int
    started: float
    now: float
    endpoints: str
    tunnels: tuple[TunnelStatus, ...]
    served: tuple[ServedStatus, ...]
    neighbours: tuple[NeighbourStatus, ...]
    routes: tuple[RouteStatus, ...]
    registry: RegistryStatus | None
    peers_known: int
    certificate_expires: float
    authority_expires: float
    parameters: ParametersStatus
    drained: DrainedStatus | None
    children: tuple[ChildStatus, ...]
