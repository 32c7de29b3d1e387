"""Hearing what comes by a socket that Twisted has no port for."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.logger import Logger

AT_ONCE = 20
"""How many datagrams are read before others get their turn."""


def interface(sender: tuple[Any, ...]) -> str | None:
    """By which interface a datagram from this address came; None if it is no link-local IPv6 address (only
    these tell, ipv6(7)), or the interface has just gone."""
    try:
        return socket.if_indextoname(sender[3])
    except OSError:
        return None


class Ear(FileDescriptor):
    """Reads a socket of datagrams, one after another, from ``startReading`` to ``close``."""

    log = Logger()

    def __init__(self, reactor: Any, opened: socket.socket, longest: int) -> None:
        """``longest``: bytes; of longer datagrams the rest is lost. The socket does not block."""
        super().__init__(reactor)
        self._socket = opened
        self._longest = longest

    def heard(self, data: bytes, sender: Any) -> None:
        """There was one, from this address."""
        raise NotImplementedError

    def missed(self) -> None:
        """The kernel reports a trouble, such as that there were more than it could keep."""

    def fileno(self) -> int:
        """For the reactor."""
        return self._socket.fileno()

    def doRead(self) -> None:
        """Read what there is."""
        for _ in range(AT_ONCE):
            try:
                data, sender = self._socket.recvfrom(self._longest)
            except BlockingIOError:
                return
            except OSError:
                # What has come before is still there, and has the reactor call again.
                self._try(self.missed)
                return
            self._try(self.heard, data, sender)

    def _try(self, handle: Callable[..., None], *arguments: Any) -> None:
        """The reactor would stop reading after an error."""
        try:
            handle(*arguments)
        except Exception:
            self.log.failure("what came by a socket cannot be dealt with")

    def close(self) -> None:
        """Hear no more, close the socket."""
        self.stopReading()
        self._socket.close()
