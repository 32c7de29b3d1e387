"""Waiting for the end of something that may hang."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.logger import Logger


async def bounded(reactor: Any, log: Logger, seconds: float, what: str, done: Deferred[Any]) -> None:
    """Wait for it, but not too long; what fails or hangs does not keep the rest from stopping."""
    began = reactor.seconds()
    try:
        await done.addTimeout(seconds, reactor)
    except (CancelledError, TimeoutError):
        pass
    except Exception:
        log.failure("{what} could not be stopped", what=what)
    if reactor.seconds() - began >= seconds:
        log.warn("{what} did not stop within {seconds} s", what=what, seconds=seconds)
