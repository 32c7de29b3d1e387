"""``vifibnet revoke``: put a node out of the network, or one of its certificates."""

from __future__ import annotations

import argparse
from typing import Any

from vifibnet.cli import adminclient
from vifibnet.wire.admin import Revoke


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is revoked and why."""
    parser.add_argument(
        "what",
        metavar="PREFIX|SERIAL|ADDRESS",
        help="the node, by its prefix (5/16) or an address of its subnet; or one certificate, by its serial"
        " number (decimal, or hexadecimal after 0x), when the node has a newer one and stays",
    )
    parser.add_argument("--reason", default="", metavar="TEXT", help="for the registry's audit log")
    adminclient.add_arguments(parser)


async def run(reactor: Any, args: argparse.Namespace) -> int:
    """Have the registry revoke it."""
    async with adminclient.running_registry(reactor, args) as registry:
        answer = await registry.call(Revoke, what=args.what, reason=args.reason)
    print(f"{answer['done']}; the revocation list has number {answer['number']}")
    return 0
