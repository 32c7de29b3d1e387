"""What the nodes say of themselves, and what the lab makes of it, for the table, the drawing and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Network
from typing import Any

from vifibnet.lab.settings import Host
from vifibnet.model.addresses import Network

UNREACHABLE = 0xFFFF
"""Babel's infinity (RFC 8966, 3.5.2)."""


@dataclass(frozen=True)
class NodeReport:
    """One host as its node sees the network; peers are named (``h3``), or by prefix when they are strangers.

    ``running`` False: there is no node, and the rest is what was known of it. ``tunnels`` are those that are
    up, ``opening`` those that are not yet.
    """

    name: str
    address: str
    subnet: str
    running: bool = False
    tunnels: tuple[str, ...] = ()
    opening: tuple[str, ...] = ()
    served: tuple[str, ...] = ()
    neighbours: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    seconds_to_all: float | None = None


@dataclass(frozen=True)
class LabReport:
    """The whole lab: ``seconds`` is how long it took to come up, ``cuts`` the pairs that are cut."""

    all_reached: bool
    seconds: float | None
    nodes: tuple[NodeReport, ...]
    cuts: frozenset[frozenset[str]] = frozenset()

    def to_json(self) -> str:
        """The document that ``--json`` prints."""
        nodes = [
            {
                "name": node.name,
                "address": node.address,
                "subnet": node.subnet,
                "running": node.running,
                "tunnels": node.tunnels,
                "served": node.served,
                "neighbours": node.neighbours,
                "routes": node.routes,
                "seconds_to_all": rounded(node.seconds_to_all),
            }
            for node in self.nodes
        ]
        content = {
            "all_reached": self.all_reached,
            "seconds": rounded(self.seconds),
            "nodes": nodes,
            "cuts": sorted(sorted(pair) for pair in self.cuts),
        }
        return json.dumps(content, indent=2)

    @property
    def edges(self) -> frozenset[frozenset[str]]:
        """Every pair of hosts with a tunnel between them that is up."""
        return frozenset(
            frozenset((node.name, peer)) for node in self.nodes for peer in node.tunnels if peer != node.name
        )


def rounded(seconds: float | None) -> float | None:
    """Milliseconds are as fine as anybody can read."""
    return None if seconds is None else round(seconds, 3)


def node_report(host: Host, names: Mapping[str, str], status: Mapping[str, Any] | None) -> NodeReport:
    """Make a report of a node's status document; ``names`` are the hosts' names by prefix.

    Who a neighbour is, babeld does not say: it is told by the tunnel that it is met on, or else by the subnet
    that it announces at no more than the cost of reaching it, which must be its own.
    """
    known = NodeReport(host.name, host.address, host.subnet, seconds_to_all=host.seconds_to_all)
    if status is None:
        return known
    behind = {tunnel["tap"]: names.get(tunnel["peer"], tunnel["peer"]) for tunnel in status["tunnels"]}
    up = {tunnel["tap"] for tunnel in status["tunnels"] if tunnel["up"]}
    return NodeReport(
        name=host.name,
        address=status["address"],
        subnet=status["subnet"],
        running=True,
        tunnels=in_order(behind[tap] for tap in up),
        opening=in_order(behind[tap] for tap in behind.keys() - up),
        served=in_order(names.get(served["peer"], served["peer"]) for served in status["served"]),
        neighbours=in_order(
            _neighbour(neighbour, status, behind, names)
            for neighbour in status["neighbours"]
            if neighbour["cost"] < UNREACHABLE
        ),
        routes=in_order({route["prefix"] for route in status["routes"] if leads_somewhere(route)}),
        seconds_to_all=host.seconds_to_all,
    )


def routed(nodes: Sequence[NodeReport]) -> bool:
    """Whether each node's babel has a route to all the others: the first packets need none."""
    subnets = {node.subnet for node in nodes}
    return all(subnets - {node.subnet} <= set(node.routes) for node in nodes)


def leads_somewhere(route: Mapping[str, Any]) -> bool:
    """Whether packets take this route; babeld keeps one to whom it has lost, which refuses them."""
    return bool(route["installed"]) and int(route["metric"]) < UNREACHABLE


def _neighbour(
    neighbour: Mapping[str, Any],
    status: Mapping[str, Any],
    behind: Mapping[str, str],
    names: Mapping[str, str],
) -> str:
    """The name of a neighbour; where it cannot be told, its address and interface."""
    address, interface = neighbour["address"], neighbour["interface"]
    if interface in behind:
        return behind[interface]
    network = Network.parse(status["network"])
    for route in status["routes"]:
        same = (route["via"], route["interface"]) == (address, interface)
        prefix = network.prefix_of(IPv6Network(route["prefix"])) if same else None
        if prefix is not None and route["metric"] <= neighbour["cost"]:
            return names.get(str(prefix), str(prefix))
    return f"{address}%{interface}"


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sort names so that h10 comes after h9, and subnets by address."""

    def key(name: str) -> tuple[int, int, str]:
        if name[:1] == "h" and name[1:].isdigit():
            return (0, int(name[1:]), name)
        try:
            return (1, int(IPv6Network(name).network_address), name)
        except ValueError:
            return (2, 0, name)

    return tuple(sorted(names, key=key))
