"""The tunnels: observe, let the model decide, perform. What was performed is observed again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from vifibnet.model.addresses import Prefix
from vifibnet.model.silence import ANSWERS, SILENCE
from vifibnet.model.status import TunnelStatus
from vifibnet.model.tunnels import Drop, Open, Situation, Tunnel, next_look, next_refresh, plan
from vifibnet.node.client import Connect, Silent
from vifibnet.node.config import NodeConfig
from vifibnet.node.drain import Emptying, Leaving
from vifibnet.node.link import Link
from vifibnet.node.taps import SPARE, client_taps
from vifibnet.node.tries import Tries
from vifibnet.node.view import Surroundings
from vifibnet.store.peers import PeerStore


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
        leaving: Leaving,
        on_isolated: Callable[[], None] = lambda: None,
        on_failed: Callable[[Prefix], None] = lambda _: None,
        silent: Silent = lambda *_: None,
    ) -> None:
        """``on_isolated`` is called by every decision that finds us without any peer, ``on_failed`` when no
        endpoint of a peer was any good; ``repair`` is to be called when what ``silent`` says has changed."""
        self._reactor = reactor
        self._rng = rng
        self._config = config
        self._own = own
        self._store = store
        self._connect = connect
        self._observe = observe
        self._leaving = leaving
        self._on_isolated = on_isolated
        self._on_failed = on_failed
        self._silent = silent
        self._woken = -inf
        self._taps = client_taps(config.connection_count + SPARE)
        self._links: dict[str, Link] = {}
        self._died = 0
        self._tries = Tries(store, rng)
        self._unrest = 0.0
        self._soon: IDelayedCall | None = None
        self._later: IDelayedCall | None = None
        self._next_refresh: IDelayedCall | None = None
        self.drained = False
        """While it is true, tunnels that stand are not replaced by others: nobody shall notice any of it."""

    # -- the service -------------------------------------------------------------------------------

    def startService(self) -> None:
        """Open the first tunnels now."""
        super().startService()
        self.decide()
        self._unrest = self._reactor.seconds()
        self._next_refresh = self._reactor.callLater(self._until_refresh(), self._refresh)

    def stopService(self) -> Deferred[Any]:
        """Decide nothing any more and end all tunnels; fires when their processes are gone."""
        super().stopService()
        for call in (self._soon, self._later, self._next_refresh):
            if call is not None and call.active():
                call.cancel()
        return DeferredList([self._stop(link) for link in list(self._links.values())])

    def change(self, config: NodeConfig, taps: Sequence[str]) -> None:
        """Obey another config, over the taps that there are now; what is not wanted any more ends."""
        before, self._config, self._taps = self._config, config, tuple(taps)
        call = self._next_refresh if self.running else None
        if call is not None and config.tunnel_refresh != before.tunnel_refresh:
            # All nodes hear of it at the same time, and shall not refresh at the same time ever after.
            call.reset(self._until_refresh() * self._rng.random())
        self.repair()

    def peers_changed(self) -> None:
        """There are other peers in the database: decide now."""
        self._tries.changed()
        self.decide()

    def cut(self, peers: frozenset[Prefix]) -> None:
        """End the tunnels to these peers at once; those who may still be peers are connected to anew."""
        for link in list(self._links.values()):
            if link.peer in peers:
                self.log.info("the tunnel to {peer} is cut", peer=str(link.peer))
                self._stop(link)
        self.decide()

    def holders(self) -> list[Callable[[], Deferred[None]]]:
        """For each tunnel a call that ends it, if it still stands, so that it is opened anew; what it returns
        fires when its tap is free."""

        def end(link: Link) -> Deferred[None]:
            if self._links.get(link.tap) is not link:
                return succeed(None)
            link.forced = True
            if not link.stopping:
                self.log.info("the tunnel to {peer} is opened anew", peer=str(link.peer))
                self._end(link)
            return link.gone

        return [partial(end, link) for link in self._links.values()]

    def woken(self) -> None:
        """This machine has slept. Who failed before it may be there now; who does not answer soon has given
        us up, and others are connected to meanwhile."""
        self._woken = self._reactor.seconds()
        self._tries.forgive()
        self.decide()

    def repair(self) -> None:
        """Decide again soon: something has changed. Several changes at once make one decision."""
        if self.running and not (self._soon is not None and self._soon.active()):
            self._soon = self._reactor.callLater(0.02 + 0.03 * self._rng.random(), self.decide)

    # -- what others see ---------------------------------------------------------------------------

    @property
    def peers(self) -> frozenset[Prefix]:
        """The peers at the other ends of the tunnels that are up."""
        return frozenset(self.by_tap.values())

    @property
    def by_tap(self) -> dict[str, Prefix]:
        """The same, each with the tap of its tunnel. One that came up after it was told to end is none."""
        links = self._links.values()
        return {link.tap: link.peer for link in links if link.client.up and link.up_at is not None}

    def status(self) -> tuple[TunnelStatus, ...]:
        """All tunnels for the operator's eyes."""
        routes = self._observe().routes
        return tuple(link.status(routes.get(tap, 0)) for tap, link in self._links.items())

    # -- observe -----------------------------------------------------------------------------------

    def _tunnels(self, around: Surroundings) -> tuple[Tunnel, ...]:
        return tuple(
            link.observed(
                around.routes.get(tap, 0),
                around.rtt.get(tap),
                self._tries.failures(link.peer),
                None if link.up_at is None else self._silent(tap, link.peer, link.up_at),
            )
            for tap, link in self._links.items()
        )

    def _situation(self, around: Surroundings, refresh: bool) -> Situation:
        now = self._reactor.seconds()
        # Going through all routes takes time in a large network: only where something may be dropped.
        reached = any(link.peer in around.served or link.peer in around.lan for link in self._links.values())
        surplus = len(self._links) > self._config.connection_count
        return Situation(
            own=self._own,
            now=now,
            tunnels=self._tunnels(around),
            served=around.served,
            lan=around.lan,
            peers=self._tries.peers(now),
            free_taps=tuple(tap for tap in self._taps if tap not in self._links),
            connection_count=self._config.connection_count,
            refresh_rate=self._config.refresh_rate,
            settle=4 * self._config.hello,
            interval=self._config.tunnel_refresh,
            refresh=refresh,
            died=self._died,
            refused=self._tries.refused,
            revoked=around.revoked,
            destinations=around.destinations() if refresh or reached or surplus else frozenset(),
            woken=self._woken,
        )

    # -- decide ------------------------------------------------------------------------------------

    def _until_refresh(self) -> float:
        now = self._reactor.seconds()
        return next_refresh(now, self._unrest, self._config.tunnel_refresh, self._rng) - now

    def _refresh(self) -> None:
        self._next_refresh = self._reactor.callLater(self._until_refresh(), self._refresh)
        self.decide(refresh=not self.drained)

    def _lost(self) -> None:
        """A tunnel ended by itself. When most are gone, refreshes come fast for a while."""
        self._died += 1
        if 2 * len(self.by_tap) >= self._config.connection_count:
            return
        self._unrest = self._reactor.seconds()
        soon, call = self._until_refresh(), self._next_refresh
        if self.running and call is not None and call.getTime() > self._unrest + soon:
            call.reset(soon)

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
            self._wake_at(next_look(self._situation(around, refresh=False)))
        except Exception:
            self.log.failure("a decision about the tunnels failed")

    def _isolated(self, around: Surroundings) -> bool:
        return not (self.peers or around.served or around.lan)

    def _wake_at(self, when: float | None) -> None:
        """Decide again at that time."""
        if self._later is not None and self._later.active():
            self._later.cancel()
        if when is not None:
            self._later = self._reactor.callLater(max(0.0, when - self._reactor.seconds()), self.decide)

    # -- perform -----------------------------------------------------------------------------------

    def _open(self, action: Open) -> None:
        known = self._store.get(action.peer)
        if known is None:
            return
        link: Link

        def changed() -> None:
            self._changed(link)

        client = self._connect(action.tap, action.peer, known.endpoints, changed)
        emptying = Emptying(self._reactor, self._leaving, action.tap)
        link = Link(action.tap, action.peer, client, emptying, action.reason)
        self._links[action.tap] = link
        words = "connecting to {peer} over {tap}, {reason}"
        self.log.debug(words, peer=str(action.peer), tap=action.tap, reason=action.reason)
        link.client.start()
        link.client.ended.addCallback(self._ended, link)

    def _drop(self, action: Drop) -> None:
        link = self._links[action.tap]
        self.log.info("dropping the tunnel to {peer}: {reason}", peer=str(action.peer), reason=action.reason)
        link.drop(action)
        if action.dead:
            # First what must not fail to happen.
            self._stop(link, farewell=False)
            if self._reactor.seconds() > self._woken + ANSWERS + SILENCE:
                self._lost()
                self._fail(link)
            return
        # Without heartbeats nothing moves, and all tunnels would seem to be needed.
        self._end(link, spare=self._leaving.works)

    def _end(self, link: Link, *, spare: bool = False) -> None:
        """End it; with ``spare`` unless it turns out to be needed."""
        link.stopping = True
        if link.client.up and link.peer not in self._observe().revoked:
            done = Deferred.fromCoroutine(self._empty_and_stop(link, spare=spare))
            done.addErrback(
                lambda failure: self.log.failure("{tap} cannot be emptied", failure, tap=link.tap)
            )
        else:
            self._stop(link)

    async def _empty_and_stop(self, link: Link, *, spare: bool) -> None:
        """Let both ends move their routes before the tunnel ends, so that no packet is lost."""
        needed = partial(self._carried, link.tap) if spare else None
        emptied = await link.emptying.empty(needed=needed)
        if not self.running or link.emptying.cancelled:
            return
        if emptied:
            self._stop(link)
        elif link.forced:
            await self._empty_and_stop(link, spare=False)
        else:
            # What its neighbours announced led back over us, as is seen now.
            link.stay(self._carried(link.tap), self._reactor.seconds())
            self.log.info("the tunnel to {peer} stays: {reason}", peer=str(link.peer), reason=link.reason)
            self.repair()

    def _carried(self, tap: str) -> int:
        return self._observe().routes.get(tap, 0)

    def _stop(self, link: Link, *, farewell: bool = True) -> Deferred[None]:
        link.stopping = True
        link.emptying.cancel()
        stopped = Deferred.fromCoroutine(link.client.stop(farewell=farewell))
        # Nobody waits for it any longer: it is killed then.
        stopped.addErrback(lambda failure: failure.trap(CancelledError))
        return stopped.addErrback(
            lambda failure: self.log.failure("{tap} cannot be stopped", failure, tap=link.tap)
        )

    def _changed(self, link: Link) -> None:
        """A tunnel has come up (that it is down is said by its end)."""
        if link.client.up and link.up_at is None and not link.stopping:
            link.up_at = self._reactor.seconds()
            self._tries.came_up(link.peer, link.up_at)
            self.repair()
            words = "the tunnel to {peer} is up over {tap}, {reason}"
            self.log.info(words, peer=str(link.peer), tap=link.tap, reason=link.reason)

    def _ended(self, reason: str, link: Link) -> None:
        """Its process is gone: the tap is free, and unless we wanted that the peer has failed."""
        link.emptying.cancel()
        try:
            if not link.stopping:
                self._learn(link, reason)
        except Exception:
            self.log.failure("nothing is learned from the end of {tap}", tap=link.tap)
        link.emptying.release()
        if link.rest:
            self._tries.rest(link.peer, self._reactor.seconds() + self._config.tunnel_refresh)
        del self._links[link.tap]
        link.gone.callback(None)
        self.repair()

    def _learn(self, link: Link, reason: str) -> None:
        """A tunnel has ended that we did not end."""
        if link.client.full:
            self._tries.was_full(link.peer, self._reactor.seconds())
            self.log.info("{peer} has no place for us", peer=str(link.peer))
        else:
            if link.up_at is not None:
                self._lost()
            self._record_failure(link, reason)

    def _record_failure(self, link: Link, reason: str) -> None:
        failures = self._fail(link)
        say = self.log.info if link.up_at is not None or failures == 1 else self.log.debug
        words = "the tunnel to {peer} over {tap} {what}: {reason}"
        what = "ended" if link.up_at is not None else "did not come up"
        say(words, peer=str(link.peer), tap=link.tap, what=what, reason=reason)

    def _fail(self, link: Link) -> int:
        """Its peer has failed once more; returns how often it has in a row."""
        now = self._reactor.seconds()
        stood = link.up_at is not None and now - link.up_at >= 4 * self._config.hello
        around = self._observe()
        isolated = self._isolated(around) and not around.outcast
        failures = self._tries.failed(link.peer, now, stood=stood, isolated=isolated)
        self._on_failed(link.peer)
        return failures
