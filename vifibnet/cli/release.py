"""``vifibnet release``: take the prefix from a node that is gone for good."""

from __future__ import annotations

import argparse
from typing import Any

from vifibnet.cli import adminclient
from vifibnet.cli.tables import day
from vifibnet.wire.admin import Release


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which node."""
    parser.add_argument("node", metavar="PREFIX|ADDRESS", help="such as 5/16, or an address in its subnet")
    adminclient.add_arguments(parser)
    parser.epilog = (
        "The node's certificates count no longer, as with vifibnet revoke: it is cut off at once. Its prefix"
        " is free for others when the last of them has expired, for until then it could pass for the node"
        " wherever the revocation is not known yet."
    )


async def run(reactor: Any, args: argparse.Namespace) -> int:
    """Release it and say what that means. Raises NoSuchNode."""
    async with adminclient.running_registry(reactor, args) as registry:
        done = await registry.call(Release, node=args.node)
    whose = f", {done['email']}" if done["email"] else ""
    print(
        f"{done['prefix']} ({done['address']}{whose}) is no node any more: its certificates are revoked.\n"
        f"Its prefix is free for others from {day(done['free'])} on, when none of them can be used any more."
    )
    return 0
