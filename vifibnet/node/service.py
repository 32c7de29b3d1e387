"""A node put together: what starts when, what stops when, and who hears of whose changes."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv6Network
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    TimeoutError,
    gatherResults,
    maybeDeferred,
    succeed,
)
from twisted.internet.task import deferLater
from twisted.logger import Logger

from vifibnet.errors import BadInput, CommandFailed
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.status import NeighbourStatus, NodeStatus, RegistryStatus, RouteStatus, ServedStatus
from vifibnet.node.config import NodeConfig
from vifibnet.node.external import endpoints_to_declare
from vifibnet.node.hearsay import Hearsay, Telling
from vifibnet.node.nudge import Nudge
from vifibnet.node.ownlog import OwnLog
from vifibnet.node.parts import Parts
from vifibnet.node.peers import PeerRefresh
from vifibnet.node.status import StatusServer
from vifibnet.node.taps import client_taps, server_taps
from vifibnet.node.tunnels import Surroundings, Tunnels
from vifibnet.pki.certificates import Identity
from vifibnet.wire.babel import MAX_REQUESTS
from vifibnet.wire.babeld import INFINITY
from vifibnet.wire.endpoints import format_endpoints

if TYPE_CHECKING:
    from vifibnet.node.portmap.mapper import PortMapper

MAP_AFTER = 2.0
"""Seconds from the first tunnels to the search for a gateway."""

RETRACT, END, RESTORE = 0.8, 2.5, 0.8
"""How many seconds each step of a stop may take: together less than five."""


class NodeService(Service):
    """One node. It runs until it is stopped, whatever its children do."""

    log = Logger()

    def __init__(
        self, reactor: Any, rng: Random, config: NodeConfig, identity: Identity, parts: Parts | None = None
    ) -> None:
        """``parts`` makes what the node is made of."""
        self._reactor = reactor
        self._rng = rng
        self._config = config
        self._identity = identity
        self._parts = parts or Parts(reactor, rng, config, identity)
        self._lan: frozenset[Prefix] = frozenset()
        self._mapper: PortMapper | None = None
        self._own_log = OwnLog(config.log, config.verbose)
        self._pause: Deferred[Any] = succeed(None)
        self._mapping: Deferred[Any] = succeed(None)

    # -- start ------------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Take the lock and begin. Raises BadInput when there is another node, or no peer database."""
        self._own_log.open()
        try:
            self._lock = self._parts.lock()
            try:
                self._trust = self._parts.trust(self._trust_changed)
                self._store = self._parts.store()
            except BaseException:
                self._lock.release()
                raise
        except BadInput as error:
            self.log.critical("{problem}", problem=str(error))
            self._own_log.close()
            raise
        super().startService()
        self._started = self._reactor.seconds()
        self._assemble()
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(lambda failure: self.log.failure("the start failed", failure))

    def _assemble(self) -> None:
        """Make the parts and tell each who wants to hear of it."""
        reactor, rng, config, identity, parts = (
            self._reactor, self._rng, self._config, self._identity, self._parts
        )  # fmt: skip
        self._kernel = parts.kernel()
        self._drain = parts.drain()
        self._babeld = parts.babeld(self._babel_changed, self._kernel.flush_routes)
        self._nudge = Nudge(
            reactor, config.hello, lambda: self._babeld.neighbours, self._subnets, parts.send_to
        )
        self._tunnels = Tunnels(
            reactor,
            rng,
            config,
            identity.prefix,
            self._store,
            parts.connect,
            self._surroundings,
            self._drain,
            self._isolated,
        )
        self._servers = parts.servers(self._served_changed, self._trust.files.welcome)
        self._hearsay = Hearsay(
            reactor, identity.prefix, self._tellings, lambda: self._tunnels.by_tap, self._endpoints_changed
        )
        self._peers: PeerRefresh | None = None
        self._renewal = parts.renewal(self._renewed, self._certificate_holders)
        self._registry = parts.registry(
            self._registry_connected, self._endpoints_changed, self._trust, self._renewal
        )
        self._trust.registry = self._renewal.registry = self._registry
        if self._registry is not None:
            self._peers = PeerRefresh(
                reactor,
                rng,
                self._registry,
                self._store,
                identity.prefix,
                interval=config.peers_db_refresh,
                wanted=config.connection_count,
                endpoints=self._endpoints,
                on_peers=self._tunnels.peers_changed,
            )
        self._status = StatusServer(reactor, config.state / "status.sock", self.status)

    async def _start(self) -> None:
        """In the order in which they need each other; the registry needs nobody."""
        config, identity = self._config, self._identity
        self.log.info(
            "node {prefix} of {network} starts, address {address}",
            prefix=str(identity.prefix),
            network=str(identity.network),
            address=str(identity.network.address(identity.prefix)),
        )
        self._status.startService()
        if self._registry is not None:
            self._registry.startService()
        self._renewal.startService()
        await self._renewal.valid()
        if not self.running:
            return
        self._trust.startService()
        if self._peers is not None:
            self._peers.startService()
        first_answer = self._trust.first_answer()
        await self._prepare_kernel()
        # Nobody who was revoked shall have a tunnel for even a moment, if that can be known.
        await first_answer
        if not self.running:
            return
        self._start_child("babeld", self._babeld)
        for tap, server in self._servers.items():
            self._start_child(f"the openvpn server on {tap}", server)
        self._tunnels.startService()
        self._hearsay.startService()
        if not config.ip:
            self._mapping = Deferred.fromCoroutine(self._map_ports())
            self._mapping.addErrback(lambda failure: failure.trap(CancelledError))
            self._mapping.addErrback(lambda failure: self.log.failure("mapping ports failed", failure))

    def _start_child(self, name: str, child: Service) -> None:
        """Start one; the node lives without it."""
        try:
            child.startService()
        except Exception:
            self.log.failure("{name} cannot be started", name=name)

    async def _prepare_kernel(self) -> None:
        """Our interfaces, our address; without them there is nothing to do but to try again."""
        config, network, prefix = self._config, self._identity.network, self._identity.prefix
        delay = 1.0
        while self.running:
            try:
                await self._kernel.clean()
                await self._drain.clean()
                taps = (*client_taps(config.connection_count), *server_taps(len(config.pp)))
                await self._kernel.add_taps(taps, config.mtu)
                await self._kernel.add_subnet(
                    config.main_interface, network.address(prefix), network.subnet(prefix), network.ip_network
                )
                return
            except CommandFailed as error:
                self.log.error("{error}; next try in {delay:.0f} s", error=str(error), delay=delay)
            self._pause = deferLater(self._reactor, delay * (0.5 + self._rng.random()))
            self._pause.addErrback(lambda failure: failure.trap(CancelledError))
            await self._pause
            delay = min(delay * 2, 60.0)

    async def _map_ports(self) -> None:
        """Ask a gateway to let others reach our servers. That there is none is a normal answer."""
        # Loading the libraries holds everything up for a moment: the first tunnels are worth more.
        await deferLater(self._reactor, MAP_AFTER)
        self._mapper = self._parts.mapper(self._endpoints_changed)
        for port, proto in self._config.pp:
            await self._mapper.map(port, proto)
            self._endpoints_changed()

    # -- stop -------------------------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """Stop everything, also what is only being started; fires when nothing is left, within 5 s."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        """Routes are retracted first, so that others have left us when the tunnels end."""
        self.log.info("node {prefix} stops", prefix=str(self._identity.prefix))
        self._pause.cancel()
        self._mapping.cancel()
        self._nudge.stop()
        self._renewal.stopService()
        self._trust.stopService()
        if self._hearsay.running:
            self._hearsay.stopService()
        if self._peers is not None:
            self._peers.stopService()
        await self._bounded(RETRACT, "the start", self._starting)
        await self._bounded(RETRACT, "babeld", maybeDeferred(self._babeld.stopService))
        ends = [maybeDeferred(self._tunnels.stopService), maybeDeferred(self._status.stopService)]
        ends += [maybeDeferred(server.stopService) for server in self._servers.values()]
        if self._registry is not None:
            ends.append(maybeDeferred(self._registry.stopService))
        if self._mapper is not None:
            ends.append(Deferred.fromCoroutine(self._mapper.close()))
        await self._bounded(END, "a tunnel or a port mapping", DeferredList(ends, consumeErrors=True))
        restores = [Deferred.fromCoroutine(part()) for part in (self._kernel.restore, self._drain.clean)]
        await self._bounded(RESTORE, "the machine's network", gatherResults(restores, consumeErrors=True))
        self._trust.files.close()
        self._store.close()
        self._lock.release()
        self.log.info("node {prefix} has stopped", prefix=str(self._identity.prefix))
        self._own_log.close()

    async def _bounded(self, seconds: float, what: str, done: Deferred[Any]) -> None:
        """Wait for it, but not too long; what fails or hangs does not keep the rest from stopping."""
        began = self._reactor.seconds()
        try:
            await done.addTimeout(seconds, self._reactor)
        except (CancelledError, TimeoutError):
            pass
        except Exception:
            self.log.failure("{what} could not be stopped", what=what)
        if self._reactor.seconds() - began >= seconds:
            self.log.warn("{what} did not stop within {seconds} s", what=what, seconds=seconds)

    # -- who hears of what ------------------------------------------------------------------------------

    def _registry_connected(self) -> None:
        self._renewal.retry()
        self._trust.ask()
        if self._peers is not None:
            self._peers.connected()

    def _renewed(self) -> None:
        self._trust.serial = self._renewal.identity.certificate.serial_number
        if self._registry is not None:
            self._registry.reconnect()

    def _certificate_holders(self) -> list[Callable[[], None]]:
        return [*self._tunnels.holders(), *(server.holder() for server in self._servers.values())]

    def _trust_changed(self, doubtful: frozenset[Prefix]) -> None:
        """Others were revoked: they lose their tunnels with us now."""
        for server in self._servers.values():
            done = Deferred.fromCoroutine(server.dismiss())
            done.addErrback(lambda failure: self.log.failure("a peer cannot be disconnected", failure))
        self._tunnels.cut(doubtful | self._trust.files.nodes())

    def _isolated(self) -> None:
        if self._peers is not None:
            self._peers.isolated()

    def _served_changed(self) -> None:
        self._tunnels.repair()
        self._hearsay.served_changed()

    def _endpoints_changed(self) -> None:
        if self._peers is not None:
            self._peers.endpoints_changed()

    def _babel_changed(self) -> None:
        """New neighbours are asked for their routes; of the routes only who is on the LAN matters here."""
        if not self.running:
            return
        self._nudge.look()
        lan = self._find_lan()
        if lan != self._lan:
            self._lan = lan
            self._tunnels.repair()

    # -- observe ----------------------------------------------------------------------------------------

    def _find_lan(self) -> frozenset[Prefix]:
        """Peers that babel reaches directly over one of the operator's interfaces."""
        network = self._identity.network
        found = (
            network.prefix_of(route.prefix)
            for route in self._babeld.routes
            if route.interface in self._config.interfaces and route.refmetric == 0 and route.metric < INFINITY
        )
        return frozenset(prefix for prefix in found if prefix is not None)

    def _subnets(self) -> list[IPv6Network]:
        """What to ask new neighbours for: those that we are connected to, then those that we know of."""
        served = (peer for server in self._servers.values() for peer in server.served)
        known = (each.prefix for each in self._store.candidates(math.inf, MAX_REQUESTS))
        prefixes = dict.fromkeys((*self._tunnels.peers, *served, *known))
        prefixes.pop(self._identity.prefix, None)
        return [self._identity.network.subnet(prefix) for prefix in prefixes]

    def _tellings(self) -> list[Telling]:
        """Who may be told where it comes from."""
        return [
            (tap, peer, served.address)
            for tap, server in self._servers.items()
            for peer, served in server.served.items()
        ]

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            served=frozenset(peer for server in self._servers.values() for peer in server.served),
            lan=self._lan,
            routes=Counter(
                route.interface
                for route in self._babeld.routes
                if route.installed and route.metric < INFINITY
            ),
            revoked=self._trust.files.nodes(),
            outcast=self._trust.outcast,
        )

    def _endpoints(self) -> tuple[Endpoint, ...] | None:
        """Where we can be reached; None while nobody has told us anything about that."""
        seen = (self._registry.seen if self._registry is not None else None, self._hearsay.address)
        mapped = self._mapper.endpoints if self._mapper is not None else ()
        if not self._config.ip and not mapped and not any(seen):
            return None
        return endpoints_to_declare(
            given=self._config.ip,
            mapped=mapped,
            seen=seen,
            servers=self._config.pp,
            network=self._identity.network,
        )

    def status(self) -> NodeStatus:
        """Everything an operator may want to see, as it is now."""
        network, prefix, registry = self._identity.network, self._identity.prefix, self._registry
        return NodeStatus(
            prefix=str(prefix),
            address=str(network.address(prefix)),
            subnet=str(network.subnet(prefix)),
            network=str(network),
            pid=os.getpid(),
            started=self._started,
            endpoints=format_endpoints(self._endpoints() or ()),
            tunnels=self._tunnels.status(),
            served=tuple(
                ServedStatus(str(peer), served.address, tap)
                for tap, server in self._servers.items()
                for peer, served in server.served.items()
            ),
            neighbours=tuple(
                NeighbourStatus(each.address, each.interface, each.cost) for each in self._babeld.neighbours
            ),
            routes=tuple(
                RouteStatus(str(each.prefix), each.interface, each.metric, each.installed, each.via)
                for each in self._babeld.routes
            ),
            registry=None if registry is None else RegistryStatus(registry.connected, registry.seen),
            peers_known=len(self._store),
        )
