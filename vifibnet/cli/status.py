"""``vifibnet status``: how the node or the registry on this machine is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv6Network
from pathlib import Path
from typing import Any

from vifibnet.cli import adminclient, metrics, nodeclient
from vifibnet.cli.drain import sentence
from vifibnet.cli.listing import terminal_width
from vifibnet.cli.tables import NOTHING, Column, Table, ago, amount, counted, day, duration
from vifibnet.errors import BadInput
from vifibnet.model.liveness import INFINITY
from vifibnet.node.lock import check_state_path
from vifibnet.node.status import FILE, read_status
from vifibnet.registry.expiry import DAY, WARN_DAYS
from vifibnet.wire.admin import Status

Answer = Mapping[str, Any]

TUNNELS = (
    Column("peer", 5), Column("tap", 6), Column("age", 6), Column("remote", 16), Column("routes", 6),
    Column("traffic", 8), Column("why", 10),
)  # fmt: skip
SERVED = (Column("peer", 5), Column("on", 6), Column("age", 6), Column("from", 16), Column("traffic", 8))
NEIGHBOURS = (Column("on", 6), Column("address", 24), Column("cost", 5))
CHILDREN = (
    Column("program", 20), Column("state", 7), Column("for", 6), Column("process", 7), Column("restarts", 8),
)  # fmt: skip
ROUTES = (Column("to", 18), Column("on", 6), Column("metric", 6), Column("via", 24))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of whom, and how to print it."""
    nodeclient.add_arguments(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="all of it as JSON; times are seconds since 1970")
    form.add_argument("--metrics", action="store_true", help="for Prometheus, as node_exporter reads files")
    adminclient.add_arguments(parser, default=None)


async def run(reactor: Any, args: argparse.Namespace) -> int:
    """Print it. Raises NodeNotRunning, RegistryNotRunning and BadInput."""
    of_registry = args.registry is not None or args.socket is not None
    answer = await (_of_registry(reactor, args) if of_registry else _of_node(reactor, args.state / FILE))
    if args.json:
        print(json.dumps(answer))
    elif args.metrics:
        print((metrics.exposition if of_registry else metrics.node_exposition)(answer), end="")
    else:
        picture = registry_picture if of_registry else node_picture
        print("\n".join(picture(answer, reactor.seconds(), terminal_width())))
    return 0


async def _of_registry(reactor: Any, args: argparse.Namespace) -> Answer:
    async with adminclient.running_registry(reactor, args) as registry:
        answer: Answer = await registry.call(Status)
        return answer


async def _of_node(reactor: Any, socket: Path) -> Answer:
    check_state_path(socket.parent)
    answer = await read_status(reactor, socket)
    if answer is None:
        raise nodeclient.absent(socket)
    if "drained" not in answer:
        raise BadInput(f"--state {socket.parent}", "its node is of an older version", "restart it")
    return answer


def registry_picture(answer: Answer, now: float, _width: int) -> list[str]:
    """The lines about a registry."""
    return [
        f"registry of {answer['network']}, version {answer['version']},"
        f" up for {duration(now - answer['started'])}",
        f"{counted(answer['nodes'], 'node')}, {answer['connected']} connected,"
        f" {answer['declared']} can be reached by others",
        f"tokens that have not expired: {answer['tokens']}",
        f"revocation list: {answer['revocations'] or 'none yet'}",
        f"certificate authority: until {day(answer['authority_expires'])}",
        *_warnings(answer, now),
    ]


def node_picture(answer: Answer, now: float, width: int) -> list[str]:
    """The lines about a node. Ages are by its own time, which nobody sets."""
    calendar, now = now, answer.get("now", now)
    lines = [
        f"node {answer['prefix']} of {answer['network']}, address {answer['address']},"
        f" up for {duration(now - answer['started'])}",
        f"registry: {_registry(answer['registry'], now)}",
        f"others reach it at: {answer['endpoints'].replace(';', ' ') or 'not known yet'}",
        f"certificate: until {day(answer['certificate_expires'])};"
        f" certificate authority: until {day(answer['authority_expires'])}",
        *_warnings(answer, calendar),
        *_drained(answer["drained"], now),
    ]
    for title, columns, rows in _sections(answer, now):
        lines += ["", f"{title}: {len(rows)}"]
        if rows:
            lines += [f"  {line}" for line in Table(columns, width - 2).lines(rows)]
        if columns is CHILDREN:
            lines += [f"  {line}" for line in _complaints(answer["children"], now)]
    return lines


def _sections(answer: Answer, now: float) -> Iterator[tuple[str, Sequence[Column], list[tuple[str, ...]]]]:
    yield "programs", CHILDREN, [_child(each, now) for each in answer["children"]]
    yield "tunnels", TUNNELS, [_tunnel(each, now) for each in answer["tunnels"]]
    served = sorted(answer["served"], key=lambda each: str(each["server"]))
    yield "served peers", SERVED, [_served(each, now) for each in served]
    neighbours = sorted(answer["neighbours"], key=lambda each: (each["interface"], each["address"]))
    yield (
        "neighbours",
        NEIGHBOURS,
        [(each["interface"], each["address"], _cost(each["cost"])) for each in neighbours],
    )
    installed = sorted(
        (each for each in answer["routes"] if each["installed"]), key=lambda each: IPv6Network(each["prefix"])
    )
    yield (
        "routes",
        ROUTES,
        [(each["prefix"], each["interface"], _cost(each["metric"]), each["via"]) for each in installed],
    )


def _drained(drained: Answer | None, now: float) -> list[str]:
    if drained is None:
        return []
    return [
        f"drained for {duration(now - drained['since'])}, until vifibnet undrain;"
        f" {'still through it:' if drained['left'] else 'nothing of others goes through it'}",
        *(f"  {sentence(each)}" for each in drained["left"]),
    ]


def _child(child: Answer, now: float) -> tuple[str, ...]:
    return (
        child["name"],
        child["state"],
        duration(now - child["since"]),
        str(child["pid"] or NOTHING),
        str(child["restarts"]),
    )


def _complaints(children: Sequence[Answer], now: float) -> Iterator[str]:
    """What each has last complained of, in full."""
    for child in children:
        if child["complaint"]:
            yield f"{ago(child['complained'], now)} {child['name']} {child['complaint']}"


def _tunnel(tunnel: Answer, now: float) -> tuple[str, ...]:
    return (
        tunnel["peer"],
        tunnel["tap"],
        duration(now - tunnel["since"]) if tunnel["up"] else "opening",
        tunnel["remote"] or NOTHING,
        str(tunnel["routes"]),
        amount(tunnel["traffic"]),
        tunnel["reason"],
    )


def _served(served: Answer, now: float) -> tuple[str, ...]:
    age = duration(now - served["since"])
    return served["peer"], served["server"], age, served["address"], amount(served["traffic"])


def _cost(cost: int) -> str:
    return "none" if cost >= INFINITY else str(cost)


def _registry(registry: Answer | None, now: float) -> str:
    if registry is None:
        return "none was given"
    seen = f", it sees this node at {registry['seen']}" if registry["seen"] else ""
    if not registry["connected"]:
        return f"not connected{seen.replace('sees', 'last saw')}"
    return f"connected for {duration(now - registry['since'])}{seen}"


def _warnings(answer: Answer, now: float) -> list[str]:
    """What the operator must do something about."""
    days = (answer["authority_expires"] - now) / DAY
    if days > WARN_DAYS:
        return []
    when = day(answer["authority_expires"])
    if days < 0:
        return [f"warning: the certificate authority expired on {when}: nobody can connect or join any more"]
    return [
        f"warning: the certificate authority expires in {counted(int(days), 'day')}, and every certificate"
        " with it"
    ]
