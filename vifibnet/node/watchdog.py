"""Noticing that a program hangs: its process is there, but it does nothing any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import LoopingCall

INTERVAL = 10.0
"""Seconds between two looks: as long has an overloaded machine for an answer."""

PATIENCE = 3
"""How many questions in a row must find no answer. They are counted, rather than seconds: however long a
machine has slept, that is one look."""


class Watchdog:
    """Barks once when a program has not answered for too long. Any answer will do, however late."""

    def __init__(
        self, reactor: Any, on_hang: Callable[[], None], ask: Callable[[], object] = lambda: None
    ) -> None:
        """``ask`` asks the program, who tells ``answered``; not needed where it is asked more often."""
        self._on_hang = on_hang
        self._ask = ask
        self._unanswered = 0
        self._looks = LoopingCall(self._look)
        self._looks.clock = reactor

    def start(self) -> None:
        """The program has just been started."""
        self.stop()
        self._unanswered = 0
        self._looks.start(INTERVAL, now=False)

    def stop(self) -> None:
        """It has ended, and nobody shall be asked any more."""
        if self._looks.running:
            self._looks.stop()

    def answered(self) -> None:
        """The program lives."""
        self._unanswered = 0

    def _look(self) -> None:
        if self._unanswered < PATIENCE:
            self._unanswered += 1
            self._ask()
        else:
            self.stop()
            self._on_hang()
