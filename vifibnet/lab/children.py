"""Child processes of the lab: run one and read what it says, or watch one that goes on."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList, ensureDeferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from vifibnet.errors import CommandFailed

Reactor = Any
"""IReactorProcess, IReactorTime and IReactorFDSet at once, for which mypy has no type."""

T = TypeVar("T")


class Child(ProcessProtocol):
    """One run of a program. Its output is kept, or given line by line to ``on_line``."""

    def __init__(self, reactor: Reactor, argv: Sequence[str], on_line: Callable[[str], None] | None = None):
        self.reactor = reactor
        self.argv = list(argv)
        self.status: int | None = None
        """The exit status once it has ended; the negated signal number when a signal ended it."""
        self.output = b""
        self.errors = b""
        self.on_line = on_line
        self._waiting: list[Deferred[int]] = []

    def start(self, directory: Path | None = None, stdin: str | None = None) -> None:
        """Spawn it in ``directory``, with our environment; ``stdin`` None leaves its input open."""
        path = str(directory) if directory else None
        self.reactor.spawnProcess(self, self.argv[0], self.argv, env=None, path=path)
        if stdin is not None and self.transport is not None:
            self.transport.write(stdin.encode())
            self.transport.closeStdin()

    def ended(self) -> Deferred[int]:
        """Fire with the exit status when it has ended. Cancelling only gives up the waiting."""
        waiter: Deferred[int] = Deferred()
        if self.status is not None:
            waiter.callback(self.status)
        else:
            self._waiting.append(waiter)
        return waiter

    async def stop(self, grace: float = 3.0) -> None:
        """TERM, and after ``grace`` seconds KILL; return when it has ended."""
        self.signal("TERM")
        ended = self.ended()
        late = self.reactor.callLater(grace, self.signal, "KILL")
        await ended
        if late.active():
            late.cancel()

    def signal(self, name: str) -> None:
        """Send a signal; one that has ended already is none the worse."""
        if self.status is None and self.transport is not None:
            with suppress(ProcessExitedAlready):
                self.transport.signalProcess(name)

    def outReceived(self, data: bytes) -> None:
        """Keep the output, or hand on its whole lines."""
        self.output += data
        if self.on_line is not None:
            *lines, self.output = self.output.split(b"\n")
            for line in lines:
                self.on_line(line.decode(errors="replace"))

    def errReceived(self, data: bytes) -> None:
        """Keep the last of what it complains about."""
        self.errors = (self.errors + data)[-10_000:]

    def processEnded(self, reason: Failure) -> None:
        """Tell everybody who waits."""
        value: Any = reason.value
        self.status = value.exitCode if value.signal is None else -value.signal
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.called:
                waiter.callback(self.status)


@dataclass(frozen=True)
class Ended:
    """How a program ended and what it said."""

    status: int
    output: str
    errors: str


async def run(
    reactor: Reactor,
    argv: Sequence[str],
    *,
    stdin: str = "",
    directory: Path | None = None,
    timeout: float = 60.0,
    check: bool = True,
) -> Ended:
    """Run a program to its end; cancelled or too slow, it is stopped first.

    Raises CommandFailed when it ends with another status than 0 (unless not ``check``) or is too slow.
    """
    child = Child(reactor, argv)
    child.start(directory, stdin)
    ended = child.ended().addTimeout(timeout, reactor, lambda *_: -1)
    try:
        status = await ended
    except CancelledError:
        await child.stop()
        raise
    output, errors = child.output.decode(errors="replace"), child.errors.decode(errors="replace")
    if child.status is None:
        await child.stop()
        raise CommandFailed(
            command=" ".join(argv), status=f"nothing, for {timeout:g} s,", output=errors or output
        )
    if check and status != 0:
        raise CommandFailed(command=" ".join(argv), status=status, output=(errors or output).strip()[-2000:])
    return Ended(status, output, errors)


async def together(works: Iterable[Coroutine[Deferred[Any], Any, T]]) -> list[T]:
    """Run coroutines at once; the first failure cancels the others and is raised when all have ended."""
    failures: list[Failure] = []

    def fail(failure: Failure) -> None:
        failures.append(failure)
        for task in tasks:
            task.cancel()

    tasks: list[Deferred[Any]] = []
    for work in works:
        # A failure of an earlier one may come before a later one has begun.
        tasks.append(ensureDeferred(work))
    for task in tasks:
        task.addErrback(fail)
    results = await DeferredList(tasks)
    if failures:
        failures[0].raiseException()
    return [result for _, result in results]


async def sleep(reactor: Reactor, seconds: float) -> None:
    """Let the time pass."""
    await deferLater(reactor, seconds)
