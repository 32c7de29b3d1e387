"""A reactor whose time and whose children are in the test's hands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure


class FakeProcess:
    """A child; ``signals`` it got. It obeys the ones in ``obeys``, at once."""

    def __init__(self, protocol: Any, command: Sequence[str], pid: int, obeys: Sequence[str]) -> None:
        self.protocol = protocol
        self.command = list(command)
        self.pid: int | None = pid
        self.obeys = obeys
        self.signals: list[str] = []
        self.stdin = b""

    def signalProcess(self, name: str) -> None:
        """Take a signal."""
        if self.pid is None:
            raise ProcessExitedAlready
        self.signals.append(name)
        if name in self.obeys:
            self.end(signal={"TERM": 15, "KILL": 9}[name])

    def say(self, text: str) -> None:
        """Print something."""
        self.protocol.childDataReceived(1, text.encode())

    def end(self, status: int | None = 0, signal: int | None = None) -> None:
        """End, with a status or by a signal."""
        self.pid = None
        if signal is not None:
            reason: Exception = ProcessTerminated(None, signal)
        else:
            reason = ProcessTerminated(status) if status else ProcessDone(status)
        self.protocol.processEnded(Failure(reason))

    def write(self, data: bytes) -> None:
        """Be given input."""
        self.stdin += data

    def closeStdin(self) -> None:
        """Be given no more."""


class FakeReactor(MemoryReactorClock):
    """Starts children that do only what the test says; ``processes`` are all of them, the first first."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []
        self.obeys: Sequence[str] = ("TERM", "KILL")
        self.fails: Exception | None = None

    def spawnProcess(
        self, processProtocol: Any, executable: Any, args: Any = (), env: Any = None, **how: Any
    ) -> Any:
        """Start one, or fail with ``fails``."""
        if self.fails is not None:
            raise self.fails
        assert env is not None
        assert "PATH" in env
        process = FakeProcess(processProtocol, args, 100 + len(self.processes), self.obeys)
        self.processes.append(process)
        processProtocol.makeConnection(process)
        return process

    @property
    def children(self) -> list[FakeProcess]:
        """The children that have not ended."""
        return [process for process in self.processes if process.pid is not None]
