"""The tunnels: observe, let the model decide, perform. What was performed is observed again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from vifibnet.errors import CommandFailed
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.status import TunnelStatus
from vifibnet.model.tunnels import (
    LAST_RETRY,
    Drop,
    Open,
    Peer,
    Situation,
    Tunnel,
    earliest_try,
    next_try,
    plan,
)
from vifibnet.node.config import NodeConfig
from vifibnet.node.drain import Quiet
from vifibnet.node.taps import client_taps
from vifibnet.store.peers import KnownPeer, PeerStore
from vifibnet.wire.endpoints import format_endpoints

STALE = 24 * 3600.0
"""Seconds after which a peer that the registry did not name again is tried after the others."""

EMPTY_AFTER = 5
"""Hello intervals after which both ends have moved their routes off a tap on which babel is silent."""

ISOLATED_RETRY = 20.0
"""How long a peer is left alone at most, in the mean, while we reach nobody: our end may be broken."""


class Client(Protocol):
    """What OpenVPNClient is to us: one try to reach one peer."""

    up: bool
    since: float
    bytes: int
    remote: Endpoint | None
    ended: Deferred[str]

    def start(self) -> None:
        """Start the process; that it could not be started is a reason in ``ended``, too."""

    async def stop(self) -> None:
        """End the tunnel; returns when the process is gone."""


Connect = Callable[[str, Prefix, Sequence[Endpoint], Callable[[], None]], Client]
"""Makes a client, not started yet: tap, peer, its endpoints, what to call when ``up`` has changed."""


@dataclass(frozen=True)
class Surroundings:
    """What else reaches whom: peers connected to our servers, peers on the LAN, installed routes by tap.

    ``revoked`` nodes are nobody's peers; an ``outcast`` is one of them.
    """

    served: frozenset[Prefix] = frozenset()
    lan: frozenset[Prefix] = frozenset()
    routes: Mapping[str, int] = field(default_factory=dict)
    revoked: frozenset[Prefix] = frozenset()
    outcast: bool = False


@dataclass
class _Link:
    """One client from its start until its process has ended; ``up_at`` is when it came up.

    ``stopping`` from the decision to drop it; ``silenced`` when babel was silenced on the tap for that.
    """

    tap: str
    peer: Prefix
    client: Client
    up_at: float | None = None
    stopping: bool = False
    silenced: bool = False
    emptying: Deferred[None] = field(default_factory=lambda: succeed(None))

    @property
    def remote(self) -> str | None:
        return None if self.client.remote is None else format_endpoints([self.client.remote])


class Tunnels(Service):
    """Keeps up to ``--connection-count`` tunnels; the worst are replaced every ``--tunnel-refresh``."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        config: NodeConfig,
        own: Prefix,
        store: PeerStore,
        connect: Connect,
        observe: Callable[[], Surroundings],
        drain: Quiet,
        on_isolated: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_isolated`` is called by every decision that finds us without any peer."""
        self._reactor = reactor
        self._rng = rng
        self._config = config
        self._own = own
        self._store = store
        self._connect = connect
        self._observe = observe
        self._drain = drain
        self._on_isolated = on_isolated
        self._taps = client_taps(config.connection_count)
        self._links: dict[str, _Link] = {}
        self._died = 0
        # Reading a thousand peers takes some time; None: to be read again.
        self._known: list[KnownPeer] | None = None
        # Waits of an earlier run are void: whoever starts a node again wants it to try.
        self._failed: dict[Prefix, int] = {}
        self._resting: dict[Prefix, float] = {}
        self._soon: IDelayedCall | None = None
        self._later: IDelayedCall | None = None
        self._loop = LoopingCall(self.decide, refresh=True)
        self._loop.clock = reactor

    # -- the service -------------------------------------------------------------------------------

    def startService(self) -> None:
        """Open the first tunnels now."""
        super().startService()
        self.decide()
        # An error in one refresh is logged by the turn itself and does not end the loop.
        self._loop.start(self._config.tunnel_refresh, now=False)

    def stopService(self) -> Deferred[Any]:
        """Decide nothing any more and end all tunnels; fires when their processes are gone."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        for call in (self._soon, self._later):
            if call is not None and call.active():
                call.cancel()
        return DeferredList([self._stop(link) for link in list(self._links.values())])

    def peers_changed(self) -> None:
        """There are other peers in the database: decide now."""
        self._known = None
        self.decide()

    def cut(self, peers: frozenset[Prefix]) -> None:
        """End the tunnels to these peers at once; those who may still be peers are connected to anew."""
        for link in list(self._links.values()):
            if link.peer in peers:
                self.log.info("the tunnel to {peer} is cut", peer=str(link.peer))
                self._stop(link)
        self.decide()

    def holders(self) -> list[Callable[[], None]]:
        """For each tunnel a call that ends it, if it still stands, so that it is opened anew."""

        def end(link: _Link) -> None:
            if self._links.get(link.tap) is link and not link.stopping:
                self.log.info("the tunnel to {peer} is opened anew", peer=str(link.peer))
                self._end(link)

        return [partial(end, link) for link in self._links.values()]

    def repair(self) -> None:
        """Decide again soon: something has changed. Several changes at once make one decision."""
        if self.running and not (self._soon is not None and self._soon.active()):
            self._soon = self._reactor.callLater(0.05 + 0.15 * self._rng.random(), self.decide)

    # -- what others see ---------------------------------------------------------------------------

    @property
    def peers(self) -> frozenset[Prefix]:
        """The peers at the other ends of the tunnels that are up."""
        return frozenset(self.by_tap.values())

    @property
    def by_tap(self) -> dict[str, Prefix]:
        """The same, each with the tap of its tunnel."""
        return {link.tap: link.peer for link in self._links.values() if link.client.up}

    def status(self) -> tuple[TunnelStatus, ...]:
        """All tunnels for the operator's eyes."""
        return tuple(
            TunnelStatus(
                tap=tunnel.tap,
                peer=str(tunnel.peer),
                remote=self._links[tunnel.tap].remote,
                up=tunnel.up,
                since=tunnel.since,
                routes=tunnel.routes,
                traffic=tunnel.traffic,
            )
            for tunnel in self._tunnels(self._observe())
        )

    # -- observe -----------------------------------------------------------------------------------

    def _tunnels(self, around: Surroundings) -> tuple[Tunnel, ...]:
        return tuple(
            Tunnel(
                tap=link.tap,
                peer=link.peer,
                up=link.client.up,
                since=link.client.since,
                routes=around.routes.get(link.tap, 0),
                traffic=link.client.bytes,
                stopping=link.stopping,
            )
            for link in self._links.values()
        )

    def _situation(self, around: Surroundings, refresh: bool) -> Situation:
        now = self._reactor.seconds()
        if self._known is None:
            self._known = self._store.candidates(math.inf)
        return Situation(
            own=self._own,
            now=now,
            tunnels=self._tunnels(around),
            served=around.served,
            lan=around.lan,
            peers=tuple(self._peer(known, now) for known in self._known),
            free_taps=tuple(tap for tap in self._taps if tap not in self._links),
            connection_count=self._config.connection_count,
            refresh_rate=self._config.refresh_rate,
            settle=4 * self._config.hello,
            refresh=refresh,
            died=self._died,
            revoked=around.revoked,
        )

    def _peer(self, known: KnownPeer, now: float) -> Peer:
        """What counts of a peer: when it may be tried, and how likely it is to be there."""
        waits = known.next_try if known.prefix in self._failed else 0.0
        stale = now - known.last_seen > STALE
        return Peer(
            known.prefix, max(waits, self._resting.get(known.prefix, 0.0)), failures=known.failures + stale
        )

    # -- decide ------------------------------------------------------------------------------------

    def decide(self, refresh: bool = False) -> None:
        """Observe, decide, perform. One bad turn is logged; the next one may be better."""
        if not self.running:
            return
        try:
            around = self._observe()
            for action in plan(self._situation(around, refresh), self._rng):
                if isinstance(action, Open):
                    self._open(action)
                else:
                    self._drop(action)
            if refresh:
                self._died = 0
            if self._isolated(around):
                self._on_isolated()
            self._wake_at(earliest_try(self._situation(around, refresh=False)))
        except Exception:
            self.log.failure("a decision about the tunnels failed")

    def _isolated(self, around: Surroundings) -> bool:
        return not (self.peers or around.served or around.lan)

    def _wake_at(self, when: float | None) -> None:
        """Decide again at that time, when somebody may be tried who may not now."""
        if self._later is not None and self._later.active():
            self._later.cancel()
        if when is not None:
            self._later = self._reactor.callLater(max(0.0, when - self._reactor.seconds()), self.repair)

    # -- perform -----------------------------------------------------------------------------------

    def _open(self, action: Open) -> None:
        known = self._store.get(action.peer)
        if known is None:
            return
        link: _Link

        def changed() -> None:
            self._changed(link)

        link = _Link(
            action.tap, action.peer, self._connect(action.tap, action.peer, known.endpoints, changed)
        )
        self._links[action.tap] = link
        self.log.debug("connecting to {peer} over {tap}", peer=str(action.peer), tap=action.tap)
        link.client.start()
        link.client.ended.addCallback(self._ended, link)

    def _drop(self, action: Drop) -> None:
        link = self._links[action.tap]
        self.log.info("dropping the tunnel to {peer}: {reason}", peer=str(action.peer), reason=action.reason)
        if action.rest:
            self._resting[action.peer] = self._reactor.seconds() + self._config.tunnel_refresh
        self._end(link)

    def _end(self, link: _Link) -> None:
        link.stopping = True
        if link.client.up and link.peer not in self._observe().revoked:
            Deferred.fromCoroutine(self._empty_and_stop(link))
        else:
            self._stop(link)

    async def _empty_and_stop(self, link: _Link) -> None:
        """Let both ends move their routes before the tunnel ends, so that no packet is lost."""
        try:
            await self._drain.silence(link.tap)
            link.silenced = True
            link.emptying = deferLater(self._reactor, EMPTY_AFTER * self._config.hello)
            await link.emptying
        except CommandFailed as error:
            self.log.info("{tap} is closed with its routes: {error}", tap=link.tap, error=str(error))
        except CancelledError:
            return
        if self.running:
            self._stop(link)

    def _stop(self, link: _Link) -> Deferred[None]:
        link.stopping = True
        link.emptying.cancel()
        stopped = Deferred.fromCoroutine(link.client.stop())
        return stopped.addErrback(
            lambda failure: self.log.failure("{tap} cannot be stopped", failure, tap=link.tap)
        )

    def _changed(self, link: _Link) -> None:
        """A tunnel has come up (that it is down is said by its end)."""
        if link.client.up and link.up_at is None:
            link.up_at = self._reactor.seconds()
            self._store.succeeded(link.peer, link.up_at)
            self._known = None
            self.log.info("the tunnel to {peer} is up over {tap}", peer=str(link.peer), tap=link.tap)

    def _ended(self, reason: str, link: _Link) -> None:
        """Its process is gone: the tap is free, and unless we wanted that the peer has failed."""
        link.emptying.cancel()
        if not link.stopping:
            self._died += link.up_at is not None
            self._record_failure(link, reason)
        if link.silenced:
            Deferred.fromCoroutine(self._release(link))
        else:
            self._forget(link)

    async def _release(self, link: _Link) -> None:
        """The tap is free when babel can be heard on it again."""
        try:
            await self._drain.release(link.tap)
        except CommandFailed as error:
            self.log.warn("{tap} stays silent: {error}", tap=link.tap, error=str(error))
        self._forget(link)

    def _forget(self, link: _Link) -> None:
        del self._links[link.tap]
        self.repair()

    def _record_failure(self, link: _Link, reason: str) -> None:
        """Leave the peer alone for a time that grows with its failures.

        A tunnel that stood for a while is no failure of the peer; one that comes up and falls again is.
        """
        now = self._reactor.seconds()
        stood = link.up_at is not None and now - link.up_at >= 4 * self._config.hello
        failures = 1 if stood else self._failed.get(link.peer, 0) + 1
        around = self._observe()
        longest = ISOLATED_RETRY if self._isolated(around) and not around.outcast else LAST_RETRY
        self._failed[link.peer] = failures
        self._store.failed(link.peer, next_try(failures, now, self._rng, longest))
        self._known = None
        say = self.log.info if link.up_at is not None or failures == 1 else self.log.debug
        words = "the tunnel to {peer} over {tap} {what}: {reason}"
        what = "ended" if link.up_at is not None else "did not come up"
        say(words, peer=str(link.peer), tap=link.tap, what=what, reason=reason)
