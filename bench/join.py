"""How long a node takes to join: from the start of ``twistd vifibnet-node`` to its first answered ping.

On a running lab, one node is stopped and started again and again; in its namespace, pings to all others go
out a hundred times a second. Prints a table on stderr and a JSON document on stdout; exits 1 when the median
misses the goal.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred

from vifibnet.cli.main import finish
from vifibnet.errors import VifibnetError
from vifibnet.lab.children import Reactor, run, sleep, together
from vifibnet.lab.daemons import program
from vifibnet.lab.network import Lab
from vifibnet.lab.probe import answers
from vifibnet.lab.settings import LabSettings
from vifibnet.lab.table import columns
from vifibnet.node.status import FILE, read_status

GOAL = 1.5
"""Seconds, at a hello interval of 0.5 s."""


@dataclass(frozen=True)
class Joining:
    """One run, in seconds: until the service started (interpreter), a tunnel was up (handshake), the first
    ping was answered (route); ``total`` is all of it, ``everybody`` until the last of the others
    has answered."""

    interpreter: float
    handshake: float
    route: float
    total: float
    everybody: float


async def join(reactor: Reactor, lab: Lab, name: str) -> Joining:
    """Start one node and watch it join."""
    others = [host.address for host in lab.hosts.values() if host.name != name]
    first: Deferred[float] = Deferred()

    def answer(*answered: Any) -> None:
        if not first.called:
            first.callback(answered[-1])

    pings = ensureDeferred(
        answers(reactor, partial(lab.inside, name), others, interval=0.01, timeout=30, on_answer=answer)
    )
    # The pings must be on their way before there is anything that could answer them.
    await sleep(reactor, 0.2)
    command = lab.node_command(name)
    began = reactor.seconds()
    await lab.node(name).start(command)
    when = await first.addTimeout(30, reactor)
    status = await read_status(reactor, lab.directory(name) / FILE) or {}
    answered = await pings
    if len(answered) < len(others):
        raise VifibnetError(f"only {len(answered)} of {len(others)} have answered")
    started = float(status["started"])
    up = [float(tunnel["since"]) for tunnel in status["tunnels"] if tunnel["up"]]
    # When somebody else's tunnel to us carried the ping, ours may have come up later.
    tunnel = min([*up, when])
    last = max(answered.values())
    return Joining(started - began, tunnel - started, when - tunnel, when - began, last - began)


async def leave(reactor: Reactor, lab: Lab, name: str, timeout: float = 60) -> None:
    """Stop the node; return when nobody remembers it. Raises VifibnetError when somebody always does."""
    await lab.stop(name)
    subnet = lab.host(name).subnet
    deadline = reactor.seconds() + timeout
    while True:
        reports = await together(lab.report(other) for other in lab.hosts if other != name)
        if not any(subnet in report.routes or name in report.served for report in reports):
            return
        if reactor.seconds() > deadline:
            raise VifibnetError(f"after {timeout:g} s, {name} is still remembered")
        await sleep(reactor, 0.1)


async def measure(reactor: Reactor, runs: int, nodes: int, hello: float) -> list[Joining]:
    """Bring up a lab and measure its last node's joining."""
    settings = LabSettings(name=f"bench{os.getpid()}", nodes=nodes, hello=hello)
    lab = await Lab.up(reactor, settings, progress)
    try:
        await lab.all_reached()
        name = f"h{nodes - 1}"
        results = []
        for number in range(runs):
            progress(f"run {number + 1} of {runs}")
            await leave(reactor, lab, name)
            results.append(await join(reactor, lab, name))
        return results
    finally:
        await lab.down()


def progress(text: str) -> None:
    """Show what is going on, where somebody watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def summary(results: Sequence[Joining], nothing: float, hello: float, nodes: int) -> dict[str, Any]:
    """What was found, as a JSON document."""
    names = list(asdict(results[0]))
    medians = {name: round(median(getattr(result, name) for result in results), 3) for name in names}
    return {
        "bench": "join",
        "hello": hello,
        "nodes": nodes,
        "runs": [{name: round(value, 3) for name, value in asdict(result).items()} for result in results],
        "median": medians,
        "baseline": round(nothing, 3),
        "ratio": round(medians["total"] / nothing, 2),
        "goal": GOAL,
        "met": medians["total"] <= GOAL,
    }


async def baseline(reactor: Reactor, runs: int = 5) -> float:
    """How long this machine takes for a twistd that does nothing: what our figures are to be held against."""
    times = []
    for _ in range(runs):
        began = reactor.seconds()
        await run(reactor, [program("twistd"), "--version"])
        times.append(reactor.seconds() - began)
    return median(times)


async def main(reactor: Reactor, args: argparse.Namespace) -> int:
    """Measure and print; return 1 when the goal was missed."""
    nothing = await baseline(reactor)
    results = await measure(reactor, args.runs, args.nodes, args.hello)
    progress("")
    found = summary(results, nothing, args.hello, args.nodes)
    rows = [[name, f"{value:.3f}"] for name, value in found["median"].items()]
    slowest = max(result.total for result in results)
    rows += [["slowest run", f"{slowest:.3f}"], ["goal", f"{GOAL:.3f}"]]
    rows += [["baseline: twistd --version", f"{nothing:.3f}"]]
    print("\n".join(columns(("joining", "seconds"), rows, frozenset((1,)))), file=sys.stderr)
    print(json.dumps(found, indent=1))
    return 0 if found["met"] else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--nodes", type=int, default=6)
    parser.add_argument("--hello", type=float, default=LabSettings.hello)
    arguments = parser.parse_args()

    finish("bench.join", lambda reactor: main(reactor, arguments))
