"""An argparse parser where twistd expects an options object, with ``@file`` as the manual has it."""

from __future__ import annotations

import argparse
import math
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from pathlib import Path
from typing import ClassVar, Generic, NoReturn, TypeVar

from vifibnet import __version__
from vifibnet.errors import BadInput, VifibnetError

Config = TypeVar("Config")


class TwistdArguments(Generic[Config]):
    """The options of one ``twistd`` command; a subclass names them and makes its config of them.

    twistd calls ``parseOptions`` before it writes or starts anything. Bad input ends the process there,
    with status 1 and one line on stderr (SystemExit) instead of twistd's whole usage.
    """

    name: ClassVar[str]
    """The tapname: ``vifibnet-node``."""
    description: ClassVar[str] = ""
    parent: object = None
    """twistd's own options, which it assigns."""
    config: Config
    """What ``validate`` made of the options; there after ``parseOptions``."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments. May be called several times, each time with a new parser."""
        raise NotImplementedError

    def validate(self, namespace: argparse.Namespace, rest: Sequence[str]) -> Config:
        """Make the config of what was parsed and of what stood behind ``--``. Raises BadInput."""
        raise NotImplementedError

    def parseOptions(self, options: Sequence[str] | None = None) -> None:  # noqa: N802
        """Parse, validate, keep the result in ``config``. SystemExit with one sentence on bad input."""
        self._words = list(sys.argv[1:] if options is None else options)
        self._directory = Path.cwd()
        try:
            self.config = self.validate(*self._parse())
        except VifibnetError as error:
            raise SystemExit(f"{self.name}: {' '.join(str(error).split())}") from None

    def reread(self) -> Config:
        """Read the same command line and its files again, as ``make`` understands them; ``config`` stays what
        it was. Raises VifibnetError."""
        # Paths are relative to where we were started, whatever --rundir is.
        with chdir(self._directory):
            try:
                return self.make(*self._parse())
            except SystemExit:
                raise BadInput("--help or --version", "only for the command line", "remove it") from None

    def make(self, namespace: argparse.Namespace, rest: Sequence[str]) -> Config:
        """As ``validate``, without a look whether the machine is ready for another start."""
        return self.validate(namespace, rest)

    def _parse(self) -> tuple[argparse.Namespace, list[str]]:
        words = self._words
        here = words.index("--") if "--" in words else len(words)
        arguments, rest = self._expand(words[:here])
        namespace, unknown = self._parser().parse_known_args(arguments)
        self._refuse(unknown)
        return namespace, [*rest, *words[here + 1 :]]

    def getUsage(self, width: int | None = None) -> str:  # noqa: N802
        """The help text, for ``twistd`` and for ``--help``."""
        return self._parser().format_help()

    def __str__(self) -> str:
        return self.getUsage()

    def _parser(self) -> _Parser:
        parser = _Parser(
            prog=f"twistd {self.name}", description=self.description, allow_abbrev=False, add_help=False
        )
        parser.add_argument("--help", action="help", help="show this help and exit")
        parser.add_argument("--version", action="version", version=f"vifibnet {__version__}")
        self.add_arguments(parser)
        return parser

    def _refuse(self, unknown: Sequence[str]) -> None:
        if unknown:
            what = "unknown option" if unknown[0].startswith("-") else "unexpected argument"
            raise BadInput(unknown[0], what, f"twistd {self.name} --help lists what there is")

    def _expand(self, words: Sequence[str]) -> tuple[list[str], list[str]]:
        """Put the options of each ``@file`` in its place; also return what stood there behind ``--``."""
        arguments: list[str] = []
        rest: list[str] = []
        for word in words:
            if not word.startswith("@"):
                arguments.append(word)
                continue
            for where, line in _lines(Path(word[1:]), ()):
                if line[0] == "--":
                    rest += line[1:]
                else:
                    arguments += self._checked(where, line)
        return arguments, rest

    def _checked(self, where: str, line: list[str]) -> list[str]:
        """Parse one line for itself, so that what is wrong with it is said with its place."""
        parser = self._parser()
        for action in parser._actions[:]:
            action.required = False
            if not action.option_strings:
                parser._remove_action(action)
        try:
            self._refuse(parser.parse_known_args(line)[1])
        except BadInput as error:
            raise VifibnetError(f"{where}: {error}") from None
        return line


def _lines(path: Path, including: tuple[Path, ...]) -> Iterator[tuple[str, list[str]]]:
    """Yield place and words of every line of a file and of the files it names. Raises BadInput.

    The first word of a line comes out with its ``--``; a nested file is relative to the one naming it.
    """
    real = path.resolve()
    if real in including:
        raise BadInput(f"@{path}", "the file includes itself", f"take it out of {including[-1]}")
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadInput(f"@{path}", f"cannot be read ({problem})", "give a text file of options") from None
    for number, line in enumerate(text.splitlines(), 1):
        where = f"{path}, line {number}"
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise BadInput(where, str(error), "close the quotation or escape it") from None
        if not words:
            continue
        first = words[0]
        if first.startswith("@"):
            if len(words) > 1:
                raise BadInput(where, f"{words[1]!r} follows {first}", "put each on its own line")
            yield from _lines(path.parent / first[1:], (*including, real))
        elif first.startswith("-") and not first.startswith("--"):
            raise BadInput(where, f"{first} is a short option", "use the long one: files take no other")
        else:
            yield where, [first if first.startswith("--") else f"--{first}", *words[1:]]


class _Parser(argparse.ArgumentParser):
    """Raises BadInput instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        named = re.fullmatch(r"argument (.+?): (.*)", message, re.DOTALL)
        missing = re.fullmatch(r"the following arguments are required: (.*)", message)
        if missing:
            raise BadInput(missing[1], "missing", f"{self.prog} --help tells what to give")
        what, problem = (named[1], named[2]) if named else ("options", message)
        problem, _, remedy = problem.partition("; ")
        raise BadInput(what, problem, remedy or f"{self.prog} --help tells what to give")


def integer(low: int, high: int) -> Callable[[str], int]:
    """A type for add_argument: a decimal integer from ``low`` to ``high``, both included."""

    def convert(text: str) -> int:
        # int() would also take what nobody means: underscores, other scripts' digits.
        if not re.fullmatch(r"-?[0-9]{1,18}", text, re.ASCII) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(
                f"{text!r} is out of range or no number; give an integer from {low} to {high}"
            )
        return int(text)

    return convert


def number(low: float, high: float, unit: str = "a number") -> Callable[[str], float]:
    """A type for add_argument: a finite decimal number from ``low`` to ``high``, both included."""

    def convert(text: str) -> float:
        value = float(text) if re.fullmatch(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)", text, re.ASCII) else math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(
                f"{text!r} is out of range or no number; give {unit} from {low:g} to {high:g}"
            )
        return value

    return convert


port_number = integer(1, 65535)
"""A type for add_argument: a TCP or UDP port."""
