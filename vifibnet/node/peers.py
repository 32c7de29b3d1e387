"""Keeping the peer database fresh, and the registry informed about us."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from vifibnet.errors import RegistryRefusal, RegistryUnreachable
from vifibnet.interfaces import IRegistry
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.store.peers import PeerStore
from vifibnet.wire.endpoints import format_endpoints

FIRST_RETRY = 0.75
"""Seconds before the first retry; each further one comes twice as late."""

REDECLARE = 6 * 3600.0
"""Seconds after which we declare ourselves again at the latest: the registry forgets after a day."""

ISOLATED_FETCH = 10.0
"""Seconds between two questions for peers while we reach nobody."""


class Persistent(Service):
    """Does something every ``interval`` seconds, and again with backoff and jitter until it succeeded.

    ``attempt`` says whether it did. ``hurry`` makes one now, unless one is under way.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, rng: Random, interval: float, attempt: Callable[[], Awaitable[bool]]
    ) -> None:
        """``interval`` also bounds the time between two retries."""
        self._reactor = reactor
        self._rng = rng
        self._interval = interval
        self._attempt = attempt
        self._turn: Deferred[None] | None = None
        self._pause: Deferred[None] | None = None
        self._again = False
        self._loop = LoopingCall(self._start_turn)
        self._loop.clock = reactor

    def startService(self) -> None:
        """The first attempt is made now."""
        super().startService()
        self._loop.start(self._interval)

    @property
    def interval(self) -> float:
        """Seconds between two attempts; another one holds from now on."""
        return self._interval

    @interval.setter
    def interval(self, seconds: float) -> None:
        changed, self._interval = seconds != self._interval, seconds
        if changed and self._loop.running:
            self._loop.stop()
            self._loop.start(seconds, now=False)

    def stopService(self) -> None:
        """No attempt any more; one that is under way is given up."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        if self._turn is not None:
            self._turn.cancel()

    def hurry(self) -> None:
        """Something has changed: attempt it now, or once more after the attempt under way."""
        if not self.running:
            return
        if self._turn is None:
            self._start_turn()
        elif self._pause is not None:
            self._pause.cancel()
        else:
            self._again = True

    def retry(self) -> None:
        """What failed may succeed now: do not wait any longer. Nothing if the last attempt succeeded."""
        if self._pause is not None:
            self._pause.cancel()

    def _start_turn(self) -> None:
        if self._turn is None:
            self._turn = Deferred.fromCoroutine(self._until_done())
            self._turn.addErrback(lambda failure: failure.trap(CancelledError))
            if self._turn is not None and self._turn.called:
                self._turn = None

    async def _until_done(self) -> None:
        delay = min(FIRST_RETRY, self._interval)
        try:
            while self.running:
                self._again = False
                done = await self._guarded()
                if self._again:
                    continue
                if done:
                    return
                await self._sleep(delay * (0.5 + self._rng.random()))
                delay = min(delay * 2, self._interval)
        finally:
            self._turn = None

    async def _guarded(self) -> bool:
        try:
            return await self._attempt()
        except CancelledError:
            raise
        except (RegistryUnreachable, RegistryRefusal) as error:
            self.log.debug("{error}", error=str(error))
        except Exception:
            self.log.failure("an attempt failed")
        return False

    async def _sleep(self, seconds: float) -> None:
        """Wait; a hurry ends it early, the end of the service the whole turn."""
        self._pause = deferLater(self._reactor, seconds)
        try:
            await self._pause
        except CancelledError:
            if not self.running:
                raise
        finally:
            self._pause = None


class PeerRefresh(MultiService):
    """Asks the registry for peers every ``--peers-db-refresh``, and tells it where we can be reached."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        registry: IRegistry,
        store: PeerStore,
        own: Prefix,
        *,
        interval: float,
        wanted: int,
        endpoints: Callable[[], tuple[Endpoint, ...] | None],
        on_peers: Callable[[], None],
    ) -> None:
        """``wanted`` peers (it may change) are enough not to ask again soon; ``endpoints`` says where we can
        be reached, or None while that is not known; ``on_peers`` is called after every answer."""
        super().__init__()
        self._reactor = reactor
        self._registry = registry
        self._store = store
        self._own = own
        self.wanted = wanted
        self._endpoints = endpoints
        self._on_peers = on_peers
        self._declared: tuple[Endpoint, ...] | None = None
        self._asked = float("-inf")
        self._fetching = Persistent(reactor, rng, interval, self._fetch)
        self._declaring = Persistent(reactor, rng, min(interval, REDECLARE), self._declare)
        self._fetching.setServiceParent(self)
        self._declaring.setServiceParent(self)

    @property
    def interval(self) -> float:
        """Seconds between two questions to the registry; it may change."""
        return self._fetching.interval

    @interval.setter
    def interval(self, seconds: float) -> None:
        self._fetching.interval = seconds
        self._declaring.interval = min(seconds, REDECLARE)

    def connected(self) -> None:
        """The registry answers again: what had to wait for that need not wait any longer."""
        self._fetching.retry()
        self._declaring.retry()

    def endpoints_changed(self) -> None:
        """Where we can be reached may have changed: say so if it has."""
        if self._endpoints() not in (None, self._declared):
            self._declaring.hurry()

    def isolated(self) -> None:
        """We reach nobody: what we know of the peers may be out of date."""
        if self._reactor.seconds() - self._asked > ISOLATED_FETCH:
            self._fetching.hurry()

    async def _fetch(self) -> bool:
        """Ask for peers; satisfied when we know as many as we want."""
        self._asked = self._reactor.seconds()
        answer = await self._registry.peers(min(999, max(50, 3 * self.wanted)))
        try:
            self._store.update([peer for peer in answer if peer[0] != self._own], self._reactor.seconds())
        except sqlite3.Error as error:
            self.log.warn("what the registry said of peers cannot be remembered: {error}", error=str(error))
            return False
        self.log.debug("the registry named {count} peers", count=len(answer))
        self._on_peers()
        return bool(answer) and len(self._store) >= self.wanted

    async def _declare(self) -> bool:
        """Say where we are, as far as that is known."""
        endpoints = self._endpoints()
        if endpoints is None:
            return True
        await self._registry.declare(endpoints)
        if endpoints != self._declared:
            self._declared = endpoints
            text = format_endpoints(endpoints)
            self.log.info("declared {endpoints}", endpoints=text or "that nobody can connect to us")
        return True
