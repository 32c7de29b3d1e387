"""What it costs when a tunnel is replaced while it is in use, and when a node in between is stopped.

One node of a lab refreshes its tunnels every few seconds; between it and the peers that it has tunnels to,
pings go both ways, a hundred a second each. Of each refresh the pings between the node and the peer whose
tunnel was dropped count. Then a node that others talk over is stopped as an operator does. Prints a table on
stderr and a JSON document on stdout; exits 1 when any refresh or stop lost more than one ping either way.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from bench.failover import machine, progress
from bench.stage import NoScene, Stage
from bench.trace import Trace
from vifibnet.cli.main import finish
from vifibnet.errors import VifibnetError
from vifibnet.lab.children import Reactor, sleep, together
from vifibnet.lab.network import Lab
from vifibnet.lab.pulse import Pulse, Verdict
from vifibnet.lab.settings import LabSettings
from vifibnet.lab.table import columns
from vifibnet.node.status import read_status

GOAL = 1
"""Pings that may be lost, each way."""

TAKEN = 10.0
"""Seconds after which babel has taken a new tunnel into use: it smooths the metrics of new routes."""


@dataclass(frozen=True)
class Timing:
    """Seconds from one refresh to the next, and how long to ping after a tunnel has gone."""

    every: float
    after: float

    @classmethod
    def of(cls, args: argparse.Namespace) -> Timing:
        """As asked for; else so that the slowest hello of babel's fits in."""
        every = TAKEN + 6 + 14 * args.hello if args.every is None else args.every
        return cls(every, 1 + 6 * args.hello if args.after is None else args.after)


class NoRefresh(VifibnetError):
    """{name} has not replaced a tunnel within {seconds:.0f} s."""


async def tunnels(stage: Stage, name: str) -> dict[str, str]:
    """The peers that a node has tunnels to which are up, each with its tap."""
    status = await read_status(stage.reactor, stage.lab.directory(name) / "status.sock") or {}
    names = {host.prefix: host.name for host in stage.lab.hosts.values()}
    return {names[each["peer"]]: each["tap"] for each in status.get("tunnels", ()) if each["up"]}


async def one_refresh(stage: Stage, name: str, timing: Timing) -> tuple[Verdict, Verdict] | None:
    """Ping through the next refresh; None when what was dropped was not the way that the pings took.

    Returns what was lost from the node to the peer and back, and the same seen from the peer.
    """
    lab, reactor = stage.lab, stage.reactor
    before = await tunnels(stage, name)
    direct = await _direct(stage, name, list(before), reactor.seconds() + TAKEN)
    ends = [ends for peer in direct for ends in ((name, peer), (peer, name))]
    pulses = {
        (one, other): Pulse.start(reactor, partial(lab.inside, one), lab.host(other).address)
        for one, other in ends
    }
    try:
        if stage.trace is not None:
            await stage.trace.begin(lab, (name, *direct))
        began = reactor.seconds() + 0.5
        await sleep(reactor, 0.5)
        gone = await _dropped(stage, name, before, began + 2 * timing.every)
        # What babel decides because of it comes later.
        await sleep(reactor, timing.after)
        await together(pulse.stop() for pulse in pulses.values())
    finally:
        await together(pulse.child.stop() for pulse in pulses.values())
    if gone not in direct:
        return None
    there, back = pulses[name, gone], pulses[gone, name]
    if stage.trace is not None:
        await stage.trace.end(f"{name} drops {gone}: {there.verdict(began)}", began, there)
    return there.verdict(began), back.verdict(began)


async def _direct(stage: Stage, name: str, peers: list[str], deadline: float) -> list[str]:
    """Wait until packets take the tunnels to the peers, or the time is up; return to whom they do."""
    while True:
        ways = await together(stage.lab.way(name, peer) for peer in peers)
        found = [peer for peer, way in zip(peers, ways, strict=True) if way == [name, peer]]
        if len(found) == len(peers) or stage.reactor.seconds() > deadline:
            return found
        await sleep(stage.reactor, 0.5)


async def _dropped(stage: Stage, name: str, before: dict[str, str], deadline: float) -> str:
    """Wait until one of the tunnels is gone; return whose."""
    while stage.reactor.seconds() < deadline:
        now = await tunnels(stage, name)
        if missing := [peer for peer, tap in before.items() if now.get(peer) != tap]:
            return missing[0]
        await sleep(stage.reactor, 0.1)
    raise NoRefresh(name=name, seconds=deadline - stage.reactor.seconds())


async def refreshes(stage: Stage, count: int, timing: Timing) -> list[tuple[Verdict, Verdict]]:
    """So many refreshes of one node."""
    lab, reactor = stage.lab, stage.reactor
    await stage.whole()
    name = f"h{len(lab.hosts) - 1}"
    await lab.stop(name)
    # Half of its two tunnels.
    options = ("--tunnel-refresh", f"{timing.every:g}", "--refresh-rate", "0.5")
    await lab.node(name).start(lab.node_command(name, *options))
    await lab.all_reached()
    found: list[tuple[Verdict, Verdict]] = []
    tries = 0
    while len(found) < count:
        tries += 1
        if tries > 3 * count:
            raise NoScene(what="tunnel of its own that its packets take", edges=name)
        progress(f"refresh {len(found) + 1} of {count}")
        verdicts = await one_refresh(stage, name, timing)
        if verdicts is not None:
            found.append(verdicts)
        # The next tunnel opens.
        await sleep(reactor, 1.0)
    return found


async def stops(stage: Stage, count: int) -> list[tuple[Verdict, Verdict]]:
    """So many stops of a node in between."""
    found = []
    for number in range(count):
        progress(f"stop {number + 1} of {count}")
        source, middle, target = await stage.over()
        verdict = await stage.watch(source, target, partial(stage.lab.stop, middle))
        found.append((verdict, verdict))
        await stage.lab.start(middle)
    return found


def summary(found: Sequence[tuple[Verdict, Verdict]]) -> dict[str, Any]:
    """The figures of one kind."""
    lost = [max(one.lost, other.lost) for one, other in found]
    gaps = [max(one.gap, other.gap) for one, other in found]
    return {
        "runs": [
            {"lost": [one.lost, other.lost], "gap": _finite(max(one.gap, other.gap))} for one, other in found
        ],
        "good": sum(number <= GOAL for number in lost),
        "lost": {"median": median(lost), "worst": max(lost)},
        "gap": {"median": _finite(median(gaps)), "worst": _finite(max(gaps))},
    }


def _finite(seconds: float) -> float | None:
    return round(seconds, 3) if math.isfinite(seconds) else None


async def main(reactor: Reactor, args: argparse.Namespace) -> int:
    """Measure and print; return 1 when the goal was missed."""
    about = await machine(reactor)
    settings = LabSettings(
        name=f"drain{os.getpid()}",
        nodes=args.nodes,
        hello=args.hello,
        node_options=("tunnel-refresh 86400", *args.node_option),
    )
    found: dict[str, dict[str, Any]] = {}
    lab = await Lab.up(reactor, settings, progress)
    try:
        stage = Stage(reactor, lab, Random(args.seed), args.trace and Trace(reactor, args.trace))
        if args.refreshes:
            found["refresh"] = summary(await refreshes(stage, args.refreshes, Timing.of(args)))
        if args.stops:
            found["stop in between"] = summary(await stops(stage, args.stops))
    finally:
        await lab.down()
    progress("")
    rows = [
        [
            kind,
            f"{each['good']} of {len(each['runs'])}",
            *(f"{each['lost'][which]:g}" for which in ("median", "worst")),
            *(str(each["gap"][which]) for which in ("median", "worst")),
        ]
        for kind, each in found.items()
    ]
    headings = ("", f"lost ≤ {GOAL}", "lost", "worst", "gap", "worst")
    print("\n".join(columns(headings, rows, frozenset(range(1, 6)))), file=sys.stderr)
    print(f"hello {args.hello:g} s; {about}", file=sys.stderr)
    met = all(each["good"] == len(each["runs"]) for each in found.values())
    document = {"bench": "draining", "hello": args.hello, "machine": about, "found": found, "met": met}
    print(json.dumps(document, indent=1))
    return 0 if met else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--refreshes", type=int, default=20)
    parser.add_argument("--stops", type=int, default=10)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--hello", type=float, default=LabSettings.hello)
    parser.add_argument("--every", type=float, metavar="SECONDS", help="from one refresh to the next")
    parser.add_argument("--after", type=float, metavar="SECONDS", help="to ping after a tunnel has gone")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trace", type=Path, metavar="FILE", help="append what happened in each run")
    parser.add_argument("--node-option", action="append", default=[], metavar="'NAME VALUE'")
    arguments = parser.parse_args()

    finish("bench.draining", lambda reactor: main(reactor, arguments))
