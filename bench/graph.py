"""Whether the tunnels that nodes choose hold a network together when many nodes die at once.

Nodes that decide by the real plan are started in random order within a minute, and left alone until they are
calm. Then a share of them is killed, again and again from the same state: what is connected right after that,
before anybody could do anything about it, and after the survivors have repaired one of these. A node that can
be reached has places for so many clients. Prints a table on stderr and a JSON document on stdout; exits 1
when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from random import Random
from statistics import fmean
from time import process_time
from typing import Any

from bench.network import Shape, Simulation
from vifibnet.lab.table import columns

START = 60.0
"""Seconds within which all nodes are started."""

GOALS = {(1000, 1.0, 0.5): 0.995, (1000, 0.3, 0.3): 0.995}
"""By nodes, share reachable and share killed: in how many runs all are connected before any repair."""

SOURCES = 10
"""From how many nodes the hops to all others are counted."""


@dataclass(frozen=True)
class Measure:
    """How well the survivors are connected: whether all are, the share of them in the largest component,
    the hops between two of its nodes on average, the most and on average served, the fewest links."""

    connected: bool
    largest: float
    hops: float
    most_served: int
    mean_served: float
    fewest_links: int


@dataclass(frozen=True)
class Found:
    """One network: what it was before it was hurt, and for one share killed all that was seen then.

    ``opened`` counts the tunnels that came up by node until calm, ``refused`` the tries that did not;
    ``reopened`` and ``retried`` the same by survivor during the repair.
    """

    reachable: float
    killed: float
    whole: Measure
    before: tuple[Measure, ...]
    after: Measure
    opened: float
    refused: float
    reopened: float
    retried: float
    seconds: float


def measure(simulation: Simulation, rng: Random) -> Measure:
    """Look at it as it is now."""
    neighbours = simulation.neighbours()
    unseen, largest = set(neighbours), set[int]()
    while unseen:
        component = set(distances(neighbours, next(iter(unseen))))
        unseen -= component
        largest = max(largest, component, key=len)
    sources = rng.sample(sorted(largest), min(SOURCES, len(largest)))
    hops = [hop for source in sources for hop in distances(neighbours, source).values() if hop]
    alive = [simulation.nodes[number] for number in neighbours]
    served = [len(node.served) for node in alive if node.reachable]
    return Measure(
        connected=len(largest) == len(neighbours),
        largest=len(largest) / len(neighbours),
        hops=fmean(hops) if hops else 0.0,
        most_served=max(served, default=0),
        mean_served=fmean(served) if served else 0.0,
        fewest_links=min(map(len, neighbours.values())),
    )


def distances(neighbours: dict[int, list[int]], source: int) -> dict[int, int]:
    """How many hops it is to each that can be reached."""
    found, queue = {source: 0}, deque([source])
    while queue:
        number = queue.popleft()
        for other in neighbours[number]:
            if other not in found:
                found[other] = found[number] + 1
                queue.append(other)
    return found


def one(job: tuple[argparse.Namespace, float, int]) -> list[Found]:
    """One network, hurt in every way."""
    args, reachable, seed = job
    began = process_time()
    rng = Random(f"{args.nodes} {reachable} {seed}")
    simulation = Simulation(Shape(args.nodes, reachable, places=args.places), rng)
    simulation.start(START)
    simulation.run(args.calm)
    whole, opened, tried = measure(simulation, rng), simulation.opened, simulation.tried
    results = []
    for killed in args.killed:
        before = []
        for draw in range(args.kills):
            hurt = simulation.copy(Random(f"{seed} {killed} {draw}"))
            hurt.kill(killed)
            before.append(measure(hurt, rng))
        # The last one of these is given the time to repair itself.
        hurt.run(args.calm + args.repair)
        survivors = sum(node.alive for node in hurt.nodes)
        results.append(
            Found(
                reachable=reachable,
                killed=killed,
                whole=whole,
                before=tuple(before),
                after=measure(hurt, rng),
                opened=opened / args.nodes,
                refused=(tried - opened) / args.nodes,
                reopened=(hurt.opened - opened) / survivors,
                retried=(hurt.tried - tried - hurt.opened + opened) / survivors,
                seconds=process_time() - began,
            )
        )
    return results


def run(args: argparse.Namespace) -> list[Found]:
    """All networks."""
    jobs = [(args, reachable, seed) for seed in range(args.seeds) for reachable in args.reachable]
    results: list[Found] = []
    with ProcessPoolExecutor(args.jobs) as pool:
        for number, found in enumerate(pool.map(one, jobs), start=1):
            results += found
            if sys.stderr.isatty():
                print(f"\r\033[K{number} of {len(jobs)} networks", end="", file=sys.stderr, flush=True)
    return results


def summary(results: Sequence[Found], args: argparse.Namespace) -> dict[str, Any]:
    """What was found, as a JSON document."""
    rows = []
    for reachable, killed in product(args.reachable, args.killed):
        found = [each for each in results if (each.reachable, each.killed) == (reachable, killed)]
        before = [one for each in found for one in each.before]
        row: dict[str, Any] = {"reachable": reachable, "killed": killed, "networks": len(found)}
        row["whole"] = average(each.whole for each in found)
        row["before"] = average(before)
        row["after"] = average(each.after for each in found)
        for name in ("opened", "refused", "reopened", "retried", "seconds"):
            row[name] = round(fmean(getattr(each, name) for each in found), 2)
        goal = GOALS.get((args.nodes, reachable, killed))
        if goal is not None:
            row["goal"] = goal
            row["met"] = row["before"]["connected"] >= goal and row["after"]["connected"] == 1
        rows.append(row)
    return {
        "bench": "graph",
        "nodes": args.nodes,
        "places": args.places,
        "seeds": args.seeds,
        "kills": args.kills,
        "rows": rows,
        "met": all(row.get("met", True) for row in rows),
    }


def average(measures: Iterable[Measure]) -> dict[str, Any]:
    """Several as one."""
    some = list(measures)
    return {
        "runs": len(some),
        "connected": fmean(each.connected for each in some),
        "largest": round(fmean(each.largest for each in some), 5),
        "hops": round(fmean(each.hops for each in some), 2),
        "most_served": max(each.most_served for each in some),
        "mean_served": round(fmean(each.mean_served for each in some), 1),
        "fewest_links": min(each.fewest_links for each in some),
    }


def table(found: dict[str, Any]) -> list[str]:
    """The rows for a terminal."""
    headings = ["reachable", "killed", "", "runs", "all connected", "largest part", "hops", "served", "most"]
    headings += ["fewest links", "opened", "in vain", "goal"]
    cells = []
    for row in found["rows"]:
        share = f"{row['reachable']:.0%}", f"{row['killed']:.0%}"
        for name, opened, vain in (
            ("whole", "opened", "refused"),
            ("before", "", ""),
            ("after", "reopened", "retried"),
        ):
            at = row[name]
            line = [*share, name if name == "whole" else f"{name} repair", str(at["runs"])]
            line += [f"{at['connected']:.2%}", f"{at['largest']:.3%}", f"{at['hops']:.2f}"]
            line += [f"{at['mean_served']:.1f}", str(at["most_served"]), str(at["fewest_links"])]
            line += [f"{row[opened]:.1f}" if opened else "", f"{row[vain]:.1f}" if vain else ""]
            line += [f"{row['goal']:.1%}" if name == "before" and "goal" in row else ""]
            cells.append(line)
            share = "", ""
    return columns(headings, cells, frozenset(range(len(headings))) - {2})


def main() -> int:
    """Simulate and print; return 1 when a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--places", type=int, default=40, help="clients that a server takes")
    parser.add_argument("--seeds", type=int, default=10, help="networks for each share of reachable nodes")
    parser.add_argument("--kills", type=int, default=10, help="how often each network is hurt in each way")
    parser.add_argument("--reachable", type=float, nargs="+", default=[1.0, 0.3, 0.1])
    parser.add_argument("--killed", type=float, nargs="+", default=[0.3, 0.5, 0.7])
    parser.add_argument("--calm", type=float, default=600.0, help="seconds from the start to the deaths")
    parser.add_argument("--repair", type=float, default=120.0, help="seconds from the deaths to the end")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", action="store_true", help="print the JSON document only")
    args = parser.parse_args()
    found = summary(run(args), args)
    if not args.json:
        clear = "\r\033[K" if sys.stderr.isatty() else ""
        print(clear + "\n".join(table(found)), file=sys.stderr)
    print(json.dumps(found, indent=1))
    return 0 if found["met"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
