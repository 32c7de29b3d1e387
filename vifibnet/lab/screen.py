"""What a person sees of a lab: progress in one line that changes, results in lines that stay."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Callable, Iterable
from typing import TextIO


class Screen:
    """Writes to a stream; on a terminal the progress is one line that is written over again and again.

    ``seconds`` is a clock. Elsewhere each kind of progress is a line of its own, once.
    """

    def __init__(self, stream: TextIO, seconds: Callable[[], float]) -> None:
        self.stream = stream
        self.seconds = seconds
        self.began = seconds()
        self.terminal = stream.isatty()
        self.braille = (stream.encoding or "").lower().replace("-", "") == "utf8"
        self._shown = ""
        self._kind = ""

    @property
    def width(self) -> int:
        """How many columns there are to write in."""
        return min(100, shutil.get_terminal_size((80, 24)).columns - 1)

    def progress(self, text: str) -> None:
        """Show what is going on now."""
        passed = f"{self.seconds() - self.began:5.1f} s  "
        if self.terminal:
            self._shown = (passed + text + " …")[: self.width]
            self._write(f"\r\033[K\033[2m{self._shown}\033[0m")
        elif (kind := re.sub(r"\d+", "", text)) != self._kind:
            self._kind = kind
            self._write(f"{passed}{text}\n")

    def say(self, *lines: str) -> None:
        """Write lines that stay."""
        self.clear()
        self._write("".join(f"{line}\n" for line in lines))

    def tell(self, text: str) -> None:
        """Write a sentence or two, indented, in lines that fit."""
        indent = "  "
        width = min(80, self.width)
        self.say(*textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent))

    def picture(self, lines: Iterable[str]) -> None:
        """Write lines that stay, with room around them."""
        self.say("", *(f"  {line}".rstrip() for line in lines), "")

    def step(self, text: str) -> None:
        """Write the beginning of a part."""
        mark = "▸" if self.braille else ">"
        self.say(f"\033[1m{mark} {text}\033[0m" if self.terminal else f"{mark} {text}")

    def clear(self) -> None:
        """Take the progress away."""
        if self._shown:
            self._write("\r\033[K")
            self._shown = ""

    def _write(self, text: str) -> None:
        self.stream.write(text if self.braille else text.translate(_PLAIN))
        self.stream.flush()


_PLAIN = str.maketrans({"→": "->", "–": "-", "…": "...", "─": "-", "▸": ">", "†": "+"})
