"""Moving all routes off a tap before its tunnel ends, so that no packet is lost.

A tunnel that is closed while it carries routes loses packets until both ends have noticed. One that has
become very expensive at both ends loses none: packets go on taking it until babel has something better.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger

PATIENCE = 10.0
"""Seconds after which a tunnel ends even if something still goes over it. babel may have to ask the far end
of a route for permission to use another, and does not hurry when its hello interval is long."""

LOOK = 0.05
"""Seconds between two looks."""

UNDERWAY = 0.1
"""Seconds that packets may be on the way when the last route has moved."""

LAST_WORD = 0.02
"""Seconds that it takes to tell the other end that the tunnel is gone."""


class Leaving(Protocol):
    """What Heartbeats is to us. None stands for all taps."""

    @property
    def works(self) -> bool:
        """Whether anybody is told anything."""

    def leave(self, tap: str | None = None) -> None:
        """Have both ends move their routes."""

    def stay(self, tap: str | None = None) -> None:
        """Take that back."""

    def empty(self, tap: str | None = None) -> bool:
        """Whether they have."""

    def end(self, tap: str | None = None) -> None:
        """Have nobody use it any more."""


class Emptying:
    """What is done to one tap (or all, for None) before its openvpn ends, and taken back after."""

    log = Logger()

    def __init__(self, reactor: Any, taps: Leaving, tap: str | None) -> None:
        """Nothing is done yet."""
        self._reactor = reactor
        self._taps = taps
        self._tap = tap
        self._left = self.cancelled = False
        self._waiting: Deferred[None] = succeed(None)

    async def empty(self, patience: float = PATIENCE, needed: Callable[[], object] | None = None) -> bool:
        """Let both ends move their routes; at most for ``patience`` seconds. False if it was cancelled.

        With ``needed``, which tells then whether anything has no other way, nothing ends that is: leaving it
        is taken back, and that is False, too.
        """
        began = self._reactor.seconds()
        self._left = True
        self._taps.leave(self._tap)
        if self._taps.empty(self._tap):
            # Nobody is at the other end, or has been for long.
            self._taps.end(self._tap)
            return not self.cancelled
        try:
            calm = 0
            # babeld may come back to the tunnel for a moment, and then need another to leave it again.
            while calm <= UNDERWAY / LOOK and self._reactor.seconds() - began <= patience:
                calm = calm + 1 if self._taps.empty(self._tap) else 0
                await self._wait(LOOK)
            emptied = calm > UNDERWAY / LOOK
            if needed is not None and (not emptied or needed()):
                self.release()
                return False
            if not emptied:
                self.log.info("{tap} is closed with its routes", tap=self._tap or "the last tunnel")
            self._taps.end(self._tap)
            await self._wait(LAST_WORD)
        except CancelledError:
            pass
        return not self.cancelled

    async def wait_for(self, fulfilled: Callable[[], bool], patience: float) -> None:
        """Before that, wait for something, at most so long, or until this is cancelled."""
        until = self._reactor.seconds() + patience
        with suppress(CancelledError):
            while not fulfilled() and self._reactor.seconds() < until:
                await self._wait(LOOK)

    async def _wait(self, seconds: float) -> None:
        if self.cancelled:
            raise CancelledError
        self._waiting = deferLater(self._reactor, seconds)
        await self._waiting

    def cancel(self) -> None:
        """There is nothing to wait for any more."""
        self.cancelled = True
        self._waiting.cancel()

    def release(self) -> None:
        """The tap is as good as any again."""
        if self._left:
            self._left = False
            self._taps.stay(self._tap)
