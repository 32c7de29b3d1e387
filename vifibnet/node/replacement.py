"""Replacing openvpn processes that run with what holds no longer: a certificate, an MTU.

They go one after another over a period, each at a random moment of its own part of it, and none before the
last one is replaced and babel had time to use the new tunnel: so no node is without tunnels, however short
the period is. A tap is emptied before its process ends: see node.drain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredLock, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger

SETTLE_AFTER = 4
"""Hello intervals after which packets take the new tunnel: then the next one may go."""

Holder = Callable[[], Deferred[None]]
"""Replaces one process, if it still runs; fires when the old one is gone."""


class Replacement:
    """Replaces all processes that run at a given moment."""

    log = Logger()

    def __init__(
        self, reactor: Any, rng: Random, holders: Callable[[], Iterable[Holder]], hello: Callable[[], float]
    ) -> None:
        """``holders`` gives for each process that runs now a call that replaces it; ``hello`` the longest
        hello interval around, in seconds."""
        self._reactor = reactor
        self._rng = rng
        self._holders = holders
        self._hello = hello
        self._calls: set[IDelayedCall] = set()
        self._pauses: set[Deferred[None]] = set()
        self._turn = DeferredLock()
        self._stopped = False

    def plan(self, first: float, last: float) -> None:
        """Replace every process that runs now, from ``first`` to ``last`` seconds from now, or later."""
        self._calls = {call for call in self._calls if call.active()}
        holders = list(self._holders())
        self._rng.shuffle(holders)
        for place, holder in enumerate(holders):
            when = first + (last - first) * (place + self._rng.random()) / len(holders)
            self._calls.add(self._reactor.callLater(when, self._start, holder))

    def _start(self, holder: Holder) -> None:
        done = Deferred.fromCoroutine(self._replace(holder))
        done.addErrback(lambda failure: failure.trap(CancelledError))
        done.addErrback(lambda failure: self.log.failure("an openvpn cannot be replaced", failure))

    async def _replace(self, holder: Holder) -> None:
        async with self._turn:
            gone = holder() if not self._stopped else succeed(None)
            if not gone.called:
                await gone
                await self._pause(SETTLE_AFTER)

    async def _pause(self, hellos: int) -> None:
        pause: Deferred[None] = deferLater(self._reactor, hellos * self._hello())
        self._pauses.add(pause)
        try:
            await pause
        finally:
            self._pauses.discard(pause)

    def stop(self) -> None:
        """Replace nothing any more."""
        self._stopped = True
        for call in self._calls:
            if call.active():
                call.cancel()
        self._calls.clear()
        for pause in list(self._pauses):
            pause.cancel()
