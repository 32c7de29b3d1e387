"""AMP that a stranger may talk to: boxes, calls, silence and debts all have an end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.protocols.amp import AMP, COMMAND, AmpBox, QuitBox, RemoteAmpError, StartTLS
from twisted.python.failure import Failure

from vifibnet.errors import BadArguments
from vifibnet.registry.limits import Limits

log = Logger()

UNREAD, BUSY, FAST = "its answers are not read", "enough calls are being answered", "it calls too fast"
"""Why a connection is not read from at the moment."""


class BoundedAMP(AMP):
    """AMP within limits, and without what AMP brings along for peers that trust each other (StartTLS).

    It pauses itself between two boxes: because the other side does not read what it asked for, because
    enough calls of its are being answered, or because it calls too fast.
    """

    _limits = Limits()
    _clock: IReactorTime | None = None
    _box = 0
    _calls = 0

    def bound(self, limits: Limits, clock: IReactorTime, take: Callable[[], float]) -> None:
        """To be called before it is connected; ``take`` counts a call and tells how long to pause then."""
        self._limits = limits
        self._clock = clock
        self._take = take
        self._held: set[str] = set()
        self._timers: dict[str, IDelayedCall] = {}

    # -- the connection -------------------------------------------------------------------------------

    def makeConnection(self, transport: Any) -> None:  # noqa: N802
        """Have the transport say when its buffer is full."""
        if self._clock is not None:
            transport.registerProducer(self, True)
        super().makeConnection(transport)

    def stopReceivingBoxes(self, reason: Failure) -> None:  # noqa: N802
        """The connection is lost."""
        if self._clock is not None:
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()
            self._clock = None
        super().stopReceivingBoxes(reason)

    def drop(self, why: str) -> None:
        """Hang up now."""
        transport: Any = self.transport
        log.info("dropped {peer}: {why}", peer=str(transport.getPeer()), why=why)
        # What came together with the culprit is not looked at.
        self.paused = True
        transport.abortConnection()

    # -- what is read ---------------------------------------------------------------------------------

    def stringReceived(self, string: bytes) -> None:  # noqa: N802
        """A key or a value of a box, or its empty end."""
        self._box = self._box + len(string) + 2 if string or self._currentKey is not None else 0
        if self._box > self._limits.box:
            self.drop(f"a box of more than {self._limits.box} bytes")
            return
        super().stringReceived(string)

    def lengthLimitExceeded(self, length: int) -> None:  # noqa: N802
        """A key that is too long: this is no AMP."""
        self.drop(f"a key of {length} bytes")

    def ampBoxReceived(self, box: AmpBox) -> None:  # noqa: N802
        """A call, or the answer to one of ours."""
        try:
            super().ampBoxReceived(box)
        except Exception as error:
            # An answer to nothing, a box that is neither call nor answer.
            self.drop(f"a box that makes no sense ({type(error).__name__})")

    def locateResponder(self, name: bytes) -> Any:  # noqa: N802
        """What answers a command; TLS is there already."""
        return None if name == StartTLS.commandName else super().locateResponder(name)

    def dispatchCommand(self, box: AmpBox) -> Deferred[Any]:  # noqa: N802
        """Answer a call, and see whether we want the next one."""
        answer: Deferred[Any] = super().dispatchCommand(box)
        answer.addErrback(self._refuse, box)
        if self._clock is None:
            return answer
        if not answer.called:
            self._calls += 1
            if self._calls >= self._limits.calls_outstanding:
                self._hold(BUSY)
            answer.addBoth(self._answered)
        wait = self._take()
        if wait > 0:
            self._hold(FAST)
            self._after(wait, FAST, self._release, FAST)
        return answer

    def unhandledError(self, failure: Failure) -> None:  # noqa: N802
        """The answer to a call of ours was an error, or cannot be understood."""
        self.drop(f"its answer makes no sense ({type(failure.value).__name__})")

    def sendBox(self, box: AmpBox) -> None:  # noqa: N802
        """Send; after the last box a polite goodbye, for which we do not wait for ever."""
        super().sendBox(box)
        if isinstance(box, QuitBox) and self._clock is not None:
            transport: Any = self.transport
            # As long as there is a producer TLS would not end.
            transport.unregisterProducer()
            self._after(self._limits.stalled, UNREAD, self.drop, "it does not hang up")

    def _refuse(self, failure: Failure, box: AmpBox) -> NoReturn:
        """Whatever is no refusal of ours happened while the arguments were read."""
        if failure.check(RemoteAmpError):
            failure.raiseException()
        name = box.get(COMMAND, b"")[:100].decode("ascii", "replace")
        log.info("refused {command}: {why}", command=name, why=repr(failure.value))
        refusal = BadArguments(method=name, problem="they cannot be read")
        raise RemoteAmpError(b"%d" % refusal.code, str(refusal))

    def _answered(self, result: Any) -> Any:
        self._calls -= 1
        if self._calls < self._limits.calls_outstanding:
            self._release(BUSY)
        return result

    # -- pauses ---------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:  # noqa: N802
        """The transport's buffer is full: the other side does not read."""
        self._hold(UNREAD)
        self._after(self._limits.stalled, UNREAD, self.drop, UNREAD)

    def resumeProducing(self) -> None:  # noqa: N802
        """The other side has read all."""
        timer = self._timers.pop(UNREAD, None)
        if timer is not None:
            timer.cancel()
        self._release(UNREAD)

    def stopProducing(self) -> None:  # noqa: N802
        """The transport is gone."""
        self.paused = True

    def _hold(self, why: str) -> None:
        if not self._held:
            super().pauseProducing()
        self._held.add(why)

    def _release(self, why: str) -> None:
        if why in self._held:
            self._held.discard(why)
            if not self._held:
                # Later: we may stand in the very loop that reads the boxes.
                self._after(0, "resume", self._resume)

    def _resume(self) -> None:
        if not self._held:
            super().resumeProducing()

    def _after(self, seconds: float, name: str, call: Callable[..., None], *arguments: str) -> None:
        """Call later, unless the connection is lost; one call of each name, the earlier one is replaced."""
        if self._clock is None:
            return
        earlier = self._timers.pop(name, None)
        if earlier is not None:
            earlier.cancel()

        def run() -> None:
            del self._timers[name]
            call(*arguments)

        self._timers[name] = self._clock.callLater(seconds, run)
