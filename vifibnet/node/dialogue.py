"""Who is being enrolled, as the setup sees them."""

from __future__ import annotations

from typing import Protocol


class Dialogue(Protocol):
    """Sees lines and, where ``terminal`` is true, answers questions."""

    terminal: bool

    def say(self, line: str) -> None:
        """Show one line."""

    def ask(self, question: str) -> str:
        """Ask and wait for the answer, stripped. Only where there is a terminal."""
