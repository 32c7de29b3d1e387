"""A registry with thousands of nodes connected: what they cost, and what happens when it is restarted.

The nodes are the node's own registry client in a few processes on the same machine, so they take their part
of the processors. First they connect; then the registry's memory per connection and its CPU time while
nothing happens are read from /proc. Then it is killed with SIGKILL and started again at once: measured is how
long it takes until all nodes are connected and answered again, and how long somebody else's calls take
meanwhile. Prints a table on stderr and a JSON document on stdout; exits 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from subprocess import Popen
from typing import Any

from bench.registry import await_port, free_port, prepare, start
from bench.registry_calls import cpu
from vifibnet.lab.table import columns

MEMORY_GOAL = 60.0
"""KiB per connection."""

IDLE_GOAL = 3.0
"""Percent of one processor."""

STORM_GOAL = 60.0
"""Seconds until all are connected again."""

CONNECT_TIMEOUT = 600.0


class Lines:
    """What a process prints, read as it comes; the reactor of none of us."""

    def __init__(self, process: Popen[str]) -> None:
        self.process = process
        self.read: list[dict[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.read.append(json.loads(line))


def memory(process: Popen[str]) -> float:
    """KiB that a process has in memory (proc(5))."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def connected(nodes: list[Lines]) -> int:
    """How many nodes are connected by now."""
    return sum(each.read[-1]["connected"] if each.read else 0 for each in nodes)


def progress(text: str) -> None:
    """Show what is going on, where somebody watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def await_all(nodes: list[Lines], count: int) -> float:
    """Wait until all are connected; the time at which they were. Raises SystemExit after ten minutes."""
    end = time.time() + CONNECT_TIMEOUT
    while (now := connected(nodes)) < count:
        progress(f"{now} of {count} connected")
        if time.time() > end:
            raise SystemExit(f"only {now} of {count} nodes are connected: {nodes[0].read[-1]['warnings']}")
        time.sleep(0.1)
    return time.time()


def storm(nodes: list[Lines], count: int, answers: Lines, registry: Any) -> tuple[Popen[str], dict[str, Any]]:
    """Kill the registry and start it again; the new process and what happened."""
    before = warnings(nodes)
    registry.process.kill()
    registry.process.wait()
    killed = time.time()
    while connected(nodes):
        time.sleep(0.05)
    again = registry.start()
    listening = time.time()
    done = await_all(nodes, count)
    seen = [each for each in answers.read if listening <= each["at"] + each["took"] <= done]
    kept = [each["took"] for each in seen if not each["new"] and each["error"] is None]
    new = [each["took"] for each in seen if each["new"] and each["error"] is None]
    found: dict[str, Any] = {
        "killed_to_listening_s": round(listening - killed, 1),
        "reconnected_s": round(done - listening, 1),
        "cpu_s": round(cpu(again), 1),
        "calls": len(kept),
        "call_ms": latencies(kept),
        "new_connections": len(new),
        "new_connection_ms": latencies(new),
        "failed_calls": [each["error"] for each in seen if each["error"] is not None],
        "warnings": {text: number - before.get(text, 0) for text, number in warnings(nodes).items()},
    }
    return again, found


def warnings(nodes: list[Lines]) -> dict[str, int]:
    """What the nodes' logs say."""
    found: dict[str, int] = {}
    for each in nodes:
        for text, number in each.read[-1]["warnings"].items():
            found[text] = found.get(text, 0) + number
    return found


def latencies(seconds: list[float]) -> dict[str, float]:
    """Median, all but one in a hundred, the longest; in milliseconds."""
    if len(seconds) < 2:
        return {}
    p99 = quantiles(seconds, n=100, method="inclusive")[98]
    return {
        "median": round(median(seconds) * 1000, 1),
        "p99": round(p99 * 1000, 1),
        "max": round(max(seconds) * 1000, 1),
    }


class Registry:
    """The process that is measured."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.start()

    def start(self) -> Popen[str]:
        """Start it; return when it listens."""
        self.process = start("registry", str(self.home), str(self.port))
        await_port(self.port, self.process)
        return self.process

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All of it."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        prepare(home, max(args.database, args.identities), args.identities)
        registry = Registry(home)
        stack.callback(registry.stop)
        time.sleep(1)
        empty = memory(registry.process)
        shares = [args.nodes // args.processes] * args.processes
        shares[0] += args.nodes - sum(shares)
        began = time.time()
        nodes = []
        for number, share in enumerate(shares):
            options = [f"--number={number}", f"--nodes={share}"]
            nodes.append(Lines(start("waiting", str(home), str(registry.port), *options)))
            stack.callback(nodes[-1].process.kill)
        ready = await_all(nodes, args.nodes)
        # Leave the client's first calls time to pass.
        time.sleep(2)
        used = memory(registry.process)
        progress(f"idle for {args.idle:g} s")
        ticks, at = cpu(registry.process), time.time()
        time.sleep(args.idle)
        idle = (cpu(registry.process) - ticks) / (time.time() - at) * 100
        answers = Lines(start("prober", str(home), str(registry.port)))
        stack.callback(answers.process.kill)
        time.sleep(3)
        calm = latencies([each["took"] for each in answers.read if not each["new"]])
        storms = [storm(nodes, args.nodes, answers, registry)[1] for _ in range(args.storms)]
        errors = (home / "registry.log").read_text().count("Traceback")
        progress("")
        return {
            "first_connected_s": round(ready - began, 1),
            "kib_per_connection": round((used - empty) / args.nodes, 1),
            "idle_cpu_percent": round(idle, 2),
            "calm_call_ms": calm,
            "storms": storms,
            "errors_in_log": errors,
        }


def table(found: dict[str, Any]) -> list[str]:
    """What was found, for a terminal."""
    rows = [
        ["KiB of memory per connection", f"{found['kib_per_connection']:.1f}", f"{MEMORY_GOAL:.0f}"],
        ["% of a processor, idle", f"{found['idle_cpu_percent']:.2f}", f"{IDLE_GOAL:.0f}"],
        ["ms of a call before, p99", f"{found['calm_call_ms']['p99']:.1f}", ""],
    ]
    for each in found["storms"]:
        rows += [
            ["restart: s until all are connected", f"{each['reconnected_s']:.1f}", f"{STORM_GOAL:.0f}"],
            ["  s of processor time", f"{each['cpu_s']:.1f}", ""],
        ]
        for what, times in (("a call", each["call_ms"]), ("a new connection", each["new_connection_ms"])):
            for name, value in times.items():
                rows.append([f"  ms of {what} meanwhile, {name}", f"{value:.1f}", ""])
        rows.append(["  failed calls", str(len(each["failed_calls"])), ""])
    rows.append(["errors in the registry's log", str(found["errors_in_log"]), "0"])
    return columns((f"{found['nodes']} nodes", "found", "goal"), rows, frozenset((1, 2)))


def main() -> int:
    """Measure and print; return 1 when a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--identities", type=int, help="certificates that the nodes share (a third as many)")
    parser.add_argument("--database", type=int, default=100_000, help="nodes that the registry knows")
    parser.add_argument("--idle", type=float, default=30.0, help="seconds")
    parser.add_argument("--storms", type=int, default=1)
    args = parser.parse_args()
    # A certificate has no more than four connections.
    args.identities = args.identities or args.nodes // 3 + 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    found = {"bench": "registry_load", "nodes": args.nodes, **measure(args)}
    found["met"] = (
        found["kib_per_connection"] <= MEMORY_GOAL
        and found["idle_cpu_percent"] < IDLE_GOAL
        and all(each["reconnected_s"] <= STORM_GOAL for each in found["storms"])
        and found["errors_in_log"] == 0
    )
    print("\n".join(table(found)), file=sys.stderr)
    print(json.dumps(found, indent=1))
    return 0 if found["met"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
