"""Child processes: one run of a program, and a service that keeps one running."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol


@dataclass(frozen=True)
class Exit:
    """How a run ended: ``status`` or ``signal`` (the other is None), its last lines of ``output``, and
    how many seconds it ``ran``. Its text is a clause for a log line."""

    status: int | None
    signal: int | None
    output: tuple[str, ...]
    ran: float


class Child(ProcessProtocol):
    """One run of a program.

    ``ended`` fires once, with the Exit, however the run ends; it never fails.
    """

    ended: Deferred[Exit]

    def __init__(self, reactor: Any, command: Sequence[str], *, log: Path | None = None) -> None:
        """``log``: the file that its output is appended to; without it the last lines are kept in memory."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the program. Raises OSError when that is not possible."""
        raise NotImplementedError

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        raise NotImplementedError

    async def stop(self, grace: float = 3.0) -> None:
        """SIGTERM, after ``grace`` seconds SIGKILL; returns when the process is gone."""
        raise NotImplementedError


class Supervisor(Service):
    """Keeps one program running: restarts it with exponential backoff and jitter.

    ``state`` is stopped, starting, running, waiting (for the next try) or stopping; ``restarts`` counts.
    """

    state: str
    restarts: int
    child: Child | None
    last_exit: Exit | None

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        name: str,
        command: Callable[[], list[str]],
        *,
        log: Path | None = None,
        before: Callable[[], Awaitable[None]] | None = None,
        on_end: Callable[[Exit], None] | None = None,
    ) -> None:
        """``before`` is awaited before every start, ``on_end`` called after every end."""
        raise NotImplementedError

    def startService(self) -> None:
        """Start the program now."""
        raise NotImplementedError

    def stopService(self) -> Deferred[None]:
        """Stop it; fires when the process is gone."""
        raise NotImplementedError


async def run(reactor: Any, command: Sequence[str], stdin: bytes = b"", timeout: float = 5.0) -> str:
    """Run a program to its end and return its output. Raises CommandFailed, also after ``timeout``."""
    raise NotImplementedError
