"""What an idle tunnel costs: kbit/s in the underlay and on the tap, in each direction, while nobody uses it.

Counts what two hosts with a tunnel send each other for half a minute (IP packets of the underlay, and frames
on the client's tap, which are babel's alone). Prints a table on stderr and a JSON document on stdout; exits 1
when the median tunnel costs more than the goal.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.failover import machine, progress
from vifibnet.cli.main import finish
from vifibnet.lab.children import Reactor, run, sleep
from vifibnet.lab.network import Lab
from vifibnet.lab.settings import LabSettings
from vifibnet.lab.table import columns
from vifibnet.node.status import read_status

GOAL = 4.0
"""kbit/s in each direction."""


@dataclass(frozen=True)
class Edge:
    """A tunnel: who opened it, over which tap, to whom, and how many tunnels end at that server."""

    client: str
    tap: str
    server: str
    served: int


async def edges(reactor: Reactor, lab: Lab) -> list[Edge]:
    """All tunnels that are up; those of h0, which has the registry, are left out."""
    names = {host.prefix: name for name, host in lab.hosts.items()}
    found = []
    for name in lab.hosts:
        status = await read_status(reactor, lab.directory(name) / "status.sock") or {}
        for tunnel in status.get("tunnels", ()):
            if tunnel["up"]:
                found.append((name, tunnel["tap"], names[tunnel["peer"]]))
    return [
        Edge(client, tap, server, sum(other == server for _, _, other in found))
        for client, tap, server in found
        if "h0" not in (client, server)
    ]


async def count(
    reactor: Reactor, lab: Lab, tunnels: list[Edge], seconds: float
) -> dict[tuple[str, str], int]:
    """Bytes of IP that passed the bridge, by source and target."""
    nft = ["ip", "netns", "exec", lab.underlay.bridge, "nft"]
    pairs = {pair for edge in tunnels for pair in ((edge.client, edge.server), (edge.server, edge.client))}
    rules = "".join(f'iifname "{a}" oifname "{b}" counter\n' for a, b in sorted(pairs))
    hook = "type filter hook forward priority 10; policy accept;"
    table = f"table bridge vifibnet_count {{ chain forward {{\n{hook}\n{rules}}}\n}}\n"
    await run(reactor, [*nft, "-f", "-"], stdin=table)
    await sleep(reactor, seconds)
    said = (await run(reactor, [*nft, "list", "table", "bridge", "vifibnet_count"])).output
    await run(reactor, [*nft, "delete", "table", "bridge", "vifibnet_count"])
    found = re.findall(r'iifname "(\w+)" oifname "(\w+)" counter packets \d+ bytes (\d+)', said)
    return {(a, b): int(number) for a, b, number in found}


async def tap_bytes(reactor: Reactor, lab: Lab, tunnels: list[Edge]) -> dict[Edge, tuple[int, int]]:
    """What went out of and came into each tap so far: client to server, server to client."""
    found = {}
    for edge in tunnels:
        command = lab.inside(edge.client, ["ip", "-json", "-s", "link", "show", "dev", edge.tap])
        (link,) = json.loads((await run(reactor, command)).output)
        found[edge] = link["stats64"]["tx"]["bytes"], link["stats64"]["rx"]["bytes"]
    return found


async def measure(reactor: Reactor, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Bring up a lab, leave it alone, count."""
    settings = LabSettings(
        name=f"idle{os.getpid()}",
        nodes=args.nodes,
        connection_count=args.connection_count,
        hello=args.hello,
        node_options=("tunnel-refresh 86400", "peers-db-refresh 86400", *args.node_option),
    )
    lab = await Lab.up(reactor, settings, progress)
    try:
        await lab.all_reached()
        progress("letting it settle")
        await sleep(reactor, 10 + 10 * args.hello)
        tunnels = await edges(reactor, lab)
        progress(f"counting for {args.seconds:g} s")
        before = await tap_bytes(reactor, lab, tunnels)
        began = reactor.seconds()
        wire = await count(reactor, lab, tunnels, args.seconds)
        after = await tap_bytes(reactor, lab, tunnels)
        tap_seconds = reactor.seconds() - began

        def rate(number: int, seconds: float) -> float:
            return round(number * 8 / 1000 / seconds, 2)

        return [
            {
                "client": edge.client,
                "server": edge.server,
                "served": edge.served,
                "up": rate(wire[edge.client, edge.server], args.seconds),
                "down": rate(wire[edge.server, edge.client], args.seconds),
                "tap_up": rate(after[edge][0] - before[edge][0], tap_seconds),
                "tap_down": rate(after[edge][1] - before[edge][1], tap_seconds),
            }
            for edge in tunnels
        ]
    finally:
        await lab.down()


async def main(reactor: Reactor, args: argparse.Namespace) -> int:
    """Measure and print; return 1 when the goal was missed."""
    about = await machine(reactor)
    found = await measure(reactor, args)
    progress("")
    ways = ("up", "down", "tap_up", "tap_down")
    medians = {way: round(median(edge[way] for edge in found), 2) for way in ways}
    worst = {way: max(edge[way] for edge in found) for way in ways}
    met = max(worst["up"], worst["down"]) <= GOAL
    rows = [
        [f"{each['client']} → {each['server']}", str(each["served"]), *(f"{each[way]:.2f}" for way in ways)]
        for each in found
    ]
    rows += [
        [name, "", *(f"{values[way]:.2f}" for way in ways)]
        for name, values in (("median", medians), ("worst", worst))
    ]
    headings = ("tunnel", "served", "up", "down", "tap up", "tap down")
    print("\n".join(columns(headings, rows, frozenset(range(1, 6)))), file=sys.stderr)
    print(f"kbit/s, {args.nodes} nodes, hello {args.hello:g} s; {about}", file=sys.stderr)
    document = {
        "bench": "idle",
        "hello": args.hello,
        "nodes": args.nodes,
        "machine": about,
        "goal": GOAL,
        "tunnels": found,
        "median": medians,
        "worst": worst,
        "met": met,
    }
    print(json.dumps(document, indent=1))
    return 0 if met else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--connection-count", type=int, default=2)
    parser.add_argument("--hello", type=float, default=LabSettings.hello)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--node-option", action="append", default=[], metavar="'NAME VALUE'")
    arguments = parser.parse_args()

    finish("bench.idle", lambda reactor: main(reactor, arguments))
