"""``vifibnet tokens``: list the tokens and invitations that have not expired."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import AsyncIterator
from typing import Any

from vifibnet.cli import adminclient
from vifibnet.cli.nodes import WIDTH, print_json
from vifibnet.cli.tables import NOTHING, Column, Table, ago, counted, minute
from vifibnet.wire.admin import ListTokens

COLUMNS = (
    Column("kind", 10),
    Column("for", 20),
    Column("made", 9),
    Column("until (UTC)", 16),
    Column("bits", 4),
    Column("used by", 8),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How to print them."""
    parser.add_argument("--json", action="store_true", help="as a JSON array; times are seconds since 1970")
    adminclient.add_arguments(parser)


async def run(reactor: Any, args: argparse.Namespace) -> int:
    """Print them page by page, as they come. The tokens themselves nobody knows but who has them."""
    async with adminclient.running_registry(reactor, args) as registry:
        if args.json:
            await print_json(pages(registry))
        else:
            await _print_table(pages(registry), reactor.seconds())
    return 0


async def pages(registry: adminclient.RegistryAdmin) -> AsyncIterator[list[dict[str, Any]]]:
    """All tokens, some at a time."""
    following = ""
    while True:
        answer = await registry.call(ListTokens, after=following)
        yield answer["tokens"]
        following = answer["next"]
        if not following:
            return


async def _print_table(all_pages: AsyncIterator[list[dict[str, Any]]], now: float) -> None:
    table = Table(COLUMNS, shutil.get_terminal_size((WIDTH, 0)).columns)
    total = used = 0
    async for page in all_pages:
        if page:
            print("\n".join(table.lines([row(token, now) for token in page])), flush=True)
        total += len(page)
        used += sum(token["used"] is not None for token in page)
    if total:
        print(
            f"\n{counted(total, 'token')}, {used} used. Who used one may fetch the same certificate again"
            " until it ends."
        )
    else:
        print("There are no tokens; vifibnet invite prints an invitation with one.")


def row(token: dict[str, Any], now: float) -> tuple[str, ...]:
    """The cells of one token."""
    length = token["prefix_length"]
    return (
        token["kind"],
        token["email"] or "anybody",
        ago(token["created"], now),
        minute(token["expires"]),
        NOTHING if length is None else str(length),
        token["used"] or NOTHING,
    )
