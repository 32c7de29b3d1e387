"""The node's control socket: AMP (wire.control), for the node's user and root alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.amp import AMP

from vifibnet.node.draining import Draining
from vifibnet.owners import may_command, peer_uid
from vifibnet.wire.control import CONTROL, Drain, Undrain

log = Logger()


class ControlFace(AMP):
    """One operator's connection."""

    def __init__(self, draining: Draining) -> None:
        """What may be commanded."""
        AMP.__init__(self)
        self._draining = draining

    def connectionMade(self) -> None:
        """Hang up on strangers before anything is said."""
        transport: Any = self.transport
        uid = peer_uid(transport.getHandle())
        if not may_command(uid):
            log.warn("refused uid {uid} at the control socket", uid=uid)
            transport.abortConnection()
            return
        AMP.connectionMade(self)

    @Drain.responder
    def drain(self) -> dict[str, bool]:
        """Begin."""
        return {"before": self._draining.drain()}

    @Undrain.responder
    def undrain(self) -> dict[str, bool]:
        """End."""
        return {"before": self._draining.undrain()}


class ControlServer(Service):
    """Listens in the state directory."""

    def __init__(self, reactor: Any, state: Path, draining: Draining) -> None:
        """Nothing happens before startService."""
        self._reactor = reactor
        self._path = state / CONTROL
        self._factory = Factory.forProtocol(lambda: ControlFace(draining))
        self._factory.noisy = False
        self._port: Any = None

    def startService(self) -> None:
        """Listen; a socket that a killed run left is replaced. A node without it is still a node."""
        super().startService()
        before = os.umask(0o177)
        try:
            self._path.unlink(missing_ok=True)
            self._port = self._reactor.listenUNIX(str(self._path), self._factory, mode=0o600)
        except Exception:
            log.failure("no control socket at {path}", path=str(self._path))
        finally:
            os.umask(before)

    def stopService(self) -> Deferred[Any]:
        """Stop listening; the socket's file goes with it."""
        super().stopService()
        port, self._port = self._port, None
        return maybeDeferred(port.stopListening) if port is not None else maybeDeferred(lambda: None)
