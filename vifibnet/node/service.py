"""A node put together: what starts when, what stops when, and who hears of whose changes."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from vifibnet.errors import BadInput
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.status import NodeStatus, RegistryStatus
from vifibnet.model.ways import Health
from vifibnet.node.changes import Changes
from vifibnet.node.client import Client
from vifibnet.node.config import NodeConfig
from vifibnet.node.control import ControlServer
from vifibnet.node.drain import Emptying
from vifibnet.node.draining import Draining
from vifibnet.node.ending import bounded
from vifibnet.node.ground import Ground
from vifibnet.node.hearsay import Hearsay
from vifibnet.node.holdings import Holdings
from vifibnet.node.ownlog import OwnLog
from vifibnet.node.parts import Parts
from vifibnet.node.peertalk import Sights
from vifibnet.node.replacement import Holder, Replacement
from vifibnet.node.status import FILE, StatusServer
from vifibnet.node.taps import SPARE, Taps
from vifibnet.node.tunnels import Tunnels
from vifibnet.node.view import View
from vifibnet.node.waking import Waking
from vifibnet.node.whereabouts import Whereabouts
from vifibnet.pki.certificates import Identity
from vifibnet.wire.endpoints import format_endpoints

START, LEAVE, RETRACT, END, RESTORE = 0.3, 0.9, 0.8, 2.0, 0.8
"""How many seconds each step of a stop may take: together less than five."""


class NodeService(Service):
    """One node. It runs until it is stopped, whatever its children do; ``give_up`` is called if it cannot."""

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
        self._own_log = OwnLog(config.log, config.verbose)
        self.give_up: Callable[[], None] = lambda: None

    # -- start ------------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Take the lock and begin. Raises BadInput when there is another node, or no peer database, or one of
        our ports is taken."""
        self._own_log.open()
        try:
            self._prepare()
        except BadInput as error:
            self.log.critical("{problem}", problem=str(error))
            self._own_log.close()
            raise
        super().startService()
        self._started = self._reactor.seconds()
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._start_failed)

    def _prepare(self) -> None:
        """Do all that takes a while as long as what a killed node has left may carry traffic."""
        held = self._held = Holdings(self._parts, self._trust_changed, self._parameters_changed)
        try:
            self._authorities, self._trust = held.authorities, held.trust
            self._parameters, self._store = held.parameters, held.store
            self._assemble()
            self._parts.vacate()
        except BaseException:
            held.release()
            raise

    def _assemble(self) -> None:
        """Make the parts and tell each who wants to hear of it."""
        reactor, rng, identity, parts = self._reactor, self._rng, self._identity, self._parts
        config = self._parameters.config
        parts.change(config)
        self._kernel = parts.kernel()
        self._taps = Taps(self._kernel, len(config.pp), SPARE)
        self._ground = Ground(reactor, rng, identity, self._kernel, self._taps)
        all_taps = self._taps.with_servers(config.connection_count)
        self._babeld = parts.babeld(
            all_taps,
            self._babel_changed,
            self._kernel,
            lambda: self._view.direct(self._tunnels.by_tap),
            self._health,
        )
        self._homes = parts.homes(self._kernel)
        self._servers = parts.servers(self._served_changed, self._trust.files.welcome, self._fit, self._homes)
        self._view = View(config, identity, self._trust, self._babeld, self._servers)
        self._heartbeats = parts.heartbeats(
            lambda: self._view.partners(self._tunnels.by_tap),
            self._babeld,
            self._hearts_changed,
            self._woken,
        )
        for server in self._servers.values():
            server.spared, server.calm = self._babeld.spares, self._heartbeats.calm
        self._babeld.on_neighbour, self._babeld.leisure = self._heartbeats.prompt, self._heartbeats.patience
        self._babeld.on_learnt = self._babel_changed
        self._homes.on_moved = self._heartbeats.show
        self._tunnels = Tunnels(
            reactor,
            rng,
            config,
            identity.prefix,
            self._store,
            self._connect,
            self._view.surroundings,
            self._heartbeats,
            self._isolated,
            self._failed,
            self._silent,
        )
        self._waking = Waking(reactor, self._tunnels, self._servers, self._silent)
        self._replacement = Replacement(reactor, rng, self._holders, lambda: self._changes.patience)
        self._changes = Changes(
            reactor, rng, config, self._taps, self._tell_babeld, self._tell_others, self._replacement.plan
        )
        self._assemble_talkers(config)

    def _assemble_talkers(self, config: NodeConfig) -> None:
        """Make the parts that talk with the registry, the peers and the operator."""
        reactor, identity, parts = self._reactor, self._identity, self._parts
        self._renewal = parts.renewal(self._authorities, self._renewed, self._replacement.plan)
        self._documents = parts.documents([self._authorities, self._trust, self._parameters])
        self._hearsay = Hearsay(
            reactor,
            identity.prefix,
            self._view.tellings,
            lambda: self._tunnels.by_tap,
            self._endpoints_changed,
            self._documents,
        )
        self._registry = parts.registry(
            self._registry_connected,
            self._endpoints_changed,
            self._documents.ask,
            self._trust,
            self._renewal,
            self._authorities,
        )
        self._documents.registry = self._renewal.registry = self._registry
        self._where = Whereabouts(
            reactor, config, identity.network, parts.mapper, self._seen, self._endpoints_changed
        )
        sights = Sights(
            self._where.endpoints,
            lambda: self._tunnels.peers,
            self._view.beside,
            self._trust.files.nodes,
            lambda: self._changes.config.connection_count,
            lambda: self._registry is not None and self._registry.connected,
        )
        self._talk = parts.talk(
            self._store, self._trust, self._renewal, self._authorities, sights, self._tunnels.peers_changed
        )
        self._peers = parts.peers(
            self._registry, self._store, self._where.endpoints, self._tunnels.peers_changed
        )
        self._status = StatusServer(reactor, config.state / FILE, self.status)
        self._draining = Draining(
            reactor,
            config.state,
            self._heartbeats,
            lambda: self._view.left(self._tunnels.by_tap, self._heartbeats.busy()),
            self._tunnels,
        )
        self._control = ControlServer(reactor, config.state, self._draining)

    async def _start(self) -> None:
        """In the order in which they need each other; the registry needs nobody."""
        identity = self._identity
        self.log.info(
            "node {prefix} of {network} starts, address {address}",
            prefix=str(identity.prefix),
            network=str(identity.network),
            address=str(identity.network.address(identity.prefix)),
        )
        self._status.startService()
        self._draining.remember()
        self._control.startService()
        if self._registry is not None:
            self._registry.startService()
        self._renewal.startService()
        await self._renewal.valid()
        if not self.running:
            return
        self._trust.look()
        self._documents.startService()
        if self._peers is not None:
            self._peers.startService()
        first_answer = self._documents.first_answer()
        knows_homes = Deferred.fromCoroutine(self._homes.begin(self._servers.values(), self._heartbeats))
        await self._ground.make(lambda: self._changes.config)
        await knows_homes
        # Nobody who was revoked shall have a tunnel for even a moment, if that can be known.
        await first_answer
        await self._changes.begin()
        if not self.running:
            return
        self._start_child("babeld", self._babeld)
        for tap, server in self._servers.items():
            self._start_child(f"the openvpn server on {tap}", server)
        self._tunnels.startService()
        self._heartbeats.startService()
        self._hearsay.startService()
        self._talk.startService()
        self._where.start()

    def _start_failed(self, failure: Failure) -> None:
        """A process that does nothing would keep whoever watches over it from starting another."""
        self.log.failure("the start failed", failure)
        if self.running:
            self.give_up()

    def _start_child(self, name: str, child: Service) -> None:
        """Start one; the node lives without it."""
        try:
            child.startService()
        except Exception:
            self.log.failure("{name} cannot be started", name=name)

    def obey(self, config: NodeConfig) -> None:
        """The command line says this now, and nothing that takes another start (see node.reload)."""
        if self.running:
            self._changes.follow(self._parameters.give(config), roll=0.0)

    # -- stop -------------------------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """Stop everything, also what is only being started; fires when nothing is left, within 5 s."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        """Others leave us first, then routes are retracted, then the tunnels end."""
        self.log.info("node {prefix} stops", prefix=str(self._identity.prefix))
        self._ground.stop()
        self._where.stop()
        self._changes.stop()
        self._replacement.stop()
        self._waking.stop()
        self._homes.stopService()
        self._renewal.stopService()
        self._documents.stopService()
        if self._hearsay.running:
            self._hearsay.stopService()
        if self._peers is not None:
            self._peers.stopService()
        within = self._reactor, self.log
        await bounded(*within, START, "the start", self._starting)
        await Emptying(self._reactor, self._heartbeats, None).empty(LEAVE)
        await bounded(*within, RETRACT, "babeld", maybeDeferred(self._babeld.stopService))
        self._heartbeats.stopService()
        parts = (self._tunnels, self._status, self._control)
        ends = [maybeDeferred(part.stopService) for part in parts]
        ends += [maybeDeferred(server.stopService) for server in self._servers.values()]
        if self._registry is not None:
            ends.append(maybeDeferred(self._registry.stopService))
        ends += [Deferred.fromCoroutine(self._where.close()), self._talk.stopService()]
        await bounded(*within, END, "a tunnel or a port mapping", DeferredList(ends, consumeErrors=True))
        restored = Deferred.fromCoroutine(self._kernel.restore())
        await bounded(*within, RESTORE, "the machine's network", restored)
        self._held.release()
        self.log.info("node {prefix} has stopped", prefix=str(self._identity.prefix))
        self._own_log.close()

    # -- who hears of what ------------------------------------------------------------------------------

    def _registry_connected(self) -> None:
        self._renewal.retry()
        self._documents.ask()
        if self._peers is not None:
            self._peers.connected()

    def _renewed(self) -> None:
        self._trust.serial = self._renewal.identity.certificate.serial_number
        if self._registry is not None:
            self._registry.reconnect()

    def _holders(self) -> list[Holder]:
        """What replaces each openvpn process that runs now, when its tap is empty."""
        servers = [server.holder(self._heartbeats) for server in self._servers.values()]
        return [*self._tunnels.holders(), *servers]

    def _health(self, tap: str, address: str) -> Health:
        return self._heartbeats.health(tap, address)

    def _silent(self, tap: str, peer: Prefix, since: float) -> float | None:
        return self._heartbeats.silent(tap, peer.link_local, since)

    def _woken(self) -> None:
        self._waking.woken()

    def _hearts_changed(self) -> None:
        self._babeld.look()
        self._tunnels.repair()

    def _tell_babeld(self, config: NodeConfig, taps: Sequence[str]) -> Awaitable[None]:
        return self._babeld.change(self._parts.babeld_settings(config, taps))

    def _tell_others(self, config: NodeConfig, taps: Sequence[str]) -> None:
        self._parts.change(config)
        if self._registry is not None:
            self._registry.move(config.registry)
        for server in self._servers.values():
            server.change(self._parts.openvpn)
        if self._peers is not None:
            self._peers.wanted = config.connection_count
            self._peers.interval = config.peers_db_refresh
        self._heartbeats.interval, self._heartbeats.hello = config.heartbeat, config.hello
        self._where.change(config)
        self._renewal.change(config)
        self._own_log.change(config.verbose)
        if self._view.change(config):
            self._tunnels.repair()
        self._tunnels.change(config, taps)

    async def _fit(self, tap: str) -> None:
        """An openvpn is about to hold this tap."""
        await self._taps.fit(tap, self._changes.config.mtu)

    def _connect(
        self, tap: str, peer: Prefix, endpoints: Sequence[Endpoint], on_change: Callable[[], None]
    ) -> Client:
        def changed() -> None:
            on_change()
            self._ends_changed()

        fitted = Deferred.fromCoroutine(self._fit(tap))
        fitted.addErrback(lambda failure: self.log.failure("{tap} cannot be fitted", failure, tap=tap))
        return self._parts.connect(tap, peer, endpoints, changed)

    def _parameters_changed(self, config: NodeConfig) -> None:
        self._changes.follow(config)

    def _trust_changed(self, doubtful: frozenset[Prefix]) -> None:
        """Others were revoked: they lose their tunnels with us now."""
        for server in self._servers.values():
            done = Deferred.fromCoroutine(server.dismiss())
            done.addErrback(lambda failure: self.log.failure("a peer cannot be disconnected", failure))
        self._tunnels.cut(doubtful | self._trust.files.nodes())

    def _isolated(self) -> None:
        if self._peers is not None:
            self._peers.isolated()

    def _failed(self, peer: Prefix) -> None:
        self._talk.failed(peer)

    def _served_changed(self) -> None:
        self._tunnels.repair()
        self._hearsay.served_changed()
        self._ends_changed()

    def _ends_changed(self) -> None:
        """Others are at the other ends of the tunnels."""
        self._heartbeats.look()
        self._babeld.look()
        self._talk.look()

    def _endpoints_changed(self) -> None:
        self._talk.look()
        if self._peers is not None:
            self._peers.endpoints_changed()

    def _babel_changed(self) -> None:
        """Of the routes only who is on the LAN matters here."""
        if self.running and self._view.look():
            self._tunnels.repair()

    # -- observe ----------------------------------------------------------------------------------------

    def _seen(self) -> tuple[str | None, ...]:
        """The addresses that others see us come from."""
        return (self._registry.seen if self._registry is not None else None, self._hearsay.address)

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
            now=self._reactor.seconds(),
            endpoints=format_endpoints(self._where.endpoints() or ()),
            tunnels=self._tunnels.status(),
            served=self._view.served(),
            neighbours=self._view.neighbours(),
            routes=self._view.routes(),
            registry=None
            if registry is None
            else RegistryStatus(registry.connected, registry.since, registry.seen),
            peers_known=len(self._store),
            certificate_expires=self._renewal.identity.certificate.not_valid_after_utc.timestamp(),
            authority_expires=self._authorities.known()[0].end.timestamp(),
            parameters=self._parameters.status(),
            drained=self._draining.status(),
            children=self._view.children(),
        )
