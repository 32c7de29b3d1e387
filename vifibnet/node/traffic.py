"""How much our taps carry (the kernel's counters, proc(5))."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

COUNTERS = Path("/proc/net/dev")


class Traffic:
    """Counts packets, both ways together."""

    def __init__(self, read: Callable[[], str] = COUNTERS.read_text) -> None:
        """Nothing is known before the second look."""
        self._read = read
        self._before: dict[str, int] = {}

    def look(self) -> Mapping[str, int]:
        """How many packets each interface has carried since the last look; one that is new, or whose counters
        began anew, is left out. Nothing at all where the kernel does not tell."""
        try:
            now = _packets(self._read())
        except (OSError, ValueError, IndexError):
            now = {}
        before, self._before = self._before, now
        return {name: now[name] - before[name] for name in now.keys() & before if now[name] >= before[name]}


def _packets(text: str) -> dict[str, int]:
    """By interface, received and sent: behind the name there are eight columns for each direction, of which
    the second counts packets."""
    found = {}
    for line in text.splitlines()[2:]:
        name, _, columns = line.partition(":")
        words = columns.split(None, 10)
        found[name.strip()] = int(words[1]) + int(words[9])
    return found
