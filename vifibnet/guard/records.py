"""TLS that answers at once: what is written while something is read leaves with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.interfaces import IWriteDescriptor
from twisted.protocols.tls import TLSMemoryBIOProtocol

MOST = 64_000
"""Bytes that are collected at most."""


class PromptTLS(TLSMemoryBIOProtocol):
    """The answers to what has come in one piece become one record, written before the reactor's turn ends.

    Twisted's own collects until the next turn: two thirds more time for whoever calls, waits and calls again.
    """

    _collected: list[bytes] | None = None
    _room = MOST

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Hand on what was decrypted; then send what was answered."""
        self._collected = []
        try:
            super().dataReceived(data)
        finally:
            answered = bool(self._collected)
            self._send()
            self._collected = None
            if answered:
                self._depart()

    def write(self, data: bytes) -> None:
        """Send, or keep until the end of what is being read."""
        if self._collected is None:
            super().write(data)
            return
        self._collected.append(data)
        self._room -= len(data)
        if self._room < 0:
            self._send()

    def writeSequence(self, sequence: Iterable[bytes]) -> None:  # noqa: N802
        """As one."""
        self.write(b"".join(sequence))

    def loseConnection(self) -> Any:  # noqa: N802
        """Hang up when all is sent."""
        self._send()
        return super().loseConnection()

    def abortConnection(self) -> None:  # noqa: N802
        """Hang up now."""
        self._collected = None
        super().abortConnection()

    def _depart(self) -> None:
        """Hand it to the kernel now, which the reactor does only after asking whether there is room."""
        transport: Any = self.transport
        # What ends, and what the kernel refuses, is left to the reactor: it has to know how that ended.
        has_socket = IWriteDescriptor.providedBy(transport)
        if has_socket and transport.connected and not transport.disconnecting:
            transport.doWrite()

    def _send(self) -> None:
        if self._collected:
            data = b"".join(self._collected)
            self._collected.clear()
            self._room = MOST
            super().write(data)
