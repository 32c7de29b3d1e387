"""What a node with many idle tunnels costs its machine: processor time and memory of its processes.

h0 has 20 tunnels to others' servers and serves 20 clients; all are real nodes on this machine, each with one
tunnel. When all has been calm for a while, h0's processes are measured for a minute: our own, the openvpns
together, and babeld. Memory is what is resident (RSS), and in brackets what is left when shared pages are
divided among those who share them (PSS), which are many here. Prints a table on stderr and a JSON document
on stdout; exits 1 when our own process costs more than the goals. What an idle tunnel sends is measured by
``bench.idle``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import DeferredSemaphore

from bench.failover import machine, progress
from vifibnet.cli.main import finish
from vifibnet.errors import VifibnetError
from vifibnet.lab.children import Reactor, sleep, together
from vifibnet.lab.enrolment import PORT
from vifibnet.lab.faults import processes
from vifibnet.lab.network import Lab
from vifibnet.lab.settings import LabSettings
from vifibnet.lab.table import columns
from vifibnet.lab.usage import Usage, usage

CPU_GOAL = 1.0
"""Percent of one core, for our own process."""

MEMORY_GOAL = 70e6
"""Bytes of RSS, for our own process."""

NODE, OPENVPN, BABELD = "vifibnet", "openvpn", "babeld"


async def wire(reactor: Reactor, args: argparse.Namespace) -> Lab:
    """Bring up h0 with its tunnels: the first of the others serve it, the rest are its clients."""
    settings = LabSettings(
        name=f"load{os.getpid()}",
        nodes=1 + args.servers + args.clients,
        connection_count=args.servers,
        hello=args.hello,
        node_options=(
            f"peers-db-refresh {args.peers_db_refresh:g}",
            f"tunnel-refresh {args.tunnel_refresh:g}",
            *args.node_option,
        ),
    )
    lab = await Lab.up(reactor, settings, progress, start=False)
    try:
        servers = [f"h{index}" for index in range(1, args.servers + 1)]
        clients = [f"h{index}" for index in range(args.servers + 1, settings.nodes)]
        turns = DeferredSemaphore((os.cpu_count() or 1) + 1)

        async def start(name: str, count: int) -> None:
            async with turns:
                await lab.node(name).start(lab.node_command(name, "--connection-count", str(count)))

        progress("starting the nodes")
        await together(start(name, 0) for name in servers)
        # It asks for peers when it starts, and then not for long; the clients are none yet.
        await lab.stop("h0")
        await lab.start("h0")
        await _connected(lab, servers, ())
        # They know h0 alone since they enrolled; others who are named to them are out of reach.
        lonely = [f'iifname "{name}" tcp dport {PORT}' for name in clients]
        await lab.underlay.drop(*lonely, *(f'iifname "{name}" oifname != "h0"' for name in clients))
        await together(start(name, 1) for name in clients)
        await _connected(lab, servers, clients)
        await lab.underlay.mend()
    except BaseException:
        await lab.down()
        raise
    return lab


async def _connected(lab: Lab, servers: Sequence[str], clients: Sequence[str], timeout: float = 180) -> None:
    """Wait until h0 has all its tunnels, and a route to everybody. Raises VifibnetError."""
    deadline = lab.reactor.seconds() + timeout
    while True:
        node = await lab.report("h0")
        up, served = len(node.tunnels), len(node.served)
        progress(f"{up} tunnels, {served} served, {len(node.routes)} routes")
        there = set(node.tunnels), set(node.served), len(node.routes)
        if there == (set(servers), set(clients), len(servers) + len(clients)):
            return
        if lab.reactor.seconds() > deadline:
            raise VifibnetError(f"h0 has {up} tunnels and serves {served}; see {lab.directory('h0')}")
        await sleep(lab.reactor, 0.5)


def parts(lab: Lab) -> dict[str, list[int]]:
    """The processes of h0's node, by program."""
    found: dict[str, list[int]] = {NODE: [], OPENVPN: [], BABELD: []}
    for pid, argv in processes(lab, "h0").items():
        name = os.path.basename(argv[0])
        if name in found:
            found[name].append(pid)
    ours = lab.running("h0")
    found[NODE] = [] if ours is None else [ours]
    return found


async def measure(reactor: Reactor, args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What each part costs, by program."""
    lab = await wire(reactor, args)
    try:
        progress(f"letting it settle for {args.settle:g} s")
        await sleep(reactor, args.settle)
        there = parts(lab)
        before = {name: usage(pids) for name, pids in there.items()}
        began = reactor.seconds()
        progress(f"measuring for {args.seconds:g} s")
        await sleep(reactor, args.seconds)
        took = reactor.seconds() - began
        after = {name: usage(pids) for name, pids in there.items()}
        if parts(lab) != there:
            raise VifibnetError("processes came or went: it was not idle")
        return {name: row(len(there[name]), before[name], after[name], took) for name in there}
    finally:
        await lab.down()


def row(count: int, before: Usage, after: Usage, seconds: float) -> dict[str, Any]:
    """One part's figures: percent of a core, and MB."""
    return {
        "processes": count,
        "cpu": round(100 * (after.seconds - before.seconds) / seconds, 2),
        "rss": round(after.rss / 1e6, 1),
        "pss": round(after.pss / 1e6, 1),
    }


async def main(reactor: Reactor, args: argparse.Namespace) -> int:
    """Measure and print; return 1 when a goal was missed."""
    about = await machine(reactor)
    found = await measure(reactor, args)
    progress("")
    met = found[NODE]["cpu"] <= CPU_GOAL and found[NODE]["rss"] <= MEMORY_GOAL / 1e6
    goals = {NODE: [f"{CPU_GOAL:g}", f"{MEMORY_GOAL / 1e6:g}"]}
    rows = [
        [
            name,
            str(each["processes"]),
            f"{each['cpu']:.2f}",
            f"{each['rss']:.1f}",
            f"({each['pss']:.1f})",
            *goals.get(name, ["", ""]),
        ]
        for name, each in found.items()
    ]
    headings = ("", "processes", "% of a core", "MB", "(shared once)", "goal %", "goal MB")
    print("\n".join(columns(headings, rows, frozenset(range(1, 7)))), file=sys.stderr)
    tunnels = f"{args.servers} client and {args.clients} served tunnels, hello {args.hello:g} s"
    print(f"{tunnels}, {args.seconds:g} s; {about}", file=sys.stderr)
    document = {
        "bench": "load",
        "servers": args.servers,
        "clients": args.clients,
        "hello": args.hello,
        "machine": about,
        "goal": {"cpu": CPU_GOAL, "rss": MEMORY_GOAL / 1e6},
        "found": found,
        "met": met,
    }
    print(json.dumps(document, indent=1))
    return 0 if met else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--servers", type=int, default=20, help="tunnels that h0 opens")
    parser.add_argument("--clients", type=int, default=20, help="tunnels that h0 serves")
    parser.add_argument("--hello", type=float, default=LabSettings.hello)
    # The round-trip times that babel measured when all nodes were starting fade in 77 seconds.
    parser.add_argument("--settle", type=float, default=150.0, help="seconds before the measurement")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds of the measurement")
    parser.add_argument("--peers-db-refresh", type=float, default=3600.0)
    parser.add_argument("--tunnel-refresh", type=float, default=36000.0, help="seconds: long means calm")
    parser.add_argument("--node-option", action="append", default=[], metavar="'NAME VALUE'")
    arguments = parser.parse_args()

    finish("bench.load", lambda reactor: main(reactor, arguments))
