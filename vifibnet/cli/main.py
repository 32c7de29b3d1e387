"""The ``vifibnet`` command: finds the subcommand, turns an error into one line and a non-zero exit."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import react

from vifibnet import __version__
from vifibnet.errors import VifibnetError

COMMANDS = {
    "ca": "make a certificate authority for a new network",
    "setup": "join a network: get its CA, a token, a certificate and a first peer",
    "status": "show how this machine's node, or with --registry its registry, is",
    "drain": "have what others send through this machine's node go elsewhere, for maintenance",
    "undrain": "have this machine's node carry again what others send",
    "invite": "on the registry's machine: print invitations, each good for one node",
    "nodes": "on the registry's machine: list the nodes",
    "tokens": "on the registry's machine: list the tokens and invitations that are still good",
    "revoke": "on the registry's machine: put a node out of the network, at once",
    "release": "on the registry's machine: take the prefix from a node that is gone for good",
    "set": "on the registry's machine: show or change what holds for the whole network",
    "renew-ca": "on the registry's machine: make the network's next certificate authority",
    "backup": "on the registry's machine: copy the running registry's database",
    "restore": "on the registry's machine: put a backup in the place of the database",
    "lab": "run a whole network on this machine, in network namespaces",
}
"""Each is a module of this package (- is _) with ``add_arguments(parser)`` and ``async run(reactor, args)``,
which returns the exit status."""

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.prog}: {message}; {self.prog} --help tells what to give.\n")


def main(argv: list[str] | None = None) -> NoReturn:
    """Run one subcommand and exit with its status; 1 after an error, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if argv is None else argv
    parser = _Parser(prog="vifibnet", description=(import_module("vifibnet").__doc__))
    parser.add_argument("--version", action="version", version=f"vifibnet {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        # Only the command that is meant pays for its imports.
        if name in arguments[:1]:
            _module(name).add_arguments(command)
    args = parser.parse_args(arguments)
    run = _module(args.command).run

    finish(f"vifibnet {args.command}", lambda reactor: run(reactor, args))


def _module(command: str) -> ModuleType:
    return import_module(f"vifibnet.cli.{command.replace('-', '_')}")


def finish(name: str, work: Callable[[Any], Coroutine[Deferred[Any], Any, int]]) -> NoReturn:
    """Run something under the reactor and exit with the status that it returns.

    An error becomes one line, headed by ``name``, and status 1. Ctrl-C cancels the work, waits until it has
    cleaned up, and becomes status 130.
    """

    async def guarded(reactor: Any) -> None:
        running = Deferred.fromCoroutine(work(reactor))
        interrupted = False

        def interrupt() -> Deferred[int]:
            nonlocal interrupted
            interrupted = not running.called
            # Whoever presses Ctrl-C again must not disturb the cleaning up.
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, lambda *_: None)
            running.cancel()
            return running.addErrback(lambda _: 1)

        # react alone would forget a command that Ctrl-C interrupts, and exit 0; cancelled, it cleans up.
        reactor.addSystemEventTrigger("before", "shutdown", interrupt)
        try:
            status = await running
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever reads has enough, as head does. Nor shall Python try again at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = 1
        except VifibnetError as error:
            status = 1
            if not interrupted:
                print(f"{name}: {error}", file=sys.stderr)
        except (CancelledError, KeyboardInterrupt):
            status = INTERRUPTED
        if interrupted:
            status = INTERRUPTED
        if status:
            raise SystemExit(status)

    react(guarded)
    raise AssertionError("react never returns")


def setup() -> NoReturn:
    """The ``vifibnet-setup`` command, under its name of 2012."""
    main(["setup", *sys.argv[1:]])
