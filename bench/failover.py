"""How long two hosts cannot reach each other after a failure, and how many of 100 pings a second they lose.

Twelve kinds of failure, on labs of this machine; 0 is none at all, which shows what the probe itself loses.
Prints a table on stderr and a JSON document on stdout; exits 1 when the goal is missed. Idle costs are
measured by ``bench.idle``, refreshes by ``bench.draining``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter
from typing import Any

from bench import failures
from bench.stage import NoScene, Stage
from bench.trace import Trace
from vifibnet.cli.main import finish
from vifibnet.errors import VifibnetError
from vifibnet.lab.children import Reactor, run, together
from vifibnet.lab.network import Lab
from vifibnet.lab.pulse import INTERVAL, Verdict
from vifibnet.lab.settings import LabSettings
from vifibnet.lab.table import columns

GOAL = 1.0
"""Seconds, for every failure."""


@dataclass(frozen=True)
class Case:
    """One kind of failure. ``lossless``: no ping may be lost. ``later``: what disturbs is not the failure
    itself, so that the time counts for which pings were lost, not the time since. ``pinged``: lost pings are
    counted."""

    name: str
    title: str
    work: Callable[[Stage], Awaitable[Verdict | list[Verdict]]]
    lab: str = "eight"
    lossless: bool = False
    later: bool = False
    pinged: bool = True

    @property
    def number(self) -> int:
        """The number in the list of failures."""
        return int(self.name.rstrip("abc"))


CASES = (
    Case("0", "no failure", failures.control, lossless=True),
    Case("1", "direct path dropped silently", failures.path_cut),
    Case("2", "openvpn client killed", failures.client_killed),
    Case("3", "openvpn server killed", failures.server_killed),
    Case("4", "forwarding host dark", failures.forwarder_dark),
    Case("5a", "babeld of one end killed", failures.babeld_killed, lossless=True),
    Case("5b", "babeld in between killed", failures.babeld_between_killed, lossless=True),
    Case("6a", "node of one end killed, started again", failures.node_killed, later=True),
    Case("6b", "node in between killed", failures.node_between_killed, lossless=True),
    Case("7", "registry killed", failures.registry_killed, lossless=True),
    Case("8a", "client's address changes", partial(failures.address_changes, client=True)),
    Case("8b", "server's address changes", partial(failures.address_changes, client=False)),
    Case("9", "one end sleeps and wakes", partial(failures.sleepers, seconds=120)),
    Case("11", "20 % loss on the path", failures.lossy),
    Case("12a", "client to server cut", partial(failures.one_way, upstream=True)),
    Case("12b", "server to client cut", partial(failures.one_way, upstream=False)),
    Case("10a", "half of all vanish", failures.half_vanishes, lab="twelve", pinged=False),
    Case("10b", "the same, each connected to all", failures.half_vanishes, lab="mesh", pinged=False),
)


def summary(case: Case, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """One case's figures, in seconds; None stands for never.

    ``seconds`` is a run's longest gap, ``until`` the end of its last one: on a lossy path, where no gap is
    long, only that tells when the packets had left it.
    """
    gaps, lost = [verdict.gap for verdict in verdicts], [verdict.lost for verdict in verdicts]
    until = [verdict.until for verdict in verdicts]
    return {
        "case": case.name,
        "failure": case.title,
        "runs": [
            {"seconds": _finite(each.gap), "lost": each.lost, "until": _finite(each.until)}
            for each in verdicts
        ],
        "seconds": {"median": _finite(median(gaps)), "worst": _finite(max(gaps))},
        "lost": {"median": median(lost), "worst": max(lost)} if case.pinged else None,
        "until": {"median": _finite(median(until)), "worst": _finite(max(until))},
        "met": _met(case, max(lost), max(gaps), max(until)),
    }


def _met(case: Case, lost: int, gap: float, until: float) -> bool:
    if case.lossless:
        return lost == 0
    return max(gap, lost * INTERVAL) <= GOAL if case.later else until <= GOAL


def whole(seconds: Sequence[float]) -> dict[str, float | None]:
    """How long it took until a node that was started again had all that it had before."""
    return {"median": _finite(median(seconds)), "worst": _finite(max(seconds))}


def _finite(seconds: float) -> float | None:
    return round(seconds, 3) if math.isfinite(seconds) else None


def table(found: Sequence[dict[str, Any]]) -> list[str]:
    """The summaries, for a terminal."""

    def cell(value: float | None, form: str = ".2f") -> str:
        return "never" if value is None else f"{value:{form}}"

    rows = [
        [
            each["case"],
            each["failure"],
            str(len(each["runs"])),
            *(cell(each[what][which]) for what in ("seconds", "until") for which in ("median", "worst")),
            *(cell(each["lost"][which], ".0f") if each["lost"] else "-" for which in ("median", "worst")),
            "yes" if each["met"] else "no",
        ]
        for each in found
    ]
    headings = ("", "failure", "runs", "gap", "worst", "until", "worst", "lost", "worst", "met")
    return columns(headings, rows, frozenset(range(2, 9)))


async def machine(reactor: Reactor) -> dict[str, Any]:
    """What this was measured on."""
    openvpn = (await run(reactor, ["openvpn", "--version"], check=False)).output.split()[1]
    babeld = await run(reactor, ["babeld", "-V"], check=False)
    return {
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "openvpn": openvpn,
        "babeld": (babeld.errors or babeld.output).strip(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "million turns": round(median(turns() for _ in range(5)), 3),
    }


def turns() -> float:
    """Seconds that a million turns of a loop take: machines of the same kind differ by three times."""
    began, count = perf_counter(), 0
    while count < 1_000_000:
        count += 1
    return perf_counter() - began


def size(args: argparse.Namespace, which: str) -> int:
    """How many nodes this lab has."""
    count: int | None = args.nodes
    return count or (8 if which == "eight" else 12)


def settings(args: argparse.Namespace, which: str) -> LabSettings:
    """The lab that some cases share."""
    return LabSettings(
        name=f"fail{os.getpid()}{which}",
        nodes=size(args, which),
        connection_count=20 if which == "mesh" else args.connection_count,
        hello=args.hello,
        # Tunnels that are replaced meanwhile are another matter: bench.draining.
        node_options=("tunnel-refresh 86400", *args.node_option),
    )


async def measure(
    reactor: Reactor, args: argparse.Namespace, cases: Sequence[Case], done: Callable[[dict[str, Any]], None]
) -> None:
    """Run the cases, those that share a lab on the same one."""
    rng = Random(args.seed)
    trace = None if args.trace is None else Trace(reactor, args.trace)
    for which in dict.fromkeys(case.lab for case in cases):
        progress(f"bringing up the lab for {which}")
        lab = await Lab.up(reactor, settings(args, which), progress, start=not args.ring)
        try:
            if args.ring:
                await ring(lab)
            stage = Stage(reactor, lab, rng, trace)
            for case in cases:
                if case.lab == which:
                    found = summary(case, await repeat(stage, case, args.runs))
                    done(found | {"whole": whole(stage.wholes)} if stage.wholes else found)
                    stage.wholes = []
        finally:
            await lab.down()


async def ring(lab: Lab) -> None:
    """Start the nodes where each can have tunnels with two others only, as in a ring."""
    count = len(lab.hosts)
    pairs = combinations(range(count), 2)
    await lab.underlay.part(pair for pair in pairs if pair[1] - pair[0] not in (1, count - 1))
    await lab.stop("h0")
    await together(lab.start(name) for name in lab.hosts)


async def repeat(stage: Stage, case: Case, runs: int) -> list[Verdict]:
    """One case, so many times. A run that finds no scene for it is tried again."""
    verdicts: list[Verdict] = []
    failed = 0
    while len(verdicts) < runs:
        progress(f"{case.name} {case.title}: run {len(verdicts) + 1} of {runs}")
        try:
            found = await case.work(stage)
            verdicts += found if isinstance(found, list) else [found]
        except NoScene as error:
            failed += 1
            if failed > 5:
                raise
            print(f"\n{error}", file=sys.stderr)
            # Other tunnels, another chance.
            await shuffle(stage)
    return verdicts


async def shuffle(stage: Stage) -> None:
    """Restart a node, which then opens other tunnels."""
    name = stage.rng.choice([name for name in stage.lab.hosts if name != "h0"])
    await stage.lab.stop(name)
    await stage.lab.start(name)


def progress(text: str) -> None:
    """Show what is going on, where somebody watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def chosen(args: argparse.Namespace) -> list[Case]:
    """The cases that were asked for: by number or name."""
    cases = list(CASES)
    if args.only is not None:
        wanted = set(args.only.split(","))
        if unknown := wanted - {case.name for case in CASES} - {str(case.number) for case in CASES}:
            raise VifibnetError(f"--only: there is no case {', '.join(sorted(unknown))}")
        cases = [case for case in cases if wanted & {case.name, str(case.number)}]
    asleep = partial(failures.sleepers, seconds=args.sleep)
    return [Case(case.name, case.title, asleep, case.lab) if case.number == 9 else case for case in cases]


async def main(reactor: Reactor, args: argparse.Namespace) -> int:
    """Measure and print; return 1 when the goal was missed."""
    began = reactor.seconds()
    found: list[dict[str, Any]] = []

    def done(case: dict[str, Any]) -> None:
        progress("")
        found.append(case)
        # Whoever is interrupted has what there was so far.
        print(table([case])[-1], file=sys.stderr, flush=True)
        if "whole" in case:
            print(f"    it is whole again, in seconds: {case['whole']}", file=sys.stderr, flush=True)

    cases = chosen(args)
    about = await machine(reactor)
    await measure(reactor, args, cases, done)
    document = {
        "bench": "failover",
        "hello": args.hello,
        "nodes": {case.name: size(args, case.lab) for case in cases},
        "connection_count": args.connection_count,
        "ring": args.ring,
        "seed": args.seed,
        "machine": about,
        "took": round(reactor.seconds() - began),
        "goal": GOAL,
        "cases": found,
        "met": all(case["met"] for case in found),
    }
    print("\n".join(table(found)), file=sys.stderr)
    print(f"hello {args.hello:g} s; {about}; took {document['took']} s", file=sys.stderr)
    print(json.dumps(document, indent=1))
    return 0 if document["met"] else 1


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--runs", type=int, help="of each case (10; with --quick 3)")
    add("--quick", action="store_true", help="three runs, and a shorter sleep")
    add("--only", metavar="1,4", help="these cases alone")
    add("--nodes", type=int, help="8; for case 10, whose survivors all work at once on this machine, 12")
    add("--connection-count", type=int, default=2, help="openvpn clients of each node (%(default)s)")
    add("--ring", action="store_true", help="each can have tunnels with two others only: no way is spare")
    add("--hello", type=float, default=LabSettings.hello)
    add("--sleep", type=float, help="seconds that the sleeper of case 9 sleeps (120; with --quick 20)")
    add("--seed", type=int, default=1)
    add("--trace", type=Path, metavar="FILE", help="append what happened in each run")
    add("--node-option", action="append", default=[], metavar="'NAME VALUE'")
    args = parser.parse_args()
    args.runs = args.runs or (3 if args.quick else 10)
    args.sleep = args.sleep or (20 if args.quick else 120)
    return args


if __name__ == "__main__":
    options = arguments()
    finish("bench.failover", lambda reactor: main(reactor, options))
