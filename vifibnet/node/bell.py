"""Waking for a beat that does not wait for the next look: of one that says more than the usual, the kernel
tells at once."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from vifibnet.node.beatsocket import open_packet_socket
from vifibnet.node.packetfilter import attach
from vifibnet.wire.heartbeat import NOT_PLAIN

ROOM = 4096
"""Bytes that the kernel keeps for it: one frame is enough to ring."""

MANY = 100
"""More frames than have room."""


@implementer(IReadDescriptor)
class Bell:
    """Rings once when such a beat has come, if it is listened to. The beats themselves are for others."""

    def __init__(
        self,
        reactor: Any,
        ring: Callable[[], None],
        make_socket: Callable[[], socket.socket] = open_packet_socket,
    ) -> None:
        """``ring`` is called. Raises OSError."""
        self._reactor = reactor
        self._ring = ring
        self._listens = False
        self._socket = make_socket()
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
            attach(self._socket, NOT_PLAIN)
        except OSError:
            self._socket.close()
            raise

    def listen(self) -> None:
        """Ring at the next one. What came before has been read."""
        if not self._listens:
            self._drain()
            self._listens = True
            self._reactor.addReader(self)

    def ignore(self) -> None:
        """Do not, until somebody listens again."""
        if self._listens:
            self._listens = False
            self._reactor.removeReader(self)

    def close(self) -> None:
        """Never ring again."""
        self.ignore()
        self._socket.close()

    def _drain(self) -> None:
        # It is empty, or somebody sends so many that another ring costs no more.
        with suppress(OSError):
            for _ in range(MANY):
                self._socket.recv(1)

    def fileno(self) -> int:
        """For the reactor."""
        return self._socket.fileno()

    def doRead(self) -> None:  # noqa: N802
        """For the reactor."""
        self.ignore()
        self._ring()

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802
        """For the reactor."""
        self.ignore()

    def logPrefix(self) -> str:  # noqa: N802
        """For the reactor."""
        return "bell"
