"""How much TCP passes our tunnels, beside openvpn started by hand with the best settings known.

Over one tunnel and over two, one after the other, in both directions; ours and those by hand take turns on
the same three hosts, and the same hosts are client and server. A tunnel by hand with the greatest MTU that
this underlay carries is shown, too: ours must fit other underlays, so the goals compare equal MTUs. Beside
the speed stands how much processor time the openvpns took for a gigabyte, which depends less on what else
the machine does.

An openvpn whose tunnel has been silent needs a sixth less at first: it looks after TLS at every packet once a
packet was waiting when it looked, every 15 s at least (openvpn 2.6, tls_process, interval.h). In
our tunnels a heartbeat was; by hand one of the run's own packets is in the end, after ten seconds in some and
sooner in others. So all tunnels are kept busy for a while before what passes them counts; ``--warm 0`` shows
what that makes.

Prints a table on stderr and a JSON document on stdout; exits 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench.failover import machine, progress
from vifibnet.cli.main import finish
from vifibnet.errors import VifibnetError
from vifibnet.lab.byhand import Chain, Hop
from vifibnet.lab.children import Reactor, sleep
from vifibnet.lab.faults import processes
from vifibnet.lab.network import Lab
from vifibnet.lab.settings import LabSettings
from vifibnet.lab.stream import End, rush
from vifibnet.lab.table import columns
from vifibnet.lab.usage import cpu_seconds

GOALS = {1: 0.97, 2: 0.9}
"""By hops: at least this share of what passes by hand."""

BEST_MTU = 1434
"""The greatest that goes through an IPv4 underlay of 1500 bytes."""

OURS, HAND, LARGE, BARE = "ours", "by hand", f"by hand, MTU {BEST_MTU}", "no tunnel"
HOPS = (Hop(client="h1", server="h0"), Hop(client="h2", server="h1"))


@dataclass(frozen=True)
class Over:
    """What is measured: between which ends, over openvpns with which taps (how their names begin)."""

    ends: tuple[End, End]
    taps: str = "none"


@dataclass(frozen=True)
class Run:
    """What one run found: Mbit/s, and seconds of the openvpns' processor time for 10^9 bytes."""

    mbits: float
    cpu: float


Way = tuple[int, str]
"""By how many hops and over what."""


async def wire(reactor: Reactor, args: argparse.Namespace) -> Lab:
    """Three hosts in a line: h1 has a tunnel to h0, and h2 to h1."""
    settings = LabSettings(
        name=f"through{os.getpid()}",
        nodes=3,
        connection_count=0,
        hello=args.hello,
        mtu=args.mtu,
        node_options=("peers-db-refresh 3600", *args.node_option),
    )
    lab = await Lab.up(reactor, settings, progress, start=False)
    try:
        between = 'iifname "h{}" oifname "h{}" meta l4proto udp'
        await lab.underlay.drop(between.format(0, 2), between.format(2, 0))
        for name in ("h1", "h2"):
            await lab.node(name).start(lab.node_command(name, "--connection-count", "1"))
            await _connected(lab, name)
        await lab.all_reached()
        way = await lab.way("h0", "h2")
        if way != ["h0", "h1", "h2"]:
            raise VifibnetError(f"the way from h0 to h2 is {way}")
    except BaseException:
        await lab.down()
        raise
    return lab


async def _connected(lab: Lab, name: str) -> None:
    """Wait until a host's tunnel is up."""
    deadline = lab.reactor.seconds() + 30
    while not (await lab.report(name)).tunnels:
        if lab.reactor.seconds() > deadline:
            raise VifibnetError(f"{name} got no tunnel; see {lab.directory(name)}")
        await sleep(lab.reactor, 0.1)


def cpu(lab: Lab, taps: str) -> float:
    """Processor time so far, in seconds, of the openvpns on all hosts whose taps' names begin so."""
    total = 0.0
    for name in lab.hosts:
        for pid, argv in processes(lab, name).items():
            # One may end at any moment.
            if "--dev" in argv and argv[argv.index("--dev") + 1].startswith(taps):
                with suppress(OSError):
                    total += cpu_seconds(Path(f"/proc/{pid}/stat").read_text())
    return total


async def measure(reactor: Reactor, args: argparse.Namespace) -> dict[Way, list[Run]]:
    """All runs."""
    lab = await wire(reactor, args)
    chains: list[Chain] = []
    try:
        ways: dict[Way, Over] = {}
        ends = {name: End(partial(lab.inside, name), host.address) for name, host in lab.hosts.items()}
        for hops, last in ((1, "h1"), (2, "h2")):
            ways[hops, OURS] = Over((ends["h0"], ends[last]), "vif")
        for number, (hops, name, mtu) in enumerate(
            ((1, HAND, args.mtu), (2, HAND, args.mtu), (1, LARGE, BEST_MTU))
        ):
            chain = Chain(lab, number, mtu, HOPS[:hops], "h0")
            chains.append(chain)
            await chain.up()
            ways[hops, name] = Over(chain.ends, chain.tap)
        bare = [End(partial(lab.inside, name), lab.host(name).underlay) for name in ("h0", "h1")]
        ways[0, BARE] = Over((bare[0], bare[1]))
        return await _repeat(lab, args, ways)
    finally:
        for chain in chains:
            await chain.down()
        await lab.down()


async def _repeat(lab: Lab, args: argparse.Namespace, ways: dict[Way, Over]) -> dict[Way, list[Run]]:
    """All in turn, again and again, in a different order each time."""
    found: dict[Way, list[Run]] = {way: [] for way in ways}
    for repetition in range(args.runs):
        turn = list(ways.items())
        for way, over in turn if repetition % 2 else reversed(turn):
            if args.warm and way[0]:
                await rush(lab.reactor, *over.ends, args.warm)
            for source, target in (over.ends, over.ends[::-1]):
                progress(f"run {repetition + 1} of {args.runs}: {way[0]} hops, {way[1]}")
                before = cpu(lab, over.taps)
                stream = await rush(lab.reactor, source, target, args.seconds, skip=0.5)
                took = cpu(lab, over.taps) - before
                found[way].append(Run(stream.mbits, took / stream.sent * 1e9))
    return found


def summary(found: Mapping[Way, Sequence[Run]]) -> list[dict[str, Any]]:
    """The medians, and what share ours are of those by hand at the same MTU."""
    rows = []
    mbits = {way: median(run.mbits for run in runs) for way, runs in found.items()}
    costs = {way: median(run.cpu for run in runs) for way, runs in found.items()}
    for way, runs in sorted(found.items()):
        hops, over = way
        row: dict[str, Any] = {"hops": hops, "over": over, "runs": [round(run.mbits, 1) for run in runs]}
        row |= {"median": round(mbits[way], 1), "cpu_seconds_per_gb": round(costs[way], 2)}
        if over == OURS:
            row["ratio"] = round(mbits[way] / mbits[hops, HAND], 3)
            row["cpu_ratio"] = round(costs[way] / costs[hops, HAND], 3)
            row["goal"] = GOALS[hops]
            row["met"] = row["ratio"] >= GOALS[hops]
        rows.append(row)
    return rows


async def main(reactor: Reactor, args: argparse.Namespace) -> int:
    """Measure and print; return 1 when a goal was missed."""
    about = await machine(reactor)
    rows = summary(await measure(reactor, args))
    progress("")
    cells = [
        [
            str(row["hops"]),
            row["over"],
            f"{row['median']:.0f}",
            f"{min(row['runs']):.0f}",
            f"{max(row['runs']):.0f}",
            *([f"{row['ratio']:.3f}", f"{row['goal']:.2f}"] if "goal" in row else ["", ""]),
            f"{row['cpu_seconds_per_gb']:.1f}",
            f"{row['cpu_ratio']:.3f}" if "cpu_ratio" in row else "",
        ]
        for row in rows
    ]
    headings = ("hops", "over", "Mbit/s", "least", "most", "ratio", "goal", "CPU s/GB", "ratio")
    print("\n".join(columns(headings, cells, frozenset((0, *range(2, 9))))), file=sys.stderr)
    runs = f"{2 * args.runs} runs of {args.seconds:g} s after {args.warm:g} s"
    print(f"TCP, {runs}, MTU {args.mtu}; {about}", file=sys.stderr)
    met = all(row.get("met", True) for row in rows)
    document = {"bench": "throughput", "mtu": args.mtu, "machine": about, "rows": rows, "met": met}
    print(json.dumps(document, indent=1))
    return 0 if met else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each, in each direction")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run")
    parser.add_argument("--warm", type=float, default=20.0, help="seconds that a tunnel is busy before them")
    parser.add_argument("--mtu", type=int, default=1400)
    parser.add_argument("--hello", type=float, default=0.5)
    parser.add_argument("--node-option", action="append", default=[], metavar="'NAME VALUE'")
    arguments = parser.parse_args()

    finish("bench.throughput", lambda reactor: main(reactor, arguments))
