"""``vifibnet undrain``: have this machine's node carry again what others send through it."""

from __future__ import annotations

import argparse
from typing import Any

from vifibnet.cli import nodeclient
from vifibnet.wire.control import Undrain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of whom."""
    nodeclient.add_arguments(parser)


async def run(reactor: Any, args: argparse.Namespace) -> int:
    """Do it, and tell whether it was needed. Raises NodeNotRunning, NodeRefusal and BadInput."""
    answer = await nodeclient.call(reactor, args.state, Undrain)
    prefix = (await nodeclient.node_status(reactor, args.state))["prefix"]
    said = "carries others' packets again" if answer["before"] else "was not drained"
    print(f"node {prefix} {said}")
    return 0
