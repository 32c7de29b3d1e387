"""``vifibnet nodes``: list the nodes of the running registry."""

from __future__ import annotations

import argparse
import re
import textwrap
from typing import Any

from vifibnet.cli import listing
from vifibnet.cli.listing import add_arguments as add_arguments
from vifibnet.cli.tables import NOTHING, Column, Table, ago, counted, day
from vifibnet.wire.admin import ListNodes

COLUMNS = (
    Column("prefix", 7),
    Column("address", 18),
    Column("seen", 9),
    Column("until", 10),
    Column("who", 16),
    Column("endpoints", 18),
)
LEGEND = (
    "seen: when it last spoke to the registry; until: when its certificate ends; who: its e-mail address and"
    " what its certificate says of it; endpoints: where others reach it."
)


async def run(reactor: Any, args: argparse.Namespace) -> int:
    """Print them page by page, as they come."""
    return await listing.show(reactor, args, ListNodes, "nodes", _print_table)


async def _print_table(all_pages: listing.Pages, now: float) -> None:
    width = listing.terminal_width()
    table = Table(COLUMNS, width)
    total = connected = 0
    async for page in all_pages:
        if page:
            print("\n".join(table.lines([row(node, now) for node in page])), flush=True)
        total += sum(node["released"] is None for node in page)
        connected += sum(node["connected"] for node in page)
    if not total:
        print("No node has joined yet; vifibnet invite prints an invitation for one.")
        return
    print(f"\n{counted(total, 'node')}, {connected} connected to the registry.")
    print(textwrap.fill(LEGEND, width))


def row(node: dict[str, Any], now: float) -> tuple[str, ...]:
    """The cells of one node."""
    first, *others = node["endpoints"].split(";")
    return (
        node["prefix"],
        node["address"],
        "connected" if node["connected"] else ago(node["seen"], now),
        _until(node, now),
        " ".join(filter(None, [node["email"], _subject(node["subject"])])) or NOTHING,
        f"{first} +{len(others)}" if others else first or NOTHING,
    )


def _until(node: dict[str, Any], now: float) -> str:
    if node["released"] is not None:
        return "released"
    if node["revoked"] is not None:
        return "revoked"
    return "expired" if node["expires"] <= now else day(node["expires"])


def _subject(subject: str) -> str:
    """What a certificate says of its node beside the prefix; subjects are as in RFC 4514."""
    parts = re.split(r"(?<!\\)[,+]", subject)
    return " ".join(part for part in parts if not part.startswith("CN="))
