"""How often a node takes a live neighbour for dead, and what that costs, on lines that lose some packets.

A lab in which some hosts ping each other, 100 times a second. For each part of the packets that all lines
lose at random it counts what the nodes' logs say about neighbours that are heard no more, although nobody has
gone, and the longest time without an answer. 0 % beside processes that take every core is a line of its own.
Prints a table on stderr and a JSON document on stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import AsyncExitStack
from functools import partial
from itertools import combinations
from typing import Any

from bench.failover import machine, progress
from vifibnet.cli.main import finish
from vifibnet.lab.children import Child, Reactor, sleep
from vifibnet.lab.network import Lab
from vifibnet.lab.pulse import INTERVAL, Pulse
from vifibnet.lab.settings import LabSettings
from vifibnet.lab.table import columns
from vifibnet.node.otherend import NO_MORE
from vifibnet.node.status import read_status

PAIRS = 5
"""So many ping at a time."""

SETTLE = 10.0
"""Seconds that a line which has become worse, or better, is given before anything is counted."""

BURN = "while True: pass"
"""A process that takes a core."""


def alarms(lab: Lab) -> int:
    """How many neighbours' silence all nodes have noticed so far."""
    logs = (lab.directory(name) / "node.log" for name in lab.hosts)
    return sum(log.read_text(errors="replace").count(NO_MORE) for log in logs)


async def neighbours(reactor: Reactor, lab: Lab) -> int:
    """How many ends of tunnels are watched in the whole lab."""
    found = [await read_status(reactor, lab.directory(name) / "status.sock") or {} for name in lab.hosts]
    return sum(len(status.get("neighbours", ())) for status in found)


async def count(reactor: Reactor, lab: Lab, seconds: float, loss: int, burners: int) -> dict[str, Any]:
    """One line of the table."""
    names = list(lab.hosts)
    async with AsyncExitStack() as stack:
        for one, other in combinations([lab.host(name).index for name in names], 2) if loss else ():
            await lab.underlay.lose(one, other, loss)
        for _ in range(burners):
            burner = Child(reactor, [sys.executable, "-c", BURN])
            burner.start()
            stack.push_async_callback(burner.stop)
        pulses = []
        for index in range(PAIRS):
            source, target = names[index % len(names)], names[(index + 3) % len(names)]
            pulse = Pulse.start(reactor, partial(lab.inside, source), lab.host(target).address)
            stack.push_async_callback(pulse.child.stop)
            pulses.append(pulse)
        await sleep(reactor, SETTLE)
        before, began = alarms(lab), reactor.seconds()
        await sleep(reactor, seconds)
        after = alarms(lab)
        ends = await neighbours(reactor, lab)
        for pulse in pulses:
            await pulse.stop()
        holes = [end - first for pulse in pulses for first, end in pulse.holes() if pulse.due(first) >= began]
    await lab.underlay.mend()
    return {
        "loss": loss,
        "burners": burners,
        "ends": ends,
        "alarms": after - before,
        "hourly": round((after - before) / ends / seconds * 3600, 1),
        "lost": sum(holes),
        "gap": round(max(holes, default=0) * INTERVAL, 2),
    }


async def main(reactor: Reactor, args: argparse.Namespace) -> int:
    """Measure and print."""
    about = await machine(reactor)
    options = ("tunnel-refresh 86400",)
    settings = LabSettings(name=f"alarm{os.getpid()}", nodes=args.nodes, node_options=options)
    lab = await Lab.up(reactor, settings, progress)
    found = []
    try:
        await lab.all_reached()
        cases = [(int(loss), 0) for loss in args.loss.split(",")]
        for loss, burners in [*cases, (0, os.cpu_count() or 1)]:
            progress(f"{loss} % loss, {burners} burners")
            found.append(await count(reactor, lab, args.seconds, loss, burners))
    finally:
        await lab.down()
    progress("")
    keys = ("loss", "burners", "ends", "alarms", "hourly", "lost", "gap")
    headings = ("loss %", "burners", "ends", "alarms", "an hour and end", "pings lost", "longest gap")
    rows = [[str(each[key]) for key in keys] for each in found]
    print("\n".join(columns(headings, rows, frozenset(range(len(keys))))), file=sys.stderr)
    print(f"{args.nodes} nodes, {PAIRS} pairs, {args.seconds:g} s each; {about}", file=sys.stderr)
    document = {"bench": "alarms", "machine": about, "seconds": args.seconds, "cases": found}
    print(json.dumps(document, indent=1))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--loss", default="0,1,2,5", help="percent, with commas between (%(default)s)")
    parser.add_argument("--seconds", type=float, default=40.0)
    arguments = parser.parse_args()

    finish("bench.alarms", lambda reactor: main(reactor, arguments))
