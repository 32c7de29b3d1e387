"""Who is at the other end of a unix socket that is for its owner and root alone."""

from __future__ import annotations

import os
import socket
import struct


def peer_uid(connection: socket.socket) -> int:
    """The user at the other end (unix(7), SO_PEERCRED)."""
    credentials = struct.Struct("3i")
    _pid, uid, _gid = credentials.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    )
    return int(uid)


def may_command(uid: int) -> bool:
    """Whether this user may tell us what to do."""
    return uid in (0, os.geteuid())
