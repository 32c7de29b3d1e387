"""``vifibnet invite``: print invitations, each good for one node."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from vifibnet.cli import adminclient
from vifibnet.cli.tables import counted, minute, seconds
from vifibnet.errors import BadInput
from vifibnet.wire.admin import MAX_INVITATIONS, Invite

MAX_COUNT = 10_000
"""More at once are a mistake."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """For whom, for how long, how many."""
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument("--email", metavar="ADDRESS", help="whose node it will be, for the list of nodes")
    whose.add_argument("--anonymous", action="store_true", help="for nobody in particular (the default)")
    parser.add_argument(
        "--prefix-length", metavar="BITS", type=int, help="of the node's prefix (default: the registry's, 16)"
    )
    parser.add_argument(
        "--valid", metavar="TIME", default="24h", help="how long, such as 30m, 24h, 7d (default: %(default)s)"
    )
    parser.add_argument("--count", metavar="N", type=int, default=1, help="how many (default: %(default)s)")
    parser.add_argument("--qr", action="store_true", help="also as a QR code, to be read from this terminal")
    adminclient.add_arguments(parser)
    parser.epilog = "Only the invitations go to standard output; each is a secret until it was used."


async def run(reactor: Any, args: argparse.Namespace) -> int:
    """Print them. Raises BadInput."""
    valid = seconds("--valid", args.valid)
    if not 0 < args.count <= MAX_COUNT:
        raise BadInput(f"--count {args.count}", "is not 1 to 10000", "give another number")
    missing, answer = args.count, {}
    async with adminclient.running_registry(reactor, args) as registry:
        while missing:
            some = min(missing, MAX_INVITATIONS)
            answer = await registry.call(
                Invite, count=some, valid=valid, email=args.email, prefix_length=args.prefix_length
            )
            missing -= some
            for line in answer["invitations"]:
                print(line)
                if args.qr:
                    _print_code(line)
    sys.stdout.flush()
    print(_about(args, answer), file=sys.stderr)
    return 0


def _about(args: argparse.Namespace, answer: dict[str, Any]) -> str:
    where = ", ".join(answer["addresses"])
    whose = args.email or "anybody"
    return (
        f"{counted(args.count, 'invitation')} to {answer['network']} for {whose}, until"
        f" {minute(answer['expires'])} UTC.\n"
        f"The way to the registry: {where}, port {answer['port']}\n"
        "On a machine that is to join: vifibnet setup --dir /var/lib/vifibnet INVITATION"
    )


def _print_code(line: str) -> None:
    """The invitation as a QR code of half blocks, some 45 columns wide."""
    import segno

    # Capitals and digits take less room in a QR code, and case does not matter.
    segno.make_qr(line.upper(), error="l").terminal(out=sys.stdout, border=2, compact=True)
