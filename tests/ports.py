"""Ports for servers that a test starts."""

from __future__ import annotations

import socket
from itertools import product
from random import SystemRandom

UNASSIGNED = range(10_000, 30_000)
"""Below those that the system gives away by itself, which another process may get at any moment."""


def free_port() -> int:
    """A port that nobody uses, over UDP or TCP, on any address."""
    while True:
        port = SystemRandom().choice(UNASSIGNED)
        if all(_is_free(port, *each) for each in product(_FAMILIES, _KINDS)):
            return port


_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM)


def _is_free(port: int, family: socket.AddressFamily, kind: socket.SocketKind) -> bool:
    with socket.socket(family, kind) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
