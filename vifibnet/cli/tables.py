"""Tables for a terminal, laid out page by page, and times as people say them. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from vifibnet.errors import BadInput

GAP = 2
NOTHING = "–"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Column:
    """A heading, and how wide its cells may be: no wider than needed, never below ``least`` characters."""

    heading: str
    least: int


class Table:
    """Lines of ``width`` characters at most. The first page says how wide the columns are; what does not
    fit, there or later, is cut."""

    def __init__(self, columns: Sequence[Column], width: int) -> None:
        self._columns = columns
        self._width = width
        self._widths: list[int] = []

    def lines(self, rows: Sequence[Sequence[str]]) -> list[str]:
        """The next rows, under the headings if they are the first."""
        if self._widths:
            return [self._line(row) for row in rows]
        self._widths = self._layout(rows)
        headings = [column.heading for column in self._columns]
        return [self._line(headings), *(self._line(row) for row in rows)]

    def _layout(self, rows: Sequence[Sequence[str]]) -> list[int]:
        least = [max(column.least, len(column.heading)) for column in self._columns]
        wanted = [max(low, *(len(row[at]) for row in rows)) if rows else low for at, low in enumerate(least)]
        # The widest give first.
        while sum(wanted) + GAP * (len(wanted) - 1) > self._width:
            spare = [have - low for have, low in zip(wanted, least, strict=True)]
            if not any(spare):
                break
            wanted[max(range(len(wanted)), key=lambda at: (spare[at] > 0, wanted[at]))] -= 1
        return wanted

    def _line(self, cells: Sequence[str]) -> str:
        laid = [_cut(cell, width).ljust(width) for cell, width in zip(cells, self._widths, strict=True)]
        return (" " * GAP).join(laid).rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def ago(then: float | None, now: float) -> str:
    """How long ago something was, in one unit."""
    if then is None:
        return "never"
    return duration(max(0.0, now - then)) + " ago"


def duration(seconds: float) -> str:
    """A time span in one unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (seconds >= length and unit != "d"):
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def amount(size: int) -> str:
    """So many bytes, in one unit."""
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= length:
            return f"{size / length:.1f} {unit}"
    return f"{size} B"


def day(when: float) -> str:
    """A date, UTC."""
    return f"{datetime.fromtimestamp(when, UTC):%Y-%m-%d}"


def minute(when: float) -> str:
    """A date and a time, UTC."""
    return f"{datetime.fromtimestamp(when, UTC):%Y-%m-%d %H:%M}"


def counted(number: int, what: str) -> str:
    """A number and a word: 1 node, 2 nodes."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def seconds(option: str, text: str) -> int:
    """A time such as 30m, 24h or 7d in seconds. Raises BadInput."""
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text, re.ASCII)
    if match is None:
        raise BadInput(f"{option} {text}", "is no time", "give a number and s, m, h or d, such as 24h")
    return int(match[1]) * _UNITS[match[2]]
