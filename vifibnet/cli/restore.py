"""``vifibnet restore``: put a backup in the place of the registry's database."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from vifibnet.cli import adminclient
from vifibnet.cli.tables import counted
from vifibnet.errors import BadInput, RegistryNotRunning
from vifibnet.store.restore import Restored, restore_database


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From where to where."""
    parser.add_argument("file", metavar="FILE", type=Path, help="what vifibnet backup wrote")
    adminclient.add_arguments(parser)
    parser.epilog = (
        "The registry must be stopped. The former database is kept beside the new one; what it knows of nodes"
        " that joined since the backup, of revocations and of used tokens is taken over, if it can be read."
    )


async def run(reactor: Any, args: argparse.Namespace) -> int:
    """Restore it and say what came of it. Raises BadInput."""
    try:
        async with adminclient.running_registry(reactor, args):
            raise BadInput(
                f"--registry {args.registry}", "is in use by a running registry", "stop that first"
            )
    except RegistryNotRunning:
        pass
    done = restore_database(args.file, args.registry.absolute(), f"uid {os.getuid()}", reactor.seconds())
    print("\n".join(report(args, done)))
    return 0


def report(args: argparse.Namespace, done: Restored) -> list[str]:
    """What the operator should know."""
    lines = [f"{args.registry}: {counted(done.nodes, 'node')}, from {args.file}"]
    if done.kept is not None:
        lines.append(f"The former database is {done.kept}")
    if done.taken is not None:
        lines.append(
            f"Taken over from it: {counted(done.taken.nodes, 'node')} that joined since the backup,"
            f" {counted(done.taken.revocations, 'revocation')}"
        )
    else:
        lines += [
            "What happened since the backup is not known here: nodes that joined since must join again, and",
            "what was revoked since must be revoked again.",
        ]
    if done.taken is not None and done.taken.lost:
        lines.append(f"{counted(done.taken.lost, 'node')} must join again: others have their prefixes here")
    return [*lines, "Now start the registry again."]
