"""Datagrams between the two ends of a tunnel: over the link-local addresses of our taps, and nothing else."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from vifibnet.node.ear import Ear, interface
from vifibnet.wire.hearsay import MAX_SENT, PORT

ALL_NODES = "ff02::1"
"""Everybody at the other end of a tap: all clients of a server, or the server."""


def open_socket() -> socket.socket:
    """A socket on our port of all IPv6 addresses. Raises OSError."""
    opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        opened.bind(("::", PORT))
    except BaseException:
        opened.close()
        raise
    return opened


class TapSocket(Ear):
    """Datagrams with the interface they came in by, which Twisted's own UDP ports do not tell."""

    def __init__(
        self, reactor: Any, opened: socket.socket, on_datagram: Callable[[bytes, str, str], None]
    ) -> None:
        """``on_datagram(data, interface, source)`` is called for each; whether the interface is one of our
        taps is for it to see."""
        super().__init__(reactor, opened, MAX_SENT + 1)
        self._on_datagram = on_datagram

    def heard(self, data: bytes, sender: Any) -> None:
        """Hand it over."""
        came_by = interface(sender)
        # The port of a node, which takes root: not of anybody who is logged in at the other end.
        if came_by is not None and sender[1] == PORT and len(data) <= MAX_SENT:
            self._on_datagram(data, came_by, sender[0])

    def send(self, tap: str, data: bytes, to: str = ALL_NODES) -> None:
        """Send to a link-local address on a tap; one that is down costs nothing."""
        with suppress(OSError):
            self._socket.sendto(data, (to, PORT, 0, socket.if_nametoindex(tap)))
