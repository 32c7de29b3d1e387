"""Packets that routers may fragment, from openvpn's socket for both families.

A packet too big for a link on its way is dropped when it must not be fragmented, and often nobody tells its
sender. ``--mtu-disc no`` lets it be fragmented; but openvpn gives this to a socket for IPv4 and IPv6 at once
for IPv6 only, where routers never fragment. So we give it for IPv4, to a copy of the descriptor: what is said
of a socket holds for everybody who has it.
"""

from __future__ import annotations

import ctypes
import os
import socket
from contextlib import suppress

_PIDFD_GETFD = 438  # linux/unistd.h: the same on every architecture of ours
_IP_MTU_DISCOVER, _IP_PMTUDISC_DONT = 10, 0  # linux/in.h
_libc = ctypes.CDLL(None, use_errno=True)


def allow_fragments(pid: int) -> None:
    """Let routers fragment what the UDP sockets of a process send over IPv4. Raises OSError.

    Needs Linux 5.6, and the right to trace the process.
    """
    watch = os.pidfd_open(pid)
    try:
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            # One may be gone by now.
            with suppress(FileNotFoundError):
                if os.readlink(f"/proc/{pid}/fd/{descriptor}").startswith("socket:"):
                    with socket.socket(fileno=_copy(watch, int(descriptor))) as found:
                        _allow(found)
    finally:
        os.close(watch)


def _copy(watch: int, descriptor: int) -> int:
    """Another descriptor of ours for what another process has open."""
    copy: int = _libc.syscall(_PIDFD_GETFD, watch, descriptor, 0)
    if copy < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return copy


def _allow(found: socket.socket) -> None:
    if found.type == socket.SOCK_DGRAM and found.family in (socket.AF_INET, socket.AF_INET6):
        found.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DONT)
