"""Where a peer's OpenVPN server can be reached."""

from __future__ import annotations

from dataclasses import dataclass

PROTOCOLS = ("udp", "udp6", "tcp-client", "tcp6-client")
"""What a client may dial; ``udp`` and ``tcp-client`` let the address decide the family."""

MAX_ENDPOINTS = 8
"""More endpoints than this no node needs, and nobody should have to try."""


@dataclass(frozen=True, order=True)
class Endpoint:
    """One address, port and protocol; ``address`` is an IP address or a DNS name."""

    address: str
    port: int
    proto: str
