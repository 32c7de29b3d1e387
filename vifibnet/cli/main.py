"""The ``vifibnet`` command: finds the subcommand, turns an error into one line and a non-zero exit."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import NoReturn

from twisted.internet.task import react

from vifibnet import __version__
from vifibnet.errors import VifibnetError

COMMANDS = {
    "ca": "make a certificate authority for a new network",
    "setup": "join a network: get its CA, a token, a certificate and a first peer",
    "lab": "run a whole network on this machine, in network namespaces",
}
"""Each is a module of this package with ``add_arguments(parser)`` and ``async run(reactor, args) -> int``."""


def main(argv: list[str] | None = None) -> NoReturn:
    """Run one subcommand and exit with its status; 1 after an error, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="vifibnet", description=(import_module("vifibnet").__doc__))
    parser.add_argument("--version", action="version", version=f"vifibnet {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary.capitalize() + ".")
        # Only the command that is meant pays for its imports.
        if name in arguments[:1]:
            import_module(f"vifibnet.cli.{name}").add_arguments(command)
    args = parser.parse_args(arguments)
    run = import_module(f"vifibnet.cli.{args.command}").run

    async def guarded(reactor: object) -> None:
        try:
            status = await run(reactor, args)
        except VifibnetError as error:
            print(f"vifibnet {args.command}: {error}", file=sys.stderr)
            status = 1
        if status:
            raise SystemExit(status)

    react(guarded)
    raise AssertionError("react never returns")


def setup() -> NoReturn:
    """The ``vifibnet-setup`` command, under its name of 2012."""
    main(["setup", *sys.argv[1:]])
