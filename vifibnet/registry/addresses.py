"""Where those who are invited find the registry."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

from vifibnet.model.addresses import Network
from vifibnet.wire.endpoints import is_host
from vifibnet.wire.invitation import MAX_ADDRESSES

_FAR = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses that are nobody's (RFC 5737, RFC 3849): the way there is the way to the internet."""


def addresses(names: Sequence[str], interfaces: Sequence[str], host: str, network: Network) -> list[str]:
    """What to dial, the best first: what the operator called this machine; else what it listens on; else
    the addresses that its connections to the internet come from; else its name.

    Addresses inside the network itself are no use to who has not joined.
    """
    for candidates in (names, interfaces, source_addresses()):
        found = [c for c in dict.fromkeys(candidates) if is_host(c) and not _useless(c, network)]
        if found:
            return found[:MAX_ADDRESSES]
    return [host]


def source_addresses() -> Iterable[str]:
    """The addresses that this machine would use towards the internet; nothing is sent."""
    found = []
    for family, far in _FAR:
        # Without a way there, there is none.
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))
            found.append(str(probe.getsockname()[0]))
    return found


def _useless(host: str, network: Network) -> bool:
    try:
        address: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:
        return False
    inside = isinstance(address, IPv6Address) and address in network.ip_network
    return inside or address.is_unspecified or address.is_link_local
