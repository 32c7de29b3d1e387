"""Progress and results on a terminal and elsewhere."""

import io

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.lab.screen import Screen


class _Stream(io.StringIO):
    """A stream that may be a terminal."""

    def __init__(self, terminal: bool, encoding: str = "utf-8") -> None:
        super().__init__()
        self.terminal = terminal
        self.code = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """What the terminal understands."""
        return self.code

    def isatty(self) -> bool:
        """Whether somebody is watching."""
        return self.terminal


class ScreenTests(SynchronousTestCase):
    """What is written."""

    def screen(self, terminal: bool, encoding: str = "utf-8") -> tuple[Screen, _Stream, Clock]:
        """A screen and what it writes to."""
        stream, clock = _Stream(terminal, encoding), Clock()
        return Screen(stream, clock.seconds), stream, clock

    def test_lines(self) -> None:
        """Where nobody watches, each kind of progress is one line; numbers alone make no new kind."""
        screen, stream, clock = self.screen(False)
        for text in ("1 of 3 hosts", "2 of 3 hosts", "starting", "1 of 3 hosts"):
            screen.progress(text)
            clock.advance(1.5)
        screen.say("done")
        self.assertEqual(
            stream.getvalue(), "  0.0 s  1 of 3 hosts\n  3.0 s  starting\n  4.5 s  1 of 3 hosts\ndone\n"
        )

    def test_terminal(self) -> None:
        """On a terminal, progress is written over, and gone before a result."""
        screen, stream, _ = self.screen(True)
        screen.progress("one")
        screen.progress("two")
        screen.say("done")
        rows = stream.getvalue().split("\r\033[K")
        self.assertEqual([row.count("\n") for row in rows], [0, 0, 0, 1])
        self.assertEqual(rows[-1], "done\n")

    def test_narrow(self) -> None:
        """Progress never takes more than a line, which could not be written over."""
        screen, stream, _ = self.screen(True)
        screen.progress("long " * 100)
        self.assertLess(len(stream.getvalue()), screen.width + 20)

    def test_tell(self) -> None:
        """Sentences are broken into lines that fit."""
        screen, stream, _ = self.screen(False)
        screen.tell("word " * 50)
        lines = stream.getvalue().splitlines()
        self.assertGreater(len(lines), 3)
        self.assertTrue(all(line.startswith("  word") and len(line) <= 80 for line in lines))

    def test_plain(self) -> None:
        """Where only ASCII can be shown, only ASCII is."""
        screen, stream, _ = self.screen(False, "ascii")
        self.assertFalse(screen.braille)
        screen.step("h1 → h2 – …")
        stream.getvalue().encode("ascii")
