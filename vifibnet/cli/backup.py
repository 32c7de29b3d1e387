"""``vifibnet backup``: copy the running registry's database."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vifibnet.cli import adminclient
from vifibnet.cli.tables import counted
from vifibnet.wire.admin import Backup

TIMEOUT = 3600.0
"""Seconds; a second or two for 100,000 nodes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to."""
    parser.add_argument("file", metavar="FILE", type=Path, help="a file that is not there yet")
    adminclient.add_arguments(parser)
    parser.epilog = (
        "The registry goes on meanwhile. A complete backup is this file and the certificate authority's"
        " certificate and key."
    )


async def run(reactor: Any, args: argparse.Namespace) -> int:
    """Have the registry copy it. Raises NotDone."""
    async with adminclient.running_registry(reactor, args) as registry:
        done = await registry.call(Backup, TIMEOUT, path=str(args.file.absolute()))
    print(f"{args.file}: {counted(done['nodes'], 'node')}, {done['size']} bytes")
    return 0
