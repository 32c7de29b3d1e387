"""The management sockets on which openvpn processes speak to us (doc/management-notes.txt)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.error import NotConnectingError
from twisted.internet.interfaces import IAddress, IConnector, IDelayedCall
from twisted.internet.protocol import ClientFactory
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from vifibnet.wire import openvpn as wire

FIRST_WAIT, LAST_WAIT = 0.005, 0.1
"""Seconds between two tries to connect, at first and at most: an openvpn listens 10 ms after its start."""


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


class ManagementLink:
    """Our connection to one openvpn at a time, which listens and is released as soon as we have connected.

    It goes on when we are gone, so that a node that has crashed costs no packet until the next one starts
    (node.orphans).
    """

    def __init__(
        self, reactor: Any, path: Path, greeting: Sequence[str], on_event: Callable[[wire.Event], None]
    ) -> None:
        self._reactor = reactor
        self._path = path
        self._greeting = greeting
        self._on_event = on_event
        self._connection: Management | None = None
        self._wait = FIRST_WAIT
        self._try: IConnector | None = None
        self._again: IDelayedCall | None = None

    def open(self) -> None:
        """Connect to the process that is about to start. Nobody listens there now."""
        self.close()
        self._wait = FIRST_WAIT
        self._connect()

    def close(self) -> None:
        """Try no more, disconnect, and remove what a process has left that may write nothing there."""
        if self._again is not None and self._again.active():
            self._again.cancel()
        connector, self._try = self._try, None
        connection, self._connection = self._connection, None
        if connection is not None and connection.transport is not None:
            connection.transport.loseConnection()
        elif connector is not None:
            with suppress(NotConnectingError):
                connector.stopConnecting()
        with suppress(OSError):
            self._path.unlink()

    def send(self, command: str) -> None:
        """Send a command to the process, if it is connected."""
        if self._connection is not None and self._connection.transport is not None:
            self._connection.send(command)

    def _connect(self) -> None:
        self._try = self._reactor.connectUNIX(str(self._path), _Connection(self._accept, self._failed))

    def _accept(self) -> Management:
        self._connection = Management(self._greeting, self._on_event)
        return self._connection

    def _failed(self, connector: IConnector) -> None:
        """It does not listen yet; or it has hung up."""
        if connector is self._try:
            self._connection = None
            self._again = self._reactor.callLater(self._wait, self._connect)
            self._wait = min(2 * self._wait, LAST_WAIT)


class _Connection(ClientFactory):
    """One try."""

    noisy = False

    def __init__(
        self, on_connect: Callable[[], Management], on_failure: Callable[[IConnector], None]
    ) -> None:
        self._on_connect = on_connect
        self._on_failure = on_failure

    def buildProtocol(self, addr: IAddress | None) -> Management:
        return self._on_connect()

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self._on_failure(connector)

    clientConnectionLost = clientConnectionFailed
