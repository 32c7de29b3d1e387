"""A network of many nodes, simulated: each decides by the real plan; what it decides happens as a clock says.

There are no packets and no routes here, only who has a tunnel to whom. Babel is taken to find a way wherever
there is one; which tunnel is the worst is left to chance.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from random import Random

from vifibnet.model.addresses import Prefix
from vifibnet.model.tunnels import (
    FULL_RETRY,
    Open,
    Peer,
    Situation,
    Tunnel,
    destinations,
    next_look,
    next_refresh,
    next_try,
    plan,
)

ANSWER = 0.1
"""Seconds from the start of a client until it is connected, or refused because the server is full."""

TIMEOUT = 4.0
"""Seconds that a client waits for a node that is not there."""

DRAIN = 2.5
"""Seconds for which a tunnel that is dropped goes on carrying packets."""

PING_EXIT = 4.0
"""Seconds, at most, until a node notices that another is dead."""

REPAIR = 0.1
"""Seconds from a change to the decision about it."""

NAMED = 60
"""How many peers the registry names at a time."""

ISOLATED_FETCH = 10.0
"""Seconds between two questions to the registry of a node that reaches nobody."""

INTERVAL = 300.0
"""``--tunnel-refresh``."""

SETTLE = 2.0
"""Seconds that a tunnel is given to get routes."""


@dataclass
class Node:
    """One node. ``routes`` has a number by chance for each tap; ``failed`` and ``refused`` are counts."""

    prefix: Prefix
    reachable: bool
    alive: bool = False
    tunnels: dict[str, Tunnel] = field(default_factory=dict)
    served: set[Prefix] = field(default_factory=set)
    peers: dict[Prefix, Peer] = field(default_factory=dict)
    taps: tuple[str, ...] = ()
    died: int = 0
    refused: float | None = None
    unrest: float = 0.0
    fetched: float = float("-inf")
    wake: float = float("inf")

    def copy(self) -> Node:
        """Another one like it: all the values in the containers are frozen."""
        return replace(self, tunnels=dict(self.tunnels), served=set(self.served), peers=dict(self.peers))

    @property
    def links(self) -> int:
        """How many others it is connected to."""
        return len(self.served) + sum(tunnel.up for tunnel in self.tunnels.values())


@dataclass(frozen=True)
class Shape:
    """What a network is like: how many of its nodes can be reached, how many places each of those has."""

    nodes: int
    reachable: float
    places: int = 40
    count: int = 20
    rate: float = 0.05


class Simulation:
    """All nodes and what is about to happen. ``opened`` and ``tried`` count tunnels since the start."""

    def __init__(self, shape: Shape, rng: Random) -> None:
        """Nobody is started yet."""
        self.shape = shape
        self.rng = rng
        self.now = 0.0
        self.opened = self.tried = 0
        self._serial = 0
        self._events: list[tuple[float, int, str, int, Tunnel | None]] = []
        bits = shape.nodes.bit_length()
        some = round(shape.nodes * shape.reachable)
        self.taps = tuple(f"t{n}" for n in range(shape.count))
        self.nodes = [Node(Prefix(n, bits), n < some, taps=self.taps) for n in range(shape.nodes)]
        self._known = [Peer(node.prefix) for node in self.nodes if node.reachable]

    def start(self, within: float) -> None:
        """Start all nodes, in random order."""
        for number in range(len(self.nodes)):
            self._at(self.now + within * self.rng.random(), "start", number)

    def copy(self, rng: Random) -> Simulation:
        """The same network, to see what becomes of it when other things happen."""
        other = Simulation.__new__(Simulation)
        other.__dict__.update(self.__dict__)
        other.rng = rng
        other.nodes = [node.copy() for node in self.nodes]
        other._events = list(self._events)
        return other

    def kill(self, share: float) -> None:
        """This share of all nodes is gone; the others notice it soon."""
        for number in self.rng.sample(range(len(self.nodes)), round(share * len(self.nodes))):
            self.nodes[number].alive = False
        for number, node in enumerate(self.nodes):
            if not node.alive:
                continue
            for tunnel in node.tunnels.values():
                if tunnel.up and not self._node(tunnel.peer).alive:
                    self._at(self.now + PING_EXIT * (1 + self.rng.random()) / 2, "lost", number, tunnel)
            node.served = {peer for peer in node.served if self._node(peer).alive}

    def run(self, until: float) -> None:
        """Let happen what happens until then."""
        events = self._events
        while events and events[0][0] <= until:
            self.now, _, what, number, tunnel = heappop(events)
            node = self.nodes[number]
            if what == "start":
                self._start(number, node)
            elif not node.alive:
                continue
            elif what == "decide":
                if node.wake <= self.now:
                    self._decide(number, node, refresh=False)
            elif what == "refresh":
                self._decide(number, node, refresh=True)
                self._refresh_later(number, node)
            elif tunnel is not None:
                current = node.tunnels.get(tunnel.tap)
                if current is not None and current.peer == tunnel.peer and tunnel.since <= current.since:
                    getattr(self, f"_{what}")(number, node, current)
        self.now = until

    def neighbours(self) -> dict[int, list[int]]:
        """Who is alive, and connected to whom who is alive."""
        found: dict[int, list[int]] = {number: [] for number, node in enumerate(self.nodes) if node.alive}
        for number in found:
            for tunnel in self.nodes[number].tunnels.values():
                if tunnel.up and tunnel.peer.value in found:
                    found[number].append(tunnel.peer.value)
                    found[tunnel.peer.value].append(number)
        return found

    # -- what happens ----------------------------------------------------------------------------------

    def _at(self, when: float, what: str, number: int, tunnel: Tunnel | None = None) -> None:
        self._serial += 1
        heappush(self._events, (when, self._serial, what, number, tunnel))

    def _node(self, prefix: Prefix) -> Node:
        return self.nodes[prefix.value]

    def _start(self, number: int, node: Node) -> None:
        node.alive, node.unrest = True, self.now
        self._decide(number, node, refresh=False)
        self._refresh_later(number, node)

    def _refresh_later(self, number: int, node: Node) -> None:
        self._at(next_refresh(self.now, node.unrest, INTERVAL, self.rng), "refresh", number)

    def _answered(self, number: int, node: Node, tunnel: Tunnel) -> None:
        """A client hears from the server, or does not."""
        server = self._node(tunnel.peer)
        if not server.alive:
            self._at(self.now + TIMEOUT - ANSWER, "failed", number, tunnel)
        elif len(server.served) >= self.shape.places:
            peer = node.peers[tunnel.peer]
            refusals = peer.refusals + 1
            when = next_try(refusals, self.now, self.rng, FULL_RETRY)
            node.peers[tunnel.peer] = replace(peer, refusals=refusals, failures=0, next_try=when)
            node.refused = self.now
            self._forget(number, node, tunnel)
        else:
            self.opened += 1
            node.tunnels[tunnel.tap] = replace(
                tunnel, up=True, since=self.now, routes=self.rng.randrange(100)
            )
            node.peers[tunnel.peer] = Peer(tunnel.peer, last_success=self.now)
            server.served.add(node.prefix)
            self._repair(number, node)
            self._repair(tunnel.peer.value, server)

    def _failed(self, number: int, node: Node, tunnel: Tunnel) -> None:
        """There was no answer."""
        peer = node.peers[tunnel.peer]
        failures = peer.failures + 1
        node.peers[tunnel.peer] = replace(
            peer, failures=failures, next_try=next_try(failures, self.now, self.rng)
        )
        self._forget(number, node, tunnel)

    def _lost(self, number: int, node: Node, tunnel: Tunnel) -> None:
        """The node at the other end has died."""
        node.died += 1
        up = sum(tunnel.up for tunnel in node.tunnels.values()) - 1
        if 2 * up < self.shape.count and node.unrest < self.now - PING_EXIT:
            node.unrest = self.now
            self._refresh_later(number, node)
        self._failed(number, node, tunnel)

    def _dropped(self, number: int, node: Node, tunnel: Tunnel) -> None:
        """It was dropped a while ago, and is empty now."""
        server = self._node(tunnel.peer)
        if tunnel.up:
            server.served.discard(node.prefix)
            self._repair(tunnel.peer.value, server)
        self._forget(number, node, tunnel)

    def _forget(self, number: int, node: Node, tunnel: Tunnel) -> None:
        del node.tunnels[tunnel.tap]
        self._repair(number, node)

    def _repair(self, number: int, node: Node) -> None:
        self._wake(number, node, self.now + REPAIR * (0.5 + self.rng.random()))

    def _wake(self, number: int, node: Node, when: float) -> None:
        if when < node.wake:
            node.wake = when
            self._at(when, "decide", number)

    # -- what is decided -------------------------------------------------------------------------------

    def _decide(self, number: int, node: Node, refresh: bool) -> None:
        node.wake = float("inf")
        if not node.links and self.now - node.fetched > ISOLATED_FETCH:
            self._fetch(node)
        situation = self._situation(node, refresh)
        actions = plan(situation, self.rng)
        for action in actions:
            if isinstance(action, Open):
                self.tried += 1
                tunnel = Tunnel(action.tap, action.peer, up=False, since=self.now)
                node.tunnels[action.tap] = tunnel
                self._at(self.now + ANSWER, "answered", number, tunnel)
            else:
                tunnel = replace(node.tunnels[action.tap], stopping=True)
                node.tunnels[action.tap] = tunnel
                if action.rest:
                    peer = node.peers[action.peer]
                    node.peers[action.peer] = replace(peer, next_try=self.now + INTERVAL)
                self._at(self.now + DRAIN, "dropped", number, tunnel)
        if refresh:
            node.died = 0
        when = next_look(self._situation(node, refresh=False) if actions else situation)
        if not node.links:
            when = min(when or self.now + ISOLATED_FETCH, self.now + ISOLATED_FETCH)
        if when is not None:
            self._wake(number, node, when + 0.001)

    def _fetch(self, node: Node) -> None:
        """Ask the registry, which does not know who has died."""
        node.fetched = self.now
        for peer in self.rng.sample(self._known, min(NAMED, len(self._known))):
            if peer.prefix != node.prefix:
                node.peers.setdefault(peer.prefix, peer)

    def _situation(self, node: Node, refresh: bool) -> Situation:
        tunnels = tuple(node.tunnels.values())
        ways: frozenset[frozenset[str]] = frozenset()
        if refresh:
            links: list[tuple[Prefix | str, str]]
            links = [("all", tunnel.tap) for tunnel in tunnels if tunnel.up]
            links += [("all", "served")] if node.served else []
            links += [
                (tunnel.peer, tunnel.tap)
                for tunnel in tunnels
                if tunnel.up and self._node(tunnel.peer).links == 1
            ]
            ways = destinations(links)
        return Situation(
            own=node.prefix,
            now=self.now,
            tunnels=tunnels,
            served=frozenset(node.served),
            lan=frozenset(),
            peers=tuple(node.peers.values()),
            free_taps=tuple(tap for tap in node.taps if tap not in node.tunnels),
            connection_count=self.shape.count,
            refresh_rate=self.shape.rate,
            settle=SETTLE,
            interval=INTERVAL,
            refresh=refresh,
            died=node.died,
            refused=node.refused,
            destinations=ways,
        )
