"""Child processes: one run of a program, and a service that keeps one running."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from signal import Signals
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from vifibnet.model.status import ChildStatus
from vifibnet.model.supervision import WELL_AFTER, Event, History, State, after, delay

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
"""All that a child gets to know of ours."""

OUTPUT_LINES = 20
_OUTPUT_BYTES = 8192

REPORTED_LINES = 5
"""How many of these the log gets when the program fails."""


@dataclass(frozen=True)
class Exit:
    """How a run ended: with a ``status`` or by a ``signal`` (the other is None; both are when it could not be
    started), its last lines of ``output``, how many seconds it ``ran``, and whether it was killed because it
    ``hung``. Its text is a clause."""

    status: int | None
    signal: int | None
    output: tuple[str, ...] = ()
    ran: float = 0.0
    hung: bool = False

    def __str__(self) -> str:
        if self.hung:
            return "hung, and was killed"
        if self.signal is not None:
            return f"ended by {Signals(self.signal).name}"
        return "could not be started" if self.status is None else f"ended with status {self.status}"


class Child(ProcessProtocol):
    """One run of a program, in a session of its own so that a Ctrl-C in our terminal is ours alone.

    ``ended`` fires once, with the Exit, however the run ends; it never fails.
    """

    def __init__(self, reactor: Any, command: Sequence[str], *, log: Path | None = None) -> None:
        """``log``: the file that all output is appended to; without it only its last lines are kept."""
        self.ended: Deferred[Exit] = Deferred()
        self._reactor = reactor
        self._command = ["setsid", *command]
        self._log = log
        self._log_fd = -1
        self._log_start = 0
        self._output = b""
        self._began = 0.0
        self._hung = False
        self._waiting: list[Deferred[None]] = []

    def start(self) -> None:
        """Start the program. Raises OSError when that, or opening its log, is not possible."""
        self._began = self._reactor.seconds()
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fds: dict[int, int | str] = {0: null, 1: "r", 2: "r"}
            if self._log is not None:
                flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                self._log_fd = os.open(self._log, flags, 0o640)
                self._log_start = os.fstat(self._log_fd).st_size
                fds |= {1: self._log_fd, 2: self._log_fd}
            self._reactor.spawnProcess(self, self._command[0], self._command, ENVIRONMENT, childFDs=fds)
        except BaseException:
            self._close_log()
            raise
        finally:
            os.close(null)

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        return self.transport.pid if self.transport is not None else None

    async def stop(self, grace: float = 3.0, insist: float | None = None) -> None:
        """SIGTERM, again after ``insist`` seconds, after ``grace`` seconds SIGKILL, or when it is cancelled;
        returns when the process is gone."""
        if self.ended.called or self.transport is None:
            return
        gone: Deferred[None] = Deferred()
        self._waiting.append(gone)
        self._signal("TERM")
        calls = [self._reactor.callLater(grace, self._signal, "KILL")]
        if insist is not None:
            calls.append(self._reactor.callLater(insist, self._signal, "TERM"))
        try:
            await gone
        except CancelledError:
            # Who does not wait any longer may end before the time of grace has.
            self.kill()
            raise
        finally:
            for call in calls:
                if call.active():
                    call.cancel()

    def kill(self, *, hung: bool = False) -> None:
        """SIGKILL, for what is beyond repair, or because it ``hung``: that heeds no other signal."""
        self._hung = hung
        self._signal("KILL")

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Keep the end of what the program says."""
        self._output = (self._output + data)[-_OUTPUT_BYTES:]

    def processEnded(self, reason: Failure) -> None:
        """The program has ended, and all its output has come."""
        if self._log_fd >= 0:
            end = os.fstat(self._log_fd).st_size
            start = max(self._log_start, end - _OUTPUT_BYTES)
            self._output = os.pread(self._log_fd, max(0, end - start), start)
            self._close_log()
        lines = [line for line in self._output.decode(errors="replace").splitlines() if line.strip()]
        ran = self._reactor.seconds() - self._began
        value: Any = reason.value
        output = tuple(lines[-OUTPUT_LINES:])
        self.ended.callback(Exit(value.exitCode, value.signal, output, ran, self._hung))
        waiting, self._waiting = self._waiting, []
        for gone in waiting:
            gone.callback(None)

    def _signal(self, name: str) -> None:
        try:
            if self.transport is not None:
                self.transport.signalProcess(name)
        except ProcessExitedAlready:
            pass

    def _close_log(self) -> None:
        if self._log_fd >= 0:
            os.close(self._log_fd)
            self._log_fd = -1


class Supervisor(Service):
    """Keeps one program running, by the table in model.supervision: its ``state`` says where it is.

    It is restarted with exponential backoff and jitter. What it complains about is logged once, with the last
    lines of its log, not at every try, and that it is well again once more.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        name: str,
        command: Callable[[], list[str]],
        *,
        log: Path | None = None,
        before: Callable[[], Awaitable[None]] | None = None,
        on_start: Callable[[Child], None] | None = None,
        on_end: Callable[[Exit], None] | None = None,
        explain: Callable[[Sequence[str]], str] | None = None,
        insist: float | None = None,
    ) -> None:
        """``log``: the file for the program's output. ``before`` is awaited before every start; ``on_start``
        and ``on_end`` are called after. ``explain`` picks the complaint out of the last lines of output.
        ``insist``: as with Child.stop."""
        self.setName(name)
        self.state = State.STOPPED
        self.history = History()
        self.child: Child | None = None
        self.last_exit: Exit | None = None
        self._reactor = reactor
        self._rng = rng
        self._program = name
        self._command = command
        self._log_file = log
        self._before = before
        self._on_start = on_start
        self._on_end = on_end
        self._explain = explain or (lambda lines: lines[-1] if lines else "")
        self._insist = insist
        self._entered = reactor.seconds()
        self._retry: IDelayedCall | None = None
        self._probation: IDelayedCall | None = None
        self._stops: list[Deferred[None]] = []

    def startService(self) -> None:
        """Start the program now; where the last run is still ending, after that."""
        if self.running:
            return
        super().startService()
        self.history = self.history.well()
        self._happen(Event.START)

    def stopService(self) -> Deferred[None]:
        """Stop it; fires when the process is gone. Cancelled, it kills the process."""
        super().stopService()
        done: Deferred[None] = Deferred(self._stop_now)
        self._stops.append(done)
        self._happen(Event.STOP)
        if self.state is State.STOPPED:
            self._stopped()
        return done

    def _stop_now(self, done: Deferred[None]) -> None:
        """Nobody waits any longer for the end of a stop."""
        self._stops.remove(done)
        if self.child is not None:
            self.child.kill()

    def restart(self) -> None:
        """Kill the program and start it again at once, also if it waits for its next try."""
        self._happen(Event.RESTART)

    def hangs(self) -> None:
        """Kill the program, which does nothing any more: a failure like any other."""
        if self.state is State.RUNNING and self.child is not None:
            self.child.kill(hung=True)

    def status(self) -> ChildStatus:
        """Where it is, and what it has behind it."""
        history = self.history
        return ChildStatus(
            name=self._program,
            state=self.state.value,
            since=self._entered,
            pid=self.child.pid if self.child is not None else None,
            restarts=history.restarts,
            complaint=history.complaint,
            complained=history.complained,
        )

    # -- the table, performed ---------------------------------------------------------------------------

    def _happen(self, event: Event) -> None:
        """Enter the state that follows, and do what it is there for."""
        before, self.state = self.state, after(self.state, event)
        if self.state is before:
            return
        self._entered = self._reactor.seconds()
        for call in (self._retry, self._probation):
            if call is not None and call.active():
                call.cancel()
        match self.state:
            case State.PREPARING:
                Deferred.fromCoroutine(self._try()).addErrback(self._broken)
            case State.RUNNING if self.history.failures:
                self._probation = self._reactor.callLater(WELL_AFTER, self._well)
            case State.BACKING_OFF:
                self._back_off()
            case State.STOPPING if before is State.RUNNING and self.child is not None:
                Deferred.fromCoroutine(self.child.stop(insist=self._insist))
            case State.REPLACING if before is State.RUNNING and self.child is not None:
                self.child.kill()

    async def _try(self) -> None:
        """One run, from the hook before it to its end."""
        try:
            if self._before is not None:
                await self._before()
            # Meanwhile the settings may have changed.
            child = Child(self._reactor, self._command(), log=self._log_file)
            wanted = self.state is State.PREPARING
            if wanted:
                child.start()
        except Exception as error:
            self._over(Exit(None, None, (str(error),)))
            return
        if not wanted:
            self._over(Exit(None, None))
            return
        self.child = child
        self._happen(Event.SPAWNED)
        # In a loop of failures nobody needs to know every number.
        report = self.log.info if self.history.failures <= 1 else self.log.debug
        report("{program} runs as process {pid}", program=self._program, pid=child.pid)
        self._call(self._on_start, child)
        self._over(await child.ended)

    def _over(self, end: Exit) -> None:
        """A try is over."""
        self.child, self.last_exit = None, end
        self._call(self._on_end, end)
        stops, self._stops = self._stops, []
        if self.state is State.STOPPING:
            self.log.info("{program} has stopped", program=self._program)
        self._happen(Event.ENDED)
        self._stopped(stops)

    def _stopped(self, stops: list[Deferred[None]] | None = None) -> None:
        """Tell all who wait for the end."""
        if stops is None:
            stops, self._stops = self._stops, []
        for done in stops:
            done.callback(None)

    def _call(self, hook: Callable[[Any], None] | None, argument: object) -> None:
        """Call a hook; whatever it does, the supervisor goes on."""
        try:
            if hook is not None:
                hook(argument)
        except Exception:
            self.log.failure("{program}: a hook failed", program=self._program)

    def _back_off(self) -> None:
        """It has failed: say so if that is news, and try again later."""
        end = self.last_exit or Exit(None, None)
        reason = self._explain(end.output)
        complaint = f"{end}: {reason}" if reason else str(end)
        news = self.history.is_news(complaint)
        self.history = self.history.failed(self._entered, end.ran, complaint)
        wait = delay(self.history.short, end.ran, self._rng)
        lines = end.output[-REPORTED_LINES:] if news and end.output != (reason,) else ()
        report = self.log.error if news else self.log.debug
        report(
            "{program} {complaint}; it is started again in {delay:.1f} s{lines}",
            program=self._program,
            complaint=complaint,
            delay=wait,
            lines="".join(f"\n  {line}" for line in lines),
        )
        self._retry = self._reactor.callLater(wait, self._happen, Event.DUE)

    def _well(self) -> None:
        """It has run for long enough."""
        history, self.history = self.history, self.history.well()
        self.log.info(
            "{program} is well again after {count} failure{s}, {seconds:.1f} s",
            program=self._program,
            count=history.failures,
            s="" if history.failures == 1 else "s",
            seconds=self._entered - history.since,
        )

    def _broken(self, failure: Failure) -> None:
        self.log.failure("{program}: the supervisor failed", failure, program=self._program)
