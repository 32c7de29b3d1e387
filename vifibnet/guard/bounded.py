"""AMP that a stranger may talk to: boxes, calls, silence and debts all have an end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.protocols.amp import (
    AMP,
    ANSWER,
    ASK,
    COMMAND,
    ERROR,
    ERROR_CODE,
    ERROR_DESCRIPTION,
    UNHANDLED_ERROR_CODE,
    AmpBox,
    Command,
    StartTLS,
)
from twisted.python.failure import Failure

from vifibnet.errors import BadArguments, RegistryRefusal
from vifibnet.guard.limits import Limits
from vifibnet.wire.amp import Ping

log = Logger()

UNREAD, FAST = "its answers are not read", "it calls too fast"
"""Why a connection is not read from at the moment."""


def _error(code: bytes, description: str) -> AmpBox:
    return AmpBox({ERROR_CODE: code, ERROR_DESCRIPTION: description.encode()})


class BoundedAMP(AMP):
    """AMP within limits, and without what AMP brings along for peers that trust each other (StartTLS).

    It pauses itself between two boxes: because the other side does not read what it asked for, or because it
    calls too fast. Responders answer at once, and raise nothing but a RegistryRefusal.
    """

    _limits = Limits()
    _clock: IReactorTime | None = None
    _commandDispatch: dict[bytes, Any]
    """Commands and responders by name, as AMP's metaclass finds them marked."""
    _box = 0
    _heard = False

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
            self._listen()
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
        self._heard = True
        try:
            if COMMAND in box:
                self._called(box)
            else:
                super().ampBoxReceived(box)
        except Exception as error:
            # An answer to nothing, a box that is neither call nor answer.
            self.drop(f"a box that makes no sense ({type(error).__name__})")

    def _called(self, box: AmpBox) -> None:
        """Answer a call at once; AMP makes seven Deferreds for each, which take longer than most answers."""
        name = box[COMMAND]
        command, responder = self._commandDispatch.get(name, (None, None))
        # TLS is there already.
        if command is None or command is StartTLS:
            answer = _error(UNHANDLED_ERROR_CODE, f"Unhandled Command: {name[:100]!r}")
        else:
            try:
                answer = command.makeResponse(responder(self, **self._arguments(command, box)), self)
            except RegistryRefusal as refusal:
                answer = _error(b"%d" % refusal.code, str(refusal))
        if ASK in box:
            answer[ERROR if ERROR_CODE in answer else ANSWER] = box[ASK]
            self.sendBox(answer)
        wait = self._take() if self._clock is not None else 0
        if wait > 0:
            self._hold(FAST)
            self._after(wait, FAST, self._release, FAST)

    def _arguments(self, command: type[Command], box: AmpBox) -> dict[str, Any]:
        """A call's arguments. Raises BadArguments."""
        try:
            arguments: dict[str, Any] = command.parseArguments(box, self)
            return arguments
        except Exception as error:
            name = command.commandName.decode("ascii")
            log.info("refused {command}: {why}", command=name, why=repr(error))
            raise BadArguments(method=name, problem="they cannot be read") from None

    def unhandledError(self, failure: Failure) -> None:  # noqa: N802
        """The answer to a call of ours was an error, or cannot be understood."""
        self.drop(f"its answer makes no sense ({type(failure.value).__name__})")

    # -- silence --------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Look again later; as many connections at the same time as shook hands at the same time."""
        self._heard = False
        self._after(self._limits.silence, "silence", self._look)

    def _look(self) -> None:
        if self._heard:
            self._listen()
            return
        # An answer is all that matters; a node that does not know the question says so.
        self.callRemote(Ping).addErrback(lambda _: None)
        self._after(self._limits.answer, "silence", self._decide)

    def _decide(self) -> None:
        if self._heard:
            self._listen()
        else:
            self.drop("it does not answer")

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
