"""SIGHUP: the options are read again, from the same command line and the files that it names."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from vifibnet.errors import VifibnetError


class Hangup(Service):
    """Calls ``reread`` at each SIGHUP, in the reactor's thread, one call at a time.

    What it raises as a VifibnetError is what is wrong with the options: logged, and all goes on as before.
    """

    log = Logger()

    def __init__(self, reactor: Any, reread: Callable[[], Awaitable[None]]) -> None:
        """Nothing is caught before startService."""
        self._reactor = reactor
        self._reread = reread
        self._lock = DeferredLock()

    def startService(self) -> None:
        """Catch the signal, which would end the process. Twisted's own handlers are for other signals."""
        super().startService()
        signal.signal(signal.SIGHUP, self._caught)

    def stopService(self) -> None:
        """From now on it means nothing: what is stopping shall do so in good order."""
        super().stopService()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _caught(self, *_: object) -> None:
        # Between any two instructions of the program: nothing may be done here.
        self._reactor.callFromThread(self.act)

    def act(self) -> None:
        """As if the signal had come."""
        done = Deferred.fromCoroutine(self._act())
        done.addErrback(lambda failure: self.log.failure("the options cannot be read again", failure))

    async def _act(self) -> None:
        async with self._lock:
            if not self.running:
                return
            try:
                await self._reread()
            except VifibnetError as error:
                problem = " ".join(str(error).split())
                self.log.error("SIGHUP: {problem} Everything stays as it is.", problem=problem)


def heeding(reactor: Any, service: IService, reread: Callable[[], Awaitable[None]]) -> MultiService:
    """The service, and what rereads its options."""
    both = MultiService()
    Hangup(reactor, reread).setServiceParent(both)
    service.setServiceParent(both)
    return both


def announce(log: Logger, changed: tuple[str, ...], refused: tuple[str, ...], what: str) -> None:
    """Tell the operator what became of it; ``what`` takes a restart for the ``refused``."""
    if changed or not refused:
        log.info(
            "SIGHUP: {changed}", changed=f"changed: {', '.join(changed)}" if changed else "nothing is new"
        )
    if refused:
        log.warn(
            "SIGHUP: {options} stay{s} as before: {what} has to be started anew for that",
            options=", ".join(refused),
            s="s" if len(refused) == 1 else "",
            what=what,
        )
