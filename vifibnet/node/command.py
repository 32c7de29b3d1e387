"""Programs that are run to their end."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from vifibnet.errors import CommandFailed
from vifibnet.node.supervisor import ENVIRONMENT


class _Run(ProcessProtocol):
    """Feeds a program its input and collects all its output."""

    def __init__(self, stdin: bytes) -> None:
        self.ended: Deferred[Any] = Deferred()
        self.output = b""
        self._stdin = stdin

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(self._stdin)
        transport.closeStdin()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self.output += data

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(reason.value)

    def kill(self) -> None:
        """SIGKILL; what it has started may still speak when it is gone."""
        transport: Any = self.transport
        with suppress(ProcessExitedAlready):
            transport.signalProcess("KILL")


async def run(reactor: Any, command: Sequence[str], stdin: bytes = b"", timeout: float = 5.0) -> str:
    """Run a program to its end and return its output.

    Raises CommandFailed, also when it has not ended after ``timeout`` seconds. Cancelled, it kills the
    program, and is over when that has ended.
    """
    process = _Run(stdin)
    try:
        reactor.spawnProcess(process, command[0], list(command), ENVIRONMENT)
    except OSError as error:
        raise CommandFailed(command=" ".join(command), status=error.errno, output=error.strerror) from None
    late = reactor.callLater(timeout, process.kill)
    try:
        end = await process.ended
    except CancelledError:
        # Whoever comes next shall not meet it at work.
        process.ended = Deferred()
        process.kill()
        await process.ended
        raise
    finally:
        if late.active():
            late.cancel()
    output = process.output.decode(errors="replace").strip()
    if end.exitCode != 0:
        raise CommandFailed(command=" ".join(command), status=end.exitCode or end.signal, output=output)
    return output
