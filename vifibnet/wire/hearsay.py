"""What a node tells the peers it serves: the address that each of them comes from. One datagram each."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from vifibnet.errors import BadAddress
from vifibnet.model.addresses import Prefix

PORT = 326
"""The UDP port, on the link-local addresses of our taps only."""

MAX_LENGTH = 120
"""Bytes of a datagram."""

_WORD = "vifibnet-seen"


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
