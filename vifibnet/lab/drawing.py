"""A drawing of the tunnels, for a terminal: the hosts on an ellipse, lines between them. Pure.

Lines are drawn in braille patterns, of which each character holds two by four dots (Unicode 2800–28FF), or
in ASCII where the terminal has nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

Edge = frozenset[str]
Point = tuple[int, int]

# The bit of each dot in a braille character, by row and column (Unicode 15, block 2800).
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_COLOURS = {"up": "36", "cut": "31", "node": "1;37;44", "dead": "9;31"}


class _Canvas:
    """Characters with dots in them, and labels over the dots."""

    def __init__(self, width: int, height: int, braille: bool) -> None:
        self.width, self.height, self.braille = width, height, braille
        self.dots: dict[Point, tuple[int, str]] = {}
        self.labels: dict[Point, tuple[str, str]] = {}

    def dot(self, x: int, y: int, kind: str) -> None:
        """Set one dot; x counts half characters, y quarters of lines."""
        cell = (x // 2, y // 4)
        bits, known = self.dots.get(cell, (0, kind))
        # Where lines cross, the one that is cut is the one to look at.
        self.dots[cell] = (bits | _DOTS[y % 4][x % 2], "cut" if "cut" in (known, kind) else kind)

    def label(self, x: int, y: int, text: str, kind: str) -> None:
        """Write a text around a character, over whatever is there."""
        start = max(0, min(self.width - len(text), x - len(text) // 2))
        for at, letter in enumerate(text):
            self.labels[start + at, y] = (letter, kind)

    def lines(self, colour: bool) -> Iterator[str]:
        """The picture."""
        for y in range(self.height):
            cells = [self._cell(x, y) for x in range(self.width)]
            while cells and cells[-1][0] == " ":
                cells.pop()
            yield _coloured(cells) if colour else "".join(letter for letter, _ in cells)

    def _cell(self, x: int, y: int) -> tuple[str, str]:
        if (x, y) in self.labels:
            return self.labels[x, y]
        if (x, y) not in self.dots:
            return " ", ""
        bits, kind = self.dots[x, y]
        return chr(0x2800 + bits) if self.braille else "x" if kind == "cut" else ".", kind


def _coloured(cells: Iterable[tuple[str, str]]) -> str:
    """Join letters, with an escape sequence wherever the kind changes."""
    text, last = "", ""
    for letter, kind in cells:
        if kind != last:
            text += "\033[0m" * bool(last) + (f"\033[{_COLOURS[kind]}m" if kind else "")
            last = kind
        text += letter
    return text + "\033[0m" * bool(last)


def _places(names: Sequence[str], width: int, height: int) -> dict[str, Point]:
    """Where each name goes, in dots: on an ellipse, clockwise from the top."""
    places = {}
    for at, name in enumerate(names):
        angle = 2 * math.pi * at / len(names) - math.pi / 2
        x = (width * 2 - 1) / 2 + (width * 2 - 12) / 2 * math.cos(angle)
        y = (height * 4 - 1) / 2 + (height * 4 - 4) / 2 * math.sin(angle)
        places[name] = (round(x), round(y))
    return places


def _line(begin: Point, end: Point) -> Iterator[Point]:
    """The dots from one place to another."""
    steps = max(abs(end[0] - begin[0]), abs(end[1] - begin[1]), 1)
    for step in range(steps + 1):
        yield (
            begin[0] + round((end[0] - begin[0]) * step / steps),
            begin[1] + round((end[1] - begin[1]) * step / steps),
        )


def draw(
    names: Sequence[str],
    edges: Collection[Edge],
    *,
    cut: Collection[Edge] = (),
    dead: Collection[str] = (),
    width: int = 60,
    colour: bool = False,
    braille: bool = True,
    words: Mapping[str, str] | None = None,
) -> list[str]:
    """The hosts and the tunnels between them; ``cut`` pairs are dotted, ``dead`` hosts crossed out.

    ``words`` are what is written for a host instead of its name. The height follows from the width.
    """
    known = set(names)
    height = max(7, min(width // 4, 4 + 2 * len(names)))
    canvas = _Canvas(width, height, braille)
    places = _places(names, width, height)
    for edge in sorted({*edges, *cut}, key=sorted):
        if len(edge) != 2 or not edge <= known:
            continue
        a, b = sorted(edge, key=names.index)
        for step, (x, y) in enumerate(_line(places[a], places[b])):
            if edge not in cut:
                canvas.dot(x, y, "up")
            elif step % 6 < 2:
                canvas.dot(x, y, "cut")
    for name in names:
        x, y = places[name]
        text = (words or {}).get(name, name)
        kind = "dead" if name in dead else "node"
        canvas.label(x // 2, y // 4, f" {text}{'†' if name in dead else ''} ", kind)
    return list(canvas.lines(colour))
