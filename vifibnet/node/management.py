"""The management sockets on which openvpn processes speak to us (doc/management-notes.txt)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver

from vifibnet.wire import openvpn as wire


class Management(LineOnlyReceiver):
    """One openvpn process, connected."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 20

    def __init__(self, greeting: Sequence[str], on_event: Callable[[wire.Event], None]) -> None:
        self._greeting = greeting
        self._on_event = on_event
        self._reader = wire.ManagementReader()

    def connectionMade(self) -> None:
        for command in self._greeting:
            self.send(command)

    def lineReceived(self, line: bytes) -> None:
        event = self._reader.feed(line.decode(errors="replace").rstrip("\r"))
        if isinstance(event, wire.Hold):
            self.send("hold release")
        elif event is not None:
            self._on_event(event)

    def send(self, command: str) -> None:
        """Send one command."""
        self.sendLine(command.encode())


class ManagementPort:
    """Our listening socket for one openvpn at a time, which is released as soon as it has connected."""

    def __init__(
        self, reactor: Any, path: Path, greeting: Sequence[str], on_event: Callable[[wire.Event], None]
    ) -> None:
        self._reactor = reactor
        self._path = path
        self._greeting = greeting
        self._on_event = on_event
        self._port: IListeningPort | None = None
        self._connection: Management | None = None

    def open(self) -> None:
        """Listen. Raises CannotListenError. The file is ours alone before anybody can connect."""
        with suppress(FileNotFoundError):
            self._path.unlink()
        factory = Factory.forProtocol(self._accept)
        factory.noisy = False
        self._port = self._reactor.listenUNIX(str(self._path), factory, mode=0o600)

    async def close(self) -> None:
        """Stop listening and disconnect, which ends an openvpn that is still there."""
        port, self._port = self._port, None
        if self._connection is not None and self._connection.transport is not None:
            self._connection.transport.loseConnection()
        if port is not None:
            with suppress(FileNotFoundError):
                await maybeDeferred(port.stopListening)

    def send(self, command: str) -> None:
        """Send a command to the process, if it is connected."""
        if self._connection is not None and self._connection.transport is not None:
            self._connection.send(command)

    def _accept(self) -> Management:
        self._connection = Management(self._greeting, self._on_event)
        return self._connection
