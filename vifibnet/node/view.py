"""What a node sees around it: its babeld's routes and neighbours, whom its servers serve, who was revoked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network

from vifibnet.model.addresses import Prefix
from vifibnet.model.draining import passing
from vifibnet.model.liveness import INFINITY
from vifibnet.model.status import ChildStatus, LeftStatus, NeighbourStatus, RouteStatus, ServedStatus
from vifibnet.model.ways import Way
from vifibnet.node.babeld import Babeld
from vifibnet.node.config import NodeConfig
from vifibnet.node.hearsay import Telling
from vifibnet.node.openvpnserver import OpenVPNServer
from vifibnet.node.trust import Trust
from vifibnet.pki.certificates import Identity


@dataclass(frozen=True)
class Surroundings:
    """What else reaches whom: peers connected to our servers, peers on the LAN; by tap the number of
    installed routes and the round-trip time; ``destinations`` as model.tunnels.destinations makes them.

    ``revoked`` nodes are nobody's peers; an ``outcast`` is one of them.
    """

    served: frozenset[Prefix] = frozenset()
    lan: frozenset[Prefix] = frozenset()
    routes: Mapping[str, int] = field(default_factory=dict)
    rtt: Mapping[str, float] = field(default_factory=dict)
    destinations: Callable[[], frozenset[frozenset[str]]] = frozenset
    revoked: frozenset[Prefix] = frozenset()
    outcast: bool = False


class View:
    """Asked anew each time, but for the peers on the local network, which ``look`` finds."""

    def __init__(
        self,
        config: NodeConfig,
        identity: Identity,
        trust: Trust,
        babeld: Babeld,
        servers: Mapping[str, OpenVPNServer],
    ) -> None:
        """``servers`` by their taps."""
        self._interfaces = config.interfaces
        self._identity = identity
        self._trust = trust
        self._babeld = babeld
        self._servers = servers
        self._lan: frozenset[Prefix] = frozenset()
        self._met: list[tuple[str, Prefix]] = []
        self._partners: dict[str, frozenset[IPv6Address]] = {}

    def change(self, config: NodeConfig) -> bool:
        """Obey another config; whether that finds others."""
        before = self._lan
        if config.interfaces != self._interfaces:
            self._interfaces, self._lan = config.interfaces, frozenset()
        self.look()
        return self._lan != before

    def look(self) -> bool:
        """Find the peers that babel reaches directly over one of the operator's interfaces; whether they are
        others than before. What babel has forgotten because it was started again may still be there."""
        network, before = self._identity.network, self._lan
        found = (
            network.prefix_of(route.prefix)
            for route in self._babeld.routes
            if route.interface in self._interfaces and route.refmetric == 0 and route.metric < INFINITY
        )
        self._lan = frozenset(prefix for prefix in found if prefix is not None)
        if self._babeld.learning:
            self._lan |= before
        return self._lan != before

    def surroundings(self) -> Surroundings:
        """What the tunnels are decided by."""
        return Surroundings(
            served=frozenset(
                peer for server in self._servers.values() if not server.leaving for peer in server.served
            ),
            lan=self._lan,
            routes=Counter(
                route.interface
                for route in self._babeld.routes
                if route.installed and route.metric < INFINITY
            ),
            rtt={each.interface: each.rtt for each in self._babeld.neighbours if each.rtt is not None},
            destinations=self._babeld.destinations,
            revoked=self._trust.files.nodes(),
            outcast=self._trust.outcast,
        )

    def direct(self, tunnels: Mapping[str, Prefix]) -> dict[IPv6Network, Way]:
        """The ways to those at the other ends of our tunnels, which need no babel to be known."""
        return {
            self._identity.network.subnet(peer): Way(str(peer.link_local), tap)
            for tap, peer in self._ends(tunnels)
            if peer.link_local is not None
        }

    def beside(self) -> frozenset[Prefix]:
        """Who is connected to us, or on our local network."""
        return self._lan | self._served()

    def _served(self) -> frozenset[Prefix]:
        return frozenset(peer for server in self._servers.values() for peer in server.served)

    def partners(self, tunnels: Mapping[str, Prefix]) -> dict[str, frozenset[IPv6Address]]:
        """The link-local addresses of those at the other end of each tap; the same object as long as they
        are the same, because that is asked many times a second."""
        ends = self._ends(tunnels)
        if ends != self._met:
            found: dict[str, set[IPv6Address]] = {}
            for tap, peer in ends:
                if peer.link_local is not None:
                    found.setdefault(tap, set()).add(peer.link_local)
            self._met = ends
            self._partners = {tap: frozenset(addresses) for tap, addresses in found.items()}
        return self._partners

    def _ends(self, tunnels: Mapping[str, Prefix]) -> list[tuple[str, Prefix]]:
        """Who is at the other end of which tap."""
        served = [(tap, peer) for tap, server in self._servers.items() for peer in server.served]
        return [*served, *tunnels.items()]

    def tellings(self) -> list[Telling]:
        """Who may be told where it comes from."""
        return [
            (tap, peer, served.address)
            for tap, server in self._servers.items()
            for peer, served in server.served.items()
        ]

    def served(self) -> tuple[ServedStatus, ...]:
        """Who is connected to our servers."""
        return tuple(
            ServedStatus(str(peer), served.address, tap, served.since, served.bytes)
            for tap, server in self._servers.items()
            for peer, served in server.served.items()
        )

    def left(
        self, tunnels: Mapping[str, Prefix], busy: Collection[tuple[str, IPv6Address]]
    ) -> tuple[LeftStatus, ...]:
        """Who uses us although we are drained. ``busy`` are those at the other ends of tunnels that have not
        moved yet what can go elsewhere."""
        names = {(tap, str(peer.link_local)): str(peer) for tap, peer in self._ends(tunnels)}
        found = []
        for each in self._babeld.neighbours:
            moving = (each.interface, IPv6Address(each.address)) in busy
            through = passing(each, self._babeld.routes, self._interfaces)
            if moving or through:
                name = names.get((each.interface, each.address), each.address)
                found.append(LeftStatus(name, each.interface, moving, tuple(map(str, sorted(through)))))
        return tuple(found)

    def children(self) -> tuple[ChildStatus, ...]:
        """How the programs are that are kept running."""
        servers = (server.supervisor for server in self._servers.values())
        return tuple(each.status() for each in (self._babeld.supervisor, *servers))

    def neighbours(self) -> tuple[NeighbourStatus, ...]:
        """Whom our babeld hears."""
        return tuple(
            NeighbourStatus(each.address, each.interface, each.cost) for each in self._babeld.neighbours
        )

    def routes(self) -> tuple[RouteStatus, ...]:
        """What its neighbours announce."""
        return tuple(
            RouteStatus(str(each.prefix), each.interface, each.metric, each.installed, each.via)
            for each in self._babeld.routes
        )
