"""What an operator sees of a node: the document that its status socket answers with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TunnelStatus:
    """One openvpn client of ours. ``remote`` is an endpoint string, None while nobody answered; ``since`` a
    Unix time; ``routes`` counts those installed over it; ``traffic`` is in bytes, both ways."""

    tap: str
    peer: str
    remote: str | None
    up: bool
    since: float
    routes: int
    traffic: int


@dataclass(frozen=True)
class ServedStatus:
    """A peer connected to the openvpn server on the tap ``server``, from this address."""

    peer: str
    address: str
    server: str


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
    """Whether the registry answers, and which address it last saw us from."""

    connected: bool
    seen: str | None


@dataclass(frozen=True)
class NodeStatus:
    """All of it. ``started`` is a Unix time; ``endpoints`` is what we advertise; ``registry`` is None for a
    node that was given none."""

    prefix: str
    address: str
    subnet: str
    network: str
    pid: int
    started: float
    endpoints: str
    tunnels: tuple[TunnelStatus, ...]
    served: tuple[ServedStatus, ...]
    neighbours: tuple[NeighbourStatus, ...]
    routes: tuple[RouteStatus, ...]
    registry: RegistryStatus | None
    peers_known: int
