"""What the commands have in common that list something of the running registry, page by page."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from twisted.protocols.amp import Command

from vifibnet.cli import adminclient

WIDTH = 100
"""Columns, where the terminal does not say how many it has."""

Page = list[dict[str, Any]]
Pages = AsyncIterator[Page]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How to print it."""
    parser.add_argument("--json", action="store_true", help="as a JSON array; times are seconds since 1970")
    adminclient.add_arguments(parser)


async def show(
    reactor: Any,
    args: argparse.Namespace,
    command: type[Command],
    key: str,
    print_table: Callable[[Pages, float], Awaitable[None]],
) -> int:
    """Print what ``command`` lists under ``key``, as it comes: as JSON, or by ``print_table(pages, now)``."""
    async with adminclient.running_registry(reactor, args) as registry:
        if args.json:
            await _print_json(_pages(registry, command, key))
        else:
            await print_table(_pages(registry, command, key), reactor.seconds())
    return 0


def terminal_width() -> int:
    """How many columns there are."""
    return shutil.get_terminal_size((WIDTH, 0)).columns


async def _pages(registry: adminclient.RegistryAdmin, command: type[Command], key: str) -> Pages:
    """All of it, some at a time."""
    following = ""
    while True:
        answer = await registry.call(command, after=following)
        yield answer[key]
        following = answer["next"]
        if not following:
            return


async def _print_json(all_pages: Pages) -> None:
    """Print an array, one element a line, without keeping it."""
    before = "[\n"
    async for page in all_pages:
        for element in page:
            print(before + json.dumps(element, ensure_ascii=False), end="")
            before = ",\n"
    print("[]" if before == "[\n" else "\n]")
