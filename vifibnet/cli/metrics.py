"""A registry's or a node's status as Prometheus reads it (text format 0.0.4). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METRICS = {
    "nodes": "Nodes of the network, whether they are connected or not.",
    "connected": "Connections of nodes to the registry.",
    "tokens": "Tokens and invitations that have not expired.",
    "declared": "Nodes that others can reach.",
    "revocations": "Number of the revocation list; it grows with every revocation.",
    "start_time_seconds": "When the registry was started, in seconds since 1970.",
    "ca_expiry_timestamp_seconds": "When the certificate authority expires, in seconds since 1970.",
}
"""What there is of a registry, all of it gauges, and what it means."""

NODE_METRICS = {
    "node_tunnels": "Tunnels that this node has opened and that are up.",
    "node_served": "Peers connected to this node's servers.",
    "node_neighbours": "Other routing daemons that this node's hears.",
    "node_routes": "Routes installed to other nodes' subnets.",
    "node_peers": "Peers that this node knows.",
    "node_drained": "Whether it is drained: 1 until vifibnet undrain, else 0.",
    "node_start_time_seconds": "When the node was started, in seconds since 1970.",
    "node_certificate_expiry_timestamp_seconds": "When its certificate expires, in seconds since 1970.",
}
"""The same of a node."""


def exposition(answer: Mapping[str, Any]) -> str:
    """The text."""
    values = {
        **answer,
        "start_time_seconds": answer["started"],
        "ca_expiry_timestamp_seconds": answer["authority_expires"],
    }
    labels = ",".join(f'{name}="{_escaped(str(answer[name]))}"' for name in ("network", "version"))
    lines = [*_head("info", "Which registry this is."), f"vifibnet_info{{{labels}}} 1"]
    for name, meaning in METRICS.items():
        lines += [*_head(name, meaning), f"vifibnet_{name} {values[name]:.15g}"]
    return "\n".join([*lines, ""])


def node_exposition(answer: Mapping[str, Any]) -> str:
    """The text about a node."""
    values = {
        "node_tunnels": sum(each["up"] for each in answer["tunnels"]),
        "node_served": len(answer["served"]),
        "node_neighbours": len(answer["neighbours"]),
        "node_routes": sum(each["installed"] for each in answer["routes"]),
        "node_peers": answer["peers_known"],
        "node_drained": answer["drained"] is not None,
        "node_start_time_seconds": answer["started"],
        "node_certificate_expiry_timestamp_seconds": answer["certificate_expires"],
    }
    labels = ",".join(f'{name}="{_escaped(str(answer[name]))}"' for name in ("prefix", "network"))
    lines = [*_head("node_info", "Which node this is."), f"vifibnet_node_info{{{labels}}} 1"]
    for name, meaning in NODE_METRICS.items():
        lines += [*_head(name, meaning), f"vifibnet_{name} {values[name]:.15g}"]
    children = [(f'{{program="{_escaped(each["name"])}"}}', each) for each in answer["children"]]
    lines += _head("node_child_running", "Whether a program that the node keeps running runs.")
    lines += [
        f"vifibnet_node_child_running{label} {each['state'] == 'running':d}" for label, each in children
    ]
    lines += _head("node_child_restarts_total", "How often it had to be started again.", "counter")
    lines += [f"vifibnet_node_child_restarts_total{label} {each['restarts']}" for label, each in children]
    return "\n".join([*lines, ""])


def _head(name: str, meaning: str, kind: str = "gauge") -> list[str]:
    return [f"# HELP vifibnet_{name} {meaning}", f"# TYPE vifibnet_{name} {kind}"]


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
