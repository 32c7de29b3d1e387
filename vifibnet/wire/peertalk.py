"""The AMP commands between nodes, over mutual TLS, on the overlay. Who calls, and who is called, is in the
certificates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from twisted.protocols import amp

from vifibnet.errors import BadAddress, BadArguments, BadEndpoints
from vifibnet.model.addresses import Prefix
from vifibnet.model.news import MAX_AGE, News
from vifibnet.model.visits import MAX_WANTED
from vifibnet.wire.amp import PEER, RegistryCommand, fitting
from vifibnet.wire.endpoints import format_endpoints, parse_endpoints

ALPN = b"vifibnet-peer"
"""The TLS protocol name (RFC 7301); whoever wants something else has come to the wrong port."""

PORT = 326
"""The TCP port, on every node's own address in the network."""

MAX_COUNT = 50
"""How many peers one answer names at most."""

AGED: list[tuple[bytes, amp.Argument]] = [*PEER, (b"age", amp.Integer())]
"""A peer as in the registry's answers, and how many seconds ago it was known to be there."""


class Meet(RegistryCommand):
    """Tell where the caller can be reached, and hear where the called one can; no endpoints: nowhere, or that
    it is not known yet."""

    commandName = b"Meet"
    arguments: ClassVar[list] = [(b"endpoints", amp.Unicode())]
    response: ClassVar[list] = [(b"endpoints", amp.Unicode())]


class GetPeers(RegistryCommand):
    """Ask for up to ``count`` peers, chosen at random, without the two who talk."""

    commandName = b"GetPeers"
    arguments: ClassVar[list] = [(b"count", amp.Integer())]
    response: ClassVar[list] = [(b"peers", amp.AmpList(AGED))]


class GetEndpoints(RegistryCommand):
    """Ask for the endpoints of the peers with these ``prefixes`` (``5/16 6/16``, MAX_WANTED at most), as far
    as they are known."""

    commandName = b"GetEndpoints"
    arguments: ClassVar[list] = [(b"prefixes", amp.Unicode())]
    response: ClassVar[list] = [(b"peers", amp.AmpList(AGED))]


def news_rows(news: Iterable[News]) -> list[dict[str, Any]]:
    """News as one AMP value, as many as fit into it."""
    return fitting(
        {
            "prefix": str(each.peer),
            "endpoints": format_endpoints(each.endpoints),
            # Rounded up, so that nothing gets younger.
            "age": int(min(max(each.age, 0.0), MAX_AGE)) + 1,
        }
        for each in news
    )


def parse_news(rows: Iterable[dict[str, Any]]) -> list[News]:
    """News out of an answer; what cannot be understood is left out."""
    found = []
    for row in rows:
        try:
            endpoints = parse_endpoints(row["endpoints"])
            found.append(News(Prefix.parse(row["prefix"]), endpoints, float(min(row["age"], int(MAX_AGE)))))
        except (BadAddress, BadEndpoints, OverflowError):
            continue
    return found


def format_prefixes(prefixes: Sequence[Prefix]) -> str:
    """Prefixes in a row."""
    return " ".join(map(str, prefixes))


def parse_prefixes(text: str) -> list[Prefix]:
    """The same, read. Raises BadArguments."""
    words = text.split()
    if len(words) > MAX_WANTED:
        raise BadArguments(method="GetEndpoints", problem=f"more than {MAX_WANTED} prefixes")
    try:
        return [Prefix.parse(word) for word in words]
    except BadAddress as error:
        raise BadArguments(method="GetEndpoints", problem=str(error)) from None
