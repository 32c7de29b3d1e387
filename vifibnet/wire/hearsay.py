"""What nodes with a tunnel between them tell each other, one datagram each.

``vifibnet-seen 5/16 192.0.2.1``: a server tells a peer where it comes from.

``vifibnet-have revocations 5 parameters 7``: the numbers of the documents that somebody keeps. Who has
newer ones sends them; who has older ones answers with ``vifibnet-want`` and its own numbers, which only
documents answer. A document is a datagram by itself (see document); who keeps it answers with its numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from vifibnet.errors import BadAddress
from vifibnet.model.addresses import Prefix
from vifibnet.wire.document import MAX_NUMBER, Kind

PORT = 326
"""The UDP port, on the link-local addresses of our taps only."""

MAX_LENGTH = 120
"""Bytes of a datagram that tells where somebody is seen."""

MAX_NUMBERS = 400
"""Bytes of one with numbers: ten kinds."""

MAX_SENT = 8192
"""Bytes of a document that is passed on: the system cuts it into some six packets. That is some 100 revoked
certificates; longer documents come from the registry only."""

_WORD = "vifibnet-seen"
_NUMBERS = re.compile(rb"vifibnet-(have|want)((?: [a-z]{1,20} [0-9]{1,19}){1,10})")
_DOCUMENT = re.compile(rb"vifibnet ([a-z]{1,20}) 1\n")


def format_seen(peer: Prefix, address: str) -> bytes:
    """Tell ``peer`` that it comes from ``address``."""
    return f"{_WORD} {peer} {address}".encode("ascii")


def parse_seen(datagram: bytes) -> tuple[Prefix, IPv4Address | IPv6Address] | None:
    """Who is seen where; None for what is something else, whatever it is."""
    if len(datagram) > MAX_LENGTH:
        return None
    try:
        word, peer, address = datagram.decode("ascii").split(" ")
        found = Prefix.parse(peer), ip_address(address)
    except (ValueError, BadAddress):
        return None
    return found if word == _WORD and "%" not in address else None


@dataclass(frozen=True)
class Numbers:
    """The numbers of the documents that somebody has, 0 for none; ``want`` is the answer to greater ones."""

    numbers: Mapping[Kind, int]
    want: bool = False


def format_numbers(told: Numbers) -> bytes:
    """Tell them."""
    words = [f"{kind} {number}" for kind, number in told.numbers.items()]
    return " ".join([f"vifibnet-{'want' if told.want else 'have'}", *words]).encode("ascii")


def parse_numbers(datagram: bytes) -> Numbers | None:
    """What is told, without kinds that we do not know; None for what is something else."""
    match = _NUMBERS.fullmatch(datagram) if len(datagram) <= MAX_NUMBERS else None
    if match is None:
        return None
    words = match[2].decode("ascii").split()
    numbers = {
        Kind(kind): int(number)
        for kind, number in zip(words[::2], words[1::2], strict=True)
        if kind in list(Kind) and int(number) <= MAX_NUMBER
    }
    return Numbers(numbers, match[1] == b"want")


def kind_of(datagram: bytes) -> Kind | None:
    """Of what kind it is if it is a document: that it is one only its signature shows."""
    match = _DOCUMENT.match(datagram) if len(datagram) <= MAX_SENT else None
    return Kind(match[1].decode("ascii")) if match and match[1].decode("ascii") in list(Kind) else None
