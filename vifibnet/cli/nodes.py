"""``vifibnet nodes``: list the nodes of the running registry."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import textwrap
from collections.abc import AsyncIterator
from typing import Any

from vifibnet.cli import adminclient
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
WIDTH = 100
"""Columns, where the terminal does not say how many it has."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How to print them."""
    parser.add_argument("--json", action="store_true", help="as a JSON array; times are seconds since 1970")
    adminclient.add_arguments(parser)


async def run(reactor: Any, args: argparse.Namespace) -> int:
    """Print them page by page, as they come."""
    async with adminclient.running_registry(reactor, args) as registry:
        if args.json:
            await print_json(pages(registry))
        else:
            await _print_table(pages(registry), reactor.seconds())
    return 0


async def pages(registry: adminclient.RegistryAdmin) -> AsyncIterator[list[dict[str, Any]]]:
    """All nodes, some at a time."""
    following = ""
    while True:
        answer = await registry.call(ListNodes, after=following)
        yield answer["nodes"]
        following = answer["next"]
        if not following:
            return


async def print_json(all_pages: AsyncIterator[list[dict[str, Any]]]) -> None:
    """Print an array, one element a line, without keeping it."""
    before = "[\n"
    async for page in all_pages:
        for element in page:
            print(before + json.dumps(element, ensure_ascii=False), end="")
            before = ",\n"
    print("[]" if before == "[\n" else "\n]")


async def _print_table(all_pages: AsyncIterator[list[dict[str, Any]]], now: float) -> None:
    width = shutil.get_terminal_size((WIDTH, 0)).columns
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
