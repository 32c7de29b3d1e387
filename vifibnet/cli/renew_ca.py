"""``vifibnet renew-ca``: make the authority that follows on the network's present one."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from vifibnet.cli import adminclient
from vifibnet.cli.ca import days
from vifibnet.cli.tables import minute, seconds
from vifibnet.wire.admin import RenewCA


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What kind of authority, and from when on."""
    parser.add_argument(
        "--new-key", action="store_true", help="with a new private key (default: with the one that there is)"
    )
    parser.add_argument("--days", default="3650", help="how long it lasts from now on (default: %(default)s)")
    parser.add_argument(
        "--wait",
        metavar="TIME",
        default="30d",
        help="how long the old one goes on signing while the nodes learn the new one, such as 12h or 30d: a"
        " node that was off for all that time, and starts without the registry, may find others that it does"
        " not believe (default: %(default)s)",
    )
    adminclient.add_arguments(parser)
    parser.epilog = (
        "Nothing has to be restarted, and no tunnel ends. The registry writes its --ca file anew, with a new"
        " key that of --key as well. Connected nodes know the new authority at once, the others when they"
        " come back; they renew their certificates when these are due. The old authority goes when no"
        " certificate of it counts any more."
    )


async def run(reactor: Any, args: argparse.Namespace) -> int:
    """Have the registry make it, and say what comes next. Raises BadInput and NotDone."""
    arguments = {"new_key": args.new_key, "days": days(args.days), "wait": seconds("--wait", args.wait)}
    async with adminclient.running_registry(reactor, args) as registry:
        made = await registry.call(RenewCA, **arguments)
    print(report(args.new_key, made))
    return 0


def report(new_key: bool, made: dict[str, Any]) -> str:
    """What was made, and what to do with it."""
    files = [made["ca"], made["key"]] if new_key else [made["ca"]]
    again = f"Keep a copy of {' and '.join(map(shlex.quote, files))} in a safe place.\n" if made["ca"] else ""
    return (
        f"The network has a new certificate authority until {minute(made['end'])} UTC, SHA-256 fingerprint\n"
        f"  {made['fingerprint']}\n"
        f"It signs from {minute(made['signs_from'])} UTC on; until then the old one does, which lasts until"
        f" {minute(made['old_end'])} UTC.\n"
        f"{again}"
        "The nodes learn it now, or when they come back; vifibnet nodes shows until when their certificates"
        " last."
    )
