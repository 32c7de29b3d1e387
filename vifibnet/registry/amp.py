"""The registry as AMP over mutual TLS: what nodes speak. Who calls is in the certificate."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from cryptography import x509
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from vifibnet.errors import (
    BadArguments,
    CertificateExpired,
    InternalError,
    RegistryRefusal,
    StorageFailed,
    UnknownNode,
)
from vifibnet.guard.bounded import BoundedAMP
from vifibnet.model.addresses import Prefix, normal_address
from vifibnet.registry.core import Registry
from vifibnet.wire.amp import (
    MAX_PIECE,
    Declare,
    DocumentChanged,
    GetBootstrapPeer,
    GetDocument,
    GetPeers,
    Renew,
    fitting,
)
from vifibnet.wire.document import Kind

log = Logger()

LINGER = 1.0
"""Seconds for the refusal to arrive before the connection of a stranger is cut."""

Result = dict[str, Any]


class NodeFace(BoundedAMP):
    """One node's connection. Every call looks its certificate up again: it may have been replaced since."""

    _seen: str | None = None

    def __init__(self, registry: Registry, certificate: x509.Certificate) -> None:
        super().__init__()
        self._registry = registry
        self.serial = certificate.serial_number
        self._not_after = certificate.not_valid_after_utc
        self._unknown: x509.Certificate | None = certificate
        self.node: Prefix | None = None
        self._cut: IDelayedCall | None = None

    def connectionMade(self) -> None:  # noqa: N802
        """From now on the node is told what changes, unless we do not know it."""
        super().connectionMade()
        with suppress(UnknownNode, StorageFailed):
            self._know()
        if self.node is None:
            self._after(self._limits.stranger, "stranger", self._still_stranger)

    def _know(self) -> None:
        """Find out who it is; each call tries again, for the database may not have been writable."""
        if self._unknown is not None:
            self._registry.know(self._unknown)
            self._unknown = None
        if self.node is None:
            self.node = self._registry.node_of_certificate(self.serial, self._not_after)
            self._registry.connected(self)
            connections = self._registry.connections
            for oldest in connections.like(self)[: -self._limits.connections_per_certificate]:
                log.info("{node} connects again and again: its oldest connection ends", node=str(self.node))
                connections.discard(oldest)
                oldest.abort()

    def _still_stranger(self) -> None:
        if self.node is None:
            self.drop("its certificate counts for nothing")

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Nobody to tell any more."""
        self._registry.disconnected(self)
        if self._cut is not None and self._cut.active():
            self._cut.cancel()
        super().connectionLost(reason)

    def document_changed(self, kind: Kind, number: int) -> None:
        """Tell the node that there is a new document."""
        self.callRemote(DocumentChanged, kind=kind, number=number)

    def abort(self) -> None:
        """Hang up now."""
        transport: Any = self.transport
        transport.abortConnection()

    @Declare.responder
    def declare(self, endpoints: str) -> Result:
        """Remember where the caller can be reached."""
        return self._answer("Declare", lambda node: self._declare(node, endpoints))

    @GetPeers.responder
    def get_peers(self, count: int) -> Result:
        """Name other nodes; as many of them as fit into one answer."""
        return self._answer("GetPeers", lambda node: {"peers": _fitting(self._registry.peers(node, count))})

    @GetBootstrapPeer.responder
    def get_bootstrap_peer(self) -> Result:
        """Name one other node."""
        return self._answer("GetBootstrapPeer", lambda node: _peer(*self._registry.bootstrap_peer(node)))

    @GetDocument.responder
    def get_document(self, kind: str, number: int, offset: int) -> Result:
        """Hand out a document, piece by piece; the authorities also to who has an expired certificate, for he
        has to know who signs the next one."""
        if kind == Kind.AUTHORITIES:
            return self._guarded("GetDocument", lambda: self._document(kind, number, offset))
        return self._answer("GetDocument", lambda _: self._document(kind, number, offset))

    def _document(self, kind: str, known: int, offset: int) -> Result:
        if offset < 0:
            raise BadArguments(method="GetDocument", problem="the offset is negative")
        number, document = self._registry.documents.current(kind)
        self._registry.documents.heard(kind, known, number)
        if number <= known:
            document = b""
        return {"number": number, "length": len(document), "piece": document[offset : offset + MAX_PIECE]}

    @Renew.responder
    def renew(self, request: str) -> Result:
        """Give a new certificate, also to who has an expired one."""

        def answer() -> Result:
            if self._unknown is not None:
                self._registry.know(self._unknown)
            return {"certificate": self._registry.renew(self.serial, request)}

        return self._guarded("Renew", answer)

    def _declare(self, node: Prefix, endpoints: str) -> Result:
        self._registry.declare(node, endpoints)
        return {}

    def _answer(self, command: str, call: Callable[[Prefix], Result]) -> Result:
        def answer() -> Result:
            if self.node is None:
                self._know()
            return call(self._registry.node_of_certificate(self.serial, self._not_after))

        return self._guarded(command, answer)

    def _guarded(self, command: str, call: Callable[[], Result]) -> Result:
        source = self._source()
        try:
            return {**call(), "seen": source}
        except RegistryRefusal as refusal:
            log.info(
                "refused {command} from {source}: {why}", command=command, source=source, why=str(refusal)
            )
            stranger = isinstance(refusal, UnknownNode) and not isinstance(refusal, CertificateExpired)
            if stranger and self._cut is None:
                self._cut = self._registry.call_later(LINGER, self.abort)
            raise
        except Exception:
            log.failure("{command} from {source} failed", command=command, source=source)
            raise InternalError from None

    def _source(self) -> str:
        if self._seen is None:
            transport: Any = self.transport
            host = str(getattr(transport.getPeer(), "host", ""))
            self._seen = str(normal_address(host) or host)
        return self._seen


def _peer(prefix: Prefix, endpoints: str) -> Result:
    return {"prefix": str(prefix), "endpoints": endpoints}


def _fitting(peers: list[tuple[Prefix, str]]) -> list[Result]:
    """As many of the peers, from the first, as one AMP value holds: some 800 of the usual size."""
    return fitting(_peer(prefix, endpoints) for prefix, endpoints in peers)
