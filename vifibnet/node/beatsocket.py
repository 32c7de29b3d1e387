"""Frames of our own Ethernet type on our taps (packet(7)); whoever holds it reads it when he likes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

from vifibnet.wire.heartbeat import ETHERTYPE

EVERYBODY = b"\xff" * 6
"""Whoever is at the other end of a tap."""

AT_ONCE = 4096
"""How many frames are read before others get their turn."""

_LONGEST = 64


def open_packet_socket() -> socket.socket:
    """A socket that gets our frames from all interfaces. Raises OSError."""
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
    return socket.socket(socket.AF_PACKET, kind, socket.htons(ETHERTYPE))


class BeatSocket:
    """Sends and reads frames; nothing waits."""

    def __init__(self, make_socket: Callable[[], socket.socket] = open_packet_socket) -> None:
        """Raises OSError."""
        self._socket = make_socket()

    def send(self, tap: str, to: bytes, data: bytes) -> None:
        """To the address of an interface on the other end; a tap that is down costs nothing."""
        with suppress(OSError):
            self._socket.sendto(data, (tap, ETHERTYPE, 0, 0, to))

    def read(self) -> Iterator[tuple[str, bytes, bytes]]:
        """What has come since: over which tap, from which interface's address, what."""
        for _ in range(AT_ONCE):
            try:
                data, (tap, _, _, _, sender) = self._socket.recvfrom(_LONGEST)
            except BlockingIOError:
                return
            except OSError:
                # An interface has gone down; what has come before it is still there.
                continue
            yield tap, bytes(sender), data

    def close(self) -> None:
        """Neither send nor read any more."""
        self._socket.close()
