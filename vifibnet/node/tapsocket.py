"""Datagrams between the two ends of a tunnel: over the link-local addresses of our taps, and nothing else."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.logger import Logger

from vifibnet.wire.hearsay import MAX_SENT, PORT

AT_ONCE = 20
"""How many datagrams are read before others get their turn."""

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


class TapSocket(FileDescriptor):
    """Datagrams with the interface they came in by, which Twisted's own UDP ports do not tell."""

    log = Logger()

    def __init__(
        self, reactor: Any, opened: socket.socket, on_datagram: Callable[[bytes, str, str], None]
    ) -> None:
        """``on_datagram(data, interface, source)`` is called for each; whether the interface is one of our
        taps is for it to see."""
        super().__init__(reactor)
        self._socket = opened
        self._on_datagram = on_datagram

    def fileno(self) -> int:
        """For the reactor."""
        return self._socket.fileno()

    def doRead(self) -> None:
        """Read what there is; only link-local senders say by which interface they came."""
        for _ in range(AT_ONCE):
            try:
                data, (source, port, _, scope) = self._socket.recvfrom(MAX_SENT + 1)
            except OSError:
                return
            # The port of a node, which takes root: not of anybody who is logged in at the other end.
            if port == PORT and len(data) <= MAX_SENT:
                self._hand_over(data, scope, source)

    def _hand_over(self, data: bytes, scope: int, source: str) -> None:
        try:
            interface = socket.if_indextoname(scope)
        except OSError:
            return
        try:
            self._on_datagram(data, interface, source)
        except Exception:
            # The reactor would stop reading.
            self.log.failure("a datagram on {interface} cannot be dealt with", interface=interface)

    def send(self, interface: str, data: bytes, to: str = ALL_NODES) -> None:
        """Send to a link-local address on an interface; one that is down costs nothing."""
        with suppress(OSError):
            self._socket.sendto(data, (to, PORT, 0, socket.if_nametoindex(interface)))

    def close(self) -> None:
        """Stop reading, close the socket."""
        self.stopReading()
        self._socket.close()
