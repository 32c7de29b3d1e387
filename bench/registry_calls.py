"""How many calls a second the registry answers, beside a threaded ``http.server`` that makes the same query.

Both look up one random peer among 100,000 nodes. Each client calls again as soon as it is answered; all
clients are one process on the same machine. The rows of a group are measured one after the other, run by run.
``cpu µs`` is the server's processor time per call.

The goals are multiples of ``re6stnet's way`` (see ``bench.threaded``): a connection and a thread per call, no
TLS. What is like for like is told as well: AMP beside the threaded server with keep-alive and mutual TLS,
XML-RPC beside its XML-RPC with keep-alive, and TLS or none on both sides. In ``AMP, 16 ahead`` a client does
not wait for an answer before it calls again on one connection, which HTTP cannot do: as many calls are
under way as 16 clients would make. ``bare Twisted, TLS`` does nothing for a call: more cannot be had call
by call over TLS (see ``bench.bare``).

Prints a table on stderr and a JSON document on stdout; exits 1 when a goal is missed. The limits of calls per
address and of connections per certificate are lifted: all these clients have the same ones.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from subprocess import Popen
from typing import Any

from bench.caller import AMP, GET, POST, WARMING_UP, Speed, Way, amp_end, call, http_end
from bench.registry import await_port, free_port, prepare, start
from vifibnet.lab.table import columns

WAYS = {
    "re6stnet's way": Way(GET, http_end, kept=False),
    "kept": Way(GET, http_end),
    "kept, mutual TLS": Way(GET, http_end, tls=True, node=True),
    "XML kept": Way(POST, http_end),
    "XML kept, TLS": Way(POST, http_end, tls=True),
    "XML-RPC": Way(POST, http_end),
    "XML-RPC, TLS": Way(POST, http_end, tls=True),
    "AMP, mutual TLS": Way(AMP, amp_end, tls=True, node=True, amp=True),
    "AMP, 16 ahead": Way(AMP, amp_end, tls=True, node=True, amp=True, ahead=16),
    "bare Twisted, TLS": Way(AMP, amp_end, tls=True, node=True),
}
"""The first five are the threaded server's, the last that of ``bench.bare``."""

BASELINE = "re6stnet's way"

GOALS = {"XML-RPC": 1.0, "XML-RPC, TLS": 1.0, "AMP, mutual TLS": 4.0, "AMP, 16 ahead": 4.0}
"""Throughput as a multiple of the baseline's."""

LIKE = {
    "XML-RPC": "XML kept",
    "XML-RPC, TLS": "XML kept, TLS",
    "AMP, mutual TLS": "kept, mutual TLS",
    "AMP, 16 ahead": "kept, mutual TLS",
}
"""With what else a row is compared."""


def run(
    home: Path, servers: dict[str, tuple[int, Popen[str]]], args: argparse.Namespace
) -> dict[tuple[int, str], list[Speed]]:
    """Measure all."""
    found: dict[tuple[int, str], list[Speed]] = {}
    for number in range(args.runs):
        for clients in args.clients:
            for name, way in WAYS.items():
                if sys.stderr.isatty():
                    print(f"\r\033[Krun {number + 1}: {name}, {clients} clients", end="", file=sys.stderr)
                port, process = servers[name]
                before = cpu(process)
                speed = call(way, home, port, clients, args.seconds)
                cost = (cpu(process) - before) / (speed.calls * (args.seconds + WARMING_UP))
                speed = replace(speed, cpu=cost)
                found.setdefault((clients, name), []).append(speed)
    return found


def measure(args: argparse.Namespace) -> dict[tuple[int, str], list[Speed]]:
    """Start both servers and measure all."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        prepare(home, args.nodes, 1)
        secure, plain, single, kept, kept_secure, ready = (free_port() for _ in range(6))
        lifted = {"calls_per_second": 1e9, "calls_burst": 1e9, "connections_per_certificate": 1 << 20}
        options = [f"--plain={plain}", "--limits", json.dumps(lifted)]
        options += ["--profile", args.profile] if args.profile else []
        registry = start("registry", str(home), str(secure), *options)
        stack.callback(stop, registry)
        baseline = start("threaded", str(home), str(single), f"--kept={kept}", f"--tls={kept_secure}")
        stack.callback(stop, baseline)
        bare = start("bare", str(home), str(ready))
        stack.callback(stop, bare)
        for port, process in ((secure, registry), (plain, registry), (kept_secure, baseline), (ready, bare)):
            await_port(port, process)
        old = [(port, baseline) for port in (single, kept, kept_secure, kept, kept_secure)]
        new = [(port, registry) for port in (plain, secure, secure, secure)]
        servers = dict(zip(WAYS, (*old, *new, (ready, bare)), strict=True))
        return run(home, servers, args)


def cpu(process: Popen[str]) -> float:
    """Seconds of processor time that a process has used (proc(5))."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stop(process: Popen[str]) -> None:
    """End it."""
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


def summary(found: dict[tuple[int, str], list[Speed]], args: argparse.Namespace) -> dict[str, Any]:
    """What was found, as a JSON document."""
    rows: list[dict[str, Any]] = []
    speeds = {key: median(speed.calls for speed in runs) for key, runs in found.items()}
    for (clients, name), runs in found.items():
        row: dict[str, Any] = {"clients": clients, "server": name, "calls": round(speeds[clients, name])}
        row["p99_ms"] = round(median(speed.p99 for speed in runs), 2)
        row["cpu_us"] = round(median(speed.cpu for speed in runs) * 1e6)
        row["runs"] = [round(speed.calls) for speed in runs]
        row["ratio"] = round(speeds[clients, name] / speeds[clients, BASELINE], 2)
        if name in GOALS:
            row["like_for_like"] = round(speeds[clients, name] / speeds[clients, LIKE[name]], 2)
            row["goal"] = GOALS[name]
            row["met"] = row["ratio"] >= row["goal"]
        rows.append(row)
    return {
        "bench": "registry_calls",
        "nodes": args.nodes,
        "seconds": args.seconds,
        "rows": rows,
        "met": all(row.get("met", True) for row in rows),
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The rows for a terminal."""
    cells = [
        [
            *(str(row[name]) for name in ("clients", "server", "calls")),
            f"{row['p99_ms']:.2f}",
            str(row["cpu_us"]),
            f"{row['ratio']:.2f}",
            *((f"{row['goal']:.0f}", f"{row['like_for_like']:.2f}") if "goal" in row else ("", "")),
        ]
        for row in rows
    ]
    headings = ("clients", "server", "calls/s", "p99 ms", "cpu µs", "ratio", "goal", "like for like")
    return columns(headings, cells, frozenset((0, 2, 3, 4, 5, 6, 7)))


def main() -> int:
    """Measure and print; return 1 when a goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 100])
    parser.add_argument("--profile", help="write cProfile's figures of the registry there")
    args = parser.parse_args()
    found = summary(measure(args), args)
    clear = "\r\033[K" if sys.stderr.isatty() else ""
    print(clear + "\n".join(table(found["rows"])), file=sys.stderr)
    print(json.dumps(found, indent=1))
    return 0 if found["met"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
