"""Babel packets (RFC 8966): the one kind that we send ourselves, beside babeld."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Network

PORT = 6696
"""Babel's UDP port."""

MAX_REQUESTS = 60
"""How many prefixes one request may name: with the longest ones the packet still fits into 1280 bytes."""


def route_request(subnets: Sequence[IPv6Network] = ()) -> bytes:
    """A packet that asks for all routes, and for those to some subnets (at most MAX_REQUESTS) in particular.

    babeld answers the former rarely: not within ten hello intervals after it last announced everything.
    """
    body = b"\x09\x02\x00\x00" + b"".join(map(_request, subnets[:MAX_REQUESTS]))
    return b"\x2a\x02" + len(body).to_bytes(2, "big") + body


def _request(subnet: IPv6Network) -> bytes:
    """A Route Request TLV (4.6.11): type 9, length, AE 2 (IPv6), prefix length, prefix."""
    prefix = subnet.network_address.packed[: (subnet.prefixlen + 7) // 8]
    return bytes([9, 2 + len(prefix), 2, subnet.prefixlen]) + prefix
