"""``vifibnet drain``: have what others send through this machine's node go elsewhere."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from twisted.internet.task import deferLater

from vifibnet.cli import nodeclient
from vifibnet.cli.options import number
from vifibnet.cli.tables import counted
from vifibnet.node.drain import UNDERWAY
from vifibnet.wire.control import Drain

WAIT = 30.0
"""Seconds to wait, unless told otherwise: babel asks for other ways, and may have to ask twice."""

LOOK = 0.1
"""Seconds between two looks."""

CARRIES = 2
"""The exit status when something still goes through the node."""

Left = Sequence[Mapping[str, Any]]
"""Who still uses the node (model.status.LeftStatus)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of whom, and how long to wait."""
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=number(0, 86400, "seconds"),
        default=WAIT,
        help="how long to wait until nothing of others goes through it (default: %(default)g)",
    )
    parser.epilog = (
        "The node keeps its tunnels and is reached as before. It stays drained, also when it is started"
        " again, until vifibnet undrain. Exit status: 0 nothing goes through it any more,"
        f" {CARRIES} something still does, 1 an error."
    )
    nodeclient.add_arguments(parser)


async def run(reactor: Any, args: argparse.Namespace) -> int:
    """Drain it, wait, tell. Raises NodeNotRunning, NodeRefusal and BadInput."""
    began = reactor.seconds()
    await nodeclient.call(reactor, args.state, Drain)
    while True:
        answer = await nodeclient.node_status(reactor, args.state)
        if answer["drained"] is None:
            print(f"node {answer['prefix']} is not drained any more: somebody has undrained it meanwhile")
            return 1
        left: Left = answer["drained"]["left"]
        waited = reactor.seconds() - began
        if not left or waited >= args.wait:
            break
        await deferLater(reactor, LOOK)
    print("\n".join(report(answer["prefix"], left, waited)))
    if left:
        return CARRIES
    # What is on its way.
    await deferLater(reactor, UNDERWAY)
    return 0


def report(prefix: str, left: Left, waited: float) -> Iterator[str]:
    """The lines after ``waited`` seconds."""
    if not left:
        yield f"node {prefix} is drained: nothing of others goes through it, after {waited:.1f} s"
        return
    yield f"node {prefix} is drained, but after {waited:.1f} s this still goes through it:"
    for each in left:
        yield f"  {sentence(each)}"


def sentence(left: Mapping[str, Any]) -> str:
    """One who still uses the node."""
    who = f"{left['neighbour']} on {left['interface']}"
    if not left["destinations"]:
        return f"{who} has not said yet that it has moved its routes"
    where = ", ".join(left["destinations"])
    why = "has not moved" if left["moving"] else "has no other way to"
    return f"{who} {why} {counted(len(left['destinations']), 'subnet')}: {where}"
