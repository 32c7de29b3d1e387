"""The status socket: who connects gets one JSON document and the end of the stream."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from vifibnet.model.status import NodeStatus

FILE = "status.sock"
"""The socket, in the state directory."""


class StatusProtocol(Protocol):
    """Says it once and hangs up, whatever it hears."""

    def __init__(self, document: bytes) -> None:
        self._document = document

    def connectionMade(self) -> None:
        """Answer."""
        transport: Any = self.transport
        transport.write(self._document)
        transport.loseConnection()


class StatusFactory(Factory):
    """Makes the documents: the status at the moment of the connection, as JSON and a newline."""

    noisy = False

    def __init__(self, observe: Callable[[], NodeStatus]) -> None:
        """``observe`` is called for every document."""
        self._observe = observe

    def buildProtocol(self, addr: object) -> StatusProtocol:
        """One for each connection."""
        return StatusProtocol(json.dumps(asdict(self._observe())).encode() + b"\n")


class StatusServer(Service):
    """Listens at ``STATE/status.sock``, for the machine's root alone."""

    log = Logger()

    def __init__(self, reactor: Any, path: Path, observe: Callable[[], NodeStatus]) -> None:
        """Nothing happens before startService."""
        self._reactor = reactor
        self._path = path
        self._factory = StatusFactory(observe)
        self._port: Any = None

    def startService(self) -> None:
        """Listen; a socket that a killed run left is replaced. A node without it is still a node."""
        super().startService()
        try:
            self._path.unlink(missing_ok=True)
            self._port = self._reactor.listenUNIX(str(self._path), self._factory, mode=0o600)
        except Exception:
            self.log.failure("no status socket at {path}", path=str(self._path))

    def stopService(self) -> Deferred[Any]:
        """Stop listening; the socket's file goes with it."""
        super().stopService()
        port, self._port = self._port, None
        return maybeDeferred(port.stopListening) if port is not None else maybeDeferred(lambda: None)


class _UntilClosed(Protocol):
    """Collects what comes until the other side closes."""

    def __init__(self) -> None:
        self.data = b""
        self.complete: Deferred[bytes] = Deferred(self._give_up)

    def _give_up(self, _: object) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.complete.called:
            self.complete.callback(self.data)


async def read_status(reactor: Any, path: Path, timeout: float = 3.0) -> dict[str, Any] | None:
    """Ask a node's status socket for its document; None when there is no node, or it does not answer."""
    try:
        endpoint = UNIXClientEndpoint(reactor, str(path), timeout=timeout)
        protocol = await connectProtocol(endpoint, _UntilClosed())
        document = json.loads(await protocol.complete.addTimeout(timeout, reactor))
    except (ConnectError, TimeoutError, ValueError):
        return None
    return document if isinstance(document, dict) else None
