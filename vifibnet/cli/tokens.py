"""``vifibnet tokens``: list the tokens and invitations that have not expired."""

from __future__ import annotations

import argparse
from typing import Any

from vifibnet.cli import listing
from vifibnet.cli.listing import add_arguments as add_arguments
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


async def run(reactor: Any, args: argparse.Namespace) -> int:
    """Print them page by page, as they come. The tokens themselves nobody knows but who has them."""
    return await listing.show(reactor, args, ListTokens, "tokens", _print_table)


async def _print_table(all_pages: listing.Pages, now: float) -> None:
    table = Table(COLUMNS, listing.terminal_width())
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
