"""argparse inside twistd, and the files of options."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.cli.options import TwistdArguments, integer, number, port_number
from vifibnet.errors import BadInput

Parsed = tuple[argparse.Namespace, list[str]]


class Example(TwistdArguments[Parsed]):
    """A command with some of everything."""

    name = "vifibnet-example"
    description = "An example."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Options with one, many, repeated and no values."""
        parser.add_argument("port", type=port_number, metavar="PORT")
        parser.add_argument("--hello", type=number(0.01, 3600, "seconds"), default=15.0)
        parser.add_argument("-v", "--verbose", type=integer(0, 5), default=0)
        parser.add_argument("-w", "--wireless", action="store_true")
        parser.add_argument("--pp", nargs=2, action="append", metavar=("PORT", "PROTO"))
        parser.add_argument("--ca")

    def validate(self, namespace: argparse.Namespace, rest: Sequence[str]) -> Parsed:
        """Refuse one thing."""
        if namespace.ca == "bad":
            raise BadInput("--ca", "bad is\nbad", "give a good one")
        return namespace, list(rest)


class Base(SynchronousTestCase):
    """Helpers."""

    def parse(self, *words: str) -> Parsed:
        """Parse and return what came out."""
        options = Example()
        options.parseOptions(words)
        return options.config

    def refused(self, *words: str) -> str:
        """The one line that is shown, without the command's name."""
        text = self.assertRaises(SystemExit, self.parse, *words).code
        assert isinstance(text, str)
        self.assertNotIn("\n", text)
        name, _, sentence = text.partition(": ")
        self.assertEqual(name, "vifibnet-example")
        self.assertTrue(sentence.endswith("."), sentence)
        return sentence

    def file(self, name: str, text: str) -> Path:
        """Write one file of options."""
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def setUp(self) -> None:
        """A directory for the files."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()


class ParseTests(Base):
    """The command line."""

    def test_in_twistd(self) -> None:
        """It works as the sub-options of a usage.Options, as twistd uses it."""

        class Outer(usage.Options):
            subCommands = [("example", None, Example, "")]  # noqa: RUF012

        outer = Outer()
        outer.parseOptions(["example", "80", "--pp", "1", "udp", "-w", "--", "--key", "x"])
        self.assertIs(outer.subOptions.parent, outer)
        namespace, rest = outer.subOptions.config
        self.assertEqual((namespace.port, namespace.pp, namespace.wireless), (80, [["1", "udp"]], True))
        self.assertEqual(rest, ["--key", "x"])

    def test_rest(self) -> None:
        """What follows the first -- is passed on as it is, further -- and @ included."""
        self.assertEqual(self.parse("80", "--", "a", "--", "@b")[1], ["a", "--", "@b"])
        self.assertEqual(self.parse("80", "--")[1], [])

    def test_help(self) -> None:
        """The help names command and options; asking for it exits 0."""
        self.assertIn("usage: twistd vifibnet-example", str(Example()))
        self.assertIn("--hello", Example().getUsage(80))
        for option in ("--help", "--version"):
            self.assertIn(self.assertRaises(SystemExit, self.parse, option).code, (0, None))

    def test_refusals(self) -> None:
        """One sentence that names the option."""
        see = "twistd vifibnet-example --help"
        for words, sentence in (
            ((), f"PORT: missing; {see} tells what to give."),
            (("80", "--nope"), f"--nope: unknown option; {see} lists what there is."),
            (("80", "81"), f"81: unexpected argument; {see} lists what there is."),
            (("80", "--hel", "1"), f"--hel: unknown option; {see} lists what there is."),
            (("80", "--pp", "1"), f"--pp: expected 2 arguments; {see} tells what to give."),
            (
                ("80", "--hello", "x"),
                "--hello: 'x' is out of range or no number; give seconds from 0.01 to 3600.",
            ),
            (("0",), "PORT: '0' is out of range or no number; give an integer from 1 to 65535."),
            (
                ("80", "-v", "6"),
                "-v/--verbose: '6' is out of range or no number; give an integer from 0 to 5.",
            ),
            (("80", "--ca", "bad"), "--ca: bad is bad; give a good one."),
        ):
            self.assertEqual(self.refused(*words), sentence)

    @given(st.text())
    def test_numbers(self, text: str) -> None:
        """Any text is a number in range or refused with a sentence, nothing else."""
        for convert in (integer(0, 5), number(0, 1)):
            try:
                self.assertIn(int(convert(text)), range(6))
            except argparse.ArgumentTypeError as error:
                self.assertIn("; give ", str(error))

    def test_number_forms(self) -> None:
        """Only plain decimals are numbers."""
        self.assertEqual([number(0, 9)(text) for text in ("0", "1.", ".5", "2.25")], [0, 1, 0.5, 2.25])
        for text in ("", ".", "nan", "inf", "1e0", "1_0", " 1", "٣", "0x1", "1\n"):
            with self.assertRaises(argparse.ArgumentTypeError, msg=text):
                number(0, 9)(text)
            with self.assertRaises(argparse.ArgumentTypeError, msg=text):
                integer(0, 9)(text)


class FileTests(Base):
    """``@file``."""

    def test_read(self) -> None:
        """Comments, blank lines, quotes, options with and without --, nested files, extra arguments."""
        self.file("sub/inner.conf", "@deeper.conf\nwireless\n")
        self.file("sub/deeper.conf", "pp 1194 udp\n--pp 1195 tcp-server")
        path = self.file(
            "outer.conf",
            "# a comment\n\nhello 0.5  # half a second\n  --ca 'a b/#c.pem'\n"
            "@sub/inner.conf\nverbose=3\n-- --key 'k 1' --mssfix 0\n",
        )
        namespace, rest = self.parse("80", f"@{path}", "--verbose", "4", "--", "--fast-io")
        self.assertEqual(
            vars(namespace),
            {
                "port": 80, "hello": 0.5, "verbose": 4, "wireless": True, "ca": "a b/#c.pem",
                "pp": [["1194", "udp"], ["1195", "tcp-server"]],
            },
        )  # fmt: skip
        self.assertEqual(rest, ["--key", "k 1", "--mssfix", "0", "--fast-io"])

    def test_twice(self) -> None:
        """The same file may be named twice as long as it does not include itself."""
        path = self.file("a.conf", "pp 1 udp")
        self.assertEqual(self.parse(f"@{path}", "80", f"@{path}")[0].pp, [["1", "udp"]] * 2)

    def test_refusals(self) -> None:
        """What is wrong in a file is said with file and line."""
        see = "twistd vifibnet-example --help"
        for text, problem in (
            ("\n\nhelo 1\n", f"line 3: --helo: unknown option; {see} lists what there is."),
            ("pp 1", f"line 1: --pp: expected 2 arguments; {see} tells what to give."),
            ("hello x", "line 1: --hello: 'x' is out of range or no number; give seconds from 0.01 to 3600."),
            ("-v 3", "line 1: -v is a short option; use the long one: files take no other."),
            ("ca 'x", "line 1: No closing quotation; close the quotation or escape it."),
            ("@x y", "line 1: 'y' follows @x; put each on its own line."),
            ("hello 1 2 3", f"line 1: 2: unexpected argument; {see} lists what there is."),
        ):
            path = self.file("bad.conf", text)
            self.assertEqual(self.refused("80", f"@{path}"), f"{path}, {problem}")

    def test_loop(self) -> None:
        """A file that includes itself, over however many others, is refused."""
        self.file("b.conf", "@a.conf")
        path = self.file("a.conf", "@b.conf")
        self.assertIn("a.conf: the file includes itself; take it out of ", self.refused("80", f"@{path}"))

    def test_unreadable(self) -> None:
        """A missing file, a directory and a binary file are refused by name."""
        for path in (self.directory / "none", self.directory):
            self.assertTrue(self.refused(f"@{path}").startswith(f"@{path}: cannot be read ("))
        (self.directory / "binary").write_bytes(b"\xff\xfe")
        self.assertIn("cannot be read", self.refused(f"@{self.directory / 'binary'}"))
