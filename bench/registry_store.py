"""What the registry's calls cost that ask or change its database, with 100,000 nodes in it and with 1,000.

Each goes to the registry's core and its database on disk, as a face would have it: what the network and TLS
add is measured by ``bench.registry_load`` and ``bench.registry_calls``. ``requestCertificate`` signs a
certificate and, like ``Declare``, waits for the disk. ``nodes`` is one page of what ``vifibnet nodes`` asks
for. The two registries take turns. Prints a table on stderr and a JSON document on stdout; exits 1 when one
takes longer than the goal with the many nodes, in the median.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.task import Clock

from bench.registry import ENDPOINTS, LENGTH, NETWORK, load_authority, prepare
from vifibnet.lab.table import columns
from vifibnet.model.addresses import Prefix
from vifibnet.pki.authorities import Authorities
from vifibnet.pki.requests import make_key, make_request
from vifibnet.registry.administration import PAGE
from vifibnet.registry.core import Registry
from vifibnet.store.registry import RegistryStore

FEW = 1000
"""Nodes of the registry that is compared with."""

GOAL = 10.0
"""Milliseconds."""

Calls = dict[str, Callable[[], object]]


def calls(stack: ExitStack, nodes: int, rounds: int) -> Calls:
    """What is asked of a registry with so many nodes, each time about another one."""
    home, rng, clock = Path(stack.enter_context(tempfile.TemporaryDirectory())), Random(nodes), Clock()
    prepare(home, nodes, 1)
    clock.advance(time.time())
    store = RegistryStore.open(str(home / "registry.db"), NETWORK, clock.seconds, rng)
    stack.callback(store.close)
    none: Any = None
    registry = Registry(Authorities.of(load_authority(home)), store, none, clock, none)
    request = make_request(make_key(), []).public_bytes(Encoding.PEM).decode()
    tokens = [f"token {number}" for number in range(rounds)]
    for token in tokens:
        store.add_token(token, f"{token.replace(' ', '')}@b.example")

    def some() -> Prefix:
        return Prefix(rng.randrange(nodes), LENGTH)

    return {
        "GetPeers, 200": lambda: registry.peers(some(), 200),
        "Declare": lambda: registry.declare(some(), ENDPOINTS),
        "requestCertificate": lambda: registry.request_certificate(tokens.pop(), request),
        "nodes": lambda: store.nodes(some().bits, PAGE),
    }


def measure(nodes: int, rounds: int) -> dict[str, dict[int, list[float]]]:
    """Milliseconds, by call and number of nodes."""
    with ExitStack() as stack:
        registries = {count: calls(stack, count, rounds) for count in (nodes, FEW)}
        found: dict[str, dict[int, list[float]]] = {}
        for _ in range(rounds):
            for count, asked in registries.items():
                for name, call in asked.items():
                    began = time.perf_counter()
                    call()
                    took = 1000 * (time.perf_counter() - began)
                    found.setdefault(name, {}).setdefault(count, []).append(took)
    return found


def main() -> int:
    """Measure and print; return 1 when the goal was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=300)
    args = parser.parse_args()
    rows: list[dict[str, Any]] = [
        {
            "call": name,
            "median_ms": round(median(took[args.nodes]), 3),
            "p99_ms": round(quantiles(took[args.nodes], n=100)[98], 3),
            "few_median_ms": round(median(took[FEW]), 3),
            "ratio": round(median(took[args.nodes]) / median(took[FEW]), 2),
        }
        for name, took in measure(args.nodes, args.rounds).items()
    ]
    met = all(row["median_ms"] <= GOAL for row in rows)
    headings = (f"{args.nodes} nodes", "ms", "p99", f"ms with {FEW}", "ratio", "goal")
    cells = [[*map(str, row.values()), f"{GOAL:g}"] for row in rows]
    print("\n".join(columns(headings, cells, frozenset(range(1, 6)))), file=sys.stderr)
    document = {"bench": "registry_store", "nodes": args.nodes, "rounds": args.rounds, "rows": rows}
    print(json.dumps({**document, "met": met}, indent=1))
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
