"""Frames of our own Ethernet type on our taps (packet(7)); whoever holds it reads it when he likes."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from vifibnet.wire.heartbeat import ETHERTYPE

EVERYBODY = b"\xff" * 6
"""Whoever is at the other end of a tap."""

AT_ONCE = 4096
"""How many frames are read before others get their turn."""

BUFFER = 4 << 20
"""Bytes that the kernel keeps for us, some 800 for each frame: those of all tunnels in some seconds for which
we have no time. Where it is full, what comes is lost, and the youngest frames tell most."""

_SO_RCVBUFFORCE = 33
"""More than others may have (socket(7))."""

_LONGEST = 64

_SO_TIMESTAMPNS = 64
"""Have the kernel tell when each frame came (SO_TIMESTAMPNS_NEW of asm-generic/socket.h, Linux 5.1)."""

_TIMESPEC = struct.Struct("qq")
_ROOM = socket.CMSG_SPACE(_TIMESPEC.size)


def open_packet_socket() -> socket.socket:
    """A socket that gets our frames from all interfaces. Raises OSError."""
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
    opened = socket.socket(socket.AF_PACKET, kind, socket.htons(ETHERTYPE))
    with suppress(OSError):
        opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    return opened


class BeatSocket:
    """Sends and reads frames; nothing waits."""

    def __init__(
        self,
        make_socket: Callable[[], socket.socket] = open_packet_socket,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """``wall_clock`` is the kernel's (CLOCK_REALTIME). Raises OSError."""
        self._socket = make_socket()
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER)
        self._wall_clock = wall_clock

    def send(self, tap: str, to: bytes, data: bytes) -> None:
        """To the address of an interface on the other end; a tap that is down costs nothing."""
        with suppress(OSError):
            self._socket.sendto(data, (tap, ETHERTYPE, 0, 0, to))

    def read(self) -> Iterator[tuple[str, bytes, bytes, float]]:
        """What has come since: over which tap, from which interface's address, what, and how many seconds
        ago; 0 where the kernel does not tell, or only stamped it as it was read. Nonsense where somebody has
        just set the clock."""
        now = self._wall_clock()
        for _ in range(AT_ONCE):
            try:
                data, said, _, (tap, _, _, _, sender) = self._socket.recvmsg(_LONGEST, _ROOM)
            except BlockingIOError:
                return
            except OSError:
                # An interface has gone down; what has come before it is still there.
                continue
            age = 0.0
            for _, _, stamp in said:
                seconds, nanoseconds = _TIMESPEC.unpack(stamp)
                age = max(0.0, now - seconds - nanoseconds * 1e-9)
            yield tap, bytes(sender), data, age

    def close(self) -> None:
        """Neither send nor read any more."""
        self._socket.close()
