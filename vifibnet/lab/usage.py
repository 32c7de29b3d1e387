"""What processes cost: processor time and memory, as Linux counts them in /proc/PID (proc(5))."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """Of one process or several: seconds of processor time since their start, and bytes of memory.

    ``rss`` counts every page that is in memory, ``pss`` of a page that several processes share (of this lab
    or any other) only each one's part.
    """

    seconds: float = 0.0
    rss: int = 0
    pss: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.seconds + other.seconds, self.rss + other.rss, self.pss + other.pss)


def cpu_seconds(stat: str) -> float:
    """User and system time in the content of /proc/PID/stat, all threads together."""
    # The program's name may have blanks and parentheses in it.
    fields = stat[stat.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory(rollup: str, what: str) -> int:
    """Bytes of ``Rss`` or ``Pss`` in the content of /proc/PID/smaps_rollup."""
    match = re.search(rf"^{what}: +(\d+) kB$", rollup, re.MULTILINE)
    return 1024 * int(match[1]) if match else 0


def usage(pids: Iterable[int]) -> Usage:
    """What these processes cost so far. Raises OSError when one is gone."""
    total = Usage()
    for pid in pids:
        proc = Path(f"/proc/{pid}")
        rollup = (proc / "smaps_rollup").read_text()
        seconds = cpu_seconds((proc / "stat").read_text())
        total += Usage(seconds, memory(rollup, "Rss"), memory(rollup, "Pss"))
    return total
