"""The daemons of a lab: started by ``twistd``, which daemonises them, found again by their pid files."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from twisted.internet.defer import Deferred

from vifibnet.errors import BadInput, VifibnetError
from vifibnet.lab.children import Reactor, run


class DaemonFailed(VifibnetError):
    """{name} did not start: {problem}"""


class DoesNotEnd(VifibnetError):
    """{name} (process {pid}) is still there {seconds:g} s after signal {signal}."""


def program(name: str) -> str:
    """The path of a program that is installed beside our interpreter, or on PATH. Raises BadInput."""
    beside = Path(sys.executable).with_name(name)
    path = str(beside) if os.access(beside, os.X_OK) else shutil.which(name)
    if path is None:
        raise BadInput(name, "this program is not installed", "install vifibnet with pip")
    return path


class Daemon:
    """One twistd process with its pid file and its log, both in ``directory``."""

    def __init__(self, reactor: Reactor, name: str, directory: Path) -> None:
        self.reactor = reactor
        self.name = name
        self.directory = directory
        self.pid_file = directory / f"{name}.pid"
        self.log = directory / f"{name}.log"

    def command(self, *arguments: str) -> list[str]:
        """The command line that starts it."""
        return [program("twistd"), f"--pidfile={self.pid_file}", f"--logfile={self.log}", *arguments]

    async def start(self, command: Sequence[str], timeout: float = 30.0) -> None:
        """Run the command line; return when the daemon has started. Raises DaemonFailed."""
        before = self.log.stat().st_size if self.log.exists() else 0
        ended = await run(self.reactor, command, directory=self.directory, timeout=timeout, check=False)
        if ended.status != 0:
            said = (ended.errors or ended.output).strip()
            with suppress(OSError), self.log.open() as log:
                log.seek(before)
                said = "\n".join([said, *log.read().splitlines()[-15:]])
            raise DaemonFailed(name=f"{self.directory.name} {self.name}", problem=said)

    @property
    def pid(self) -> int | None:
        """Its process, as the pid file says; None without a pid file."""
        try:
            return int(self.pid_file.read_text())
        except (OSError, ValueError):
            return None

    async def end(self, pid: int, number: signal.Signals, timeout: float = 10.0) -> None:
        """Send the signal and return when the process is gone. Raises DoesNotEnd."""
        try:
            watch = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            signal.pidfd_send_signal(watch, number)
            gone = readable(self.reactor, watch)
            if not await gone.addTimeout(timeout, self.reactor, lambda *_: False):
                raise DoesNotEnd(name=self.name, pid=pid, seconds=timeout, signal=number.name)
            if number == signal.SIGKILL:
                # Where init takes its time to reap, twistd would believe that it still runs.
                self.pid_file.unlink(missing_ok=True)
        except ProcessLookupError:
            return
        finally:
            os.close(watch)


class _Readable:
    """Fires once when a file descriptor can be read."""

    def __init__(self, reactor: Reactor, descriptor: int) -> None:
        self.descriptor = descriptor
        self.reactor = reactor
        self.fired: Deferred[bool] = Deferred(lambda _: reactor.removeReader(self))

    def fileno(self) -> int:
        return self.descriptor

    def logPrefix(self) -> str:
        return "pidfd"

    def doRead(self) -> None:
        self.reactor.removeReader(self)
        self.fired.callback(True)

    def connectionLost(self, reason: object) -> None:
        """The reactor ends; whoever waits is told by its own timeout."""


def readable(reactor: Reactor, descriptor: int) -> Deferred[bool]:
    """Fire with True when the descriptor can be read: a pidfd, when its process has ended."""
    waiter = _Readable(reactor, descriptor)
    reactor.addReader(waiter)
    return waiter.fired
