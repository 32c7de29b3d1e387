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

from vifibnet.errors import BadArguments, CertificateExpired, InternalError, RegistryRefusal, UnknownNode
from vifibnet.model.addresses import Prefix
from vifibnet.registry.bounded import BoundedAMP
from vifibnet.registry.core import Registry, normal_address
from vifibnet.wire.amp import (
    MAX_PIECE,
    Declare,
    GetBootstrapPeer,
    GetPeers,
    GetRevocations,
    Renew,
    RevocationsChanged,
)

log = Logger()

MAX_VALUE = 0xFFFF
"""Bytes of one value in an AMP box."""

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
        self.node: Prefix | None = None
        self._cut: IDelayedCall | None = None

    def connectionMade(self) -> None:  # noqa: N802
        """From now on the node is told what changes, unless we do not know it."""
        super().connectionMade()
        with suppress(UnknownNode):
            self.node = self._registry.node_of_certificate(self.serial, self._not_after)
            self._registry.connected(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Nobody to tell any more."""
        self._registry.disconnected(self)
        if self._cut is not None and self._cut.active():
            self._cut.cancel()
        super().connectionLost(reason)

    def revocations_changed(self, number: int) -> None:
        """Tell the node that there is a new revocation list."""
        self.callRemote(RevocationsChanged, number=number)

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

    @GetRevocations.responder
    def get_revocations(self, number: int, offset: int) -> Result:
        """Hand out the revocation list, piece by piece."""
        return self._answer("GetRevocations", lambda _: self._revocations(number, offset))

    def _revocations(self, known: int, offset: int) -> Result:
        if offset < 0:
            raise BadArguments(method="GetRevocations", problem="the offset is negative")
        number, document = self._registry.revocations.current()
        if number <= known:
            document = b""
        return {"number": number, "length": len(document), "piece": document[offset : offset + MAX_PIECE]}

    @Renew.responder
    def renew(self, request: str) -> Result:
        """Give a new certificate, also to who has an expired one."""
        return self._guarded("Renew", lambda: {"certificate": self._registry.renew(self.serial, request)})

    def _declare(self, node: Prefix, endpoints: str) -> Result:
        self._registry.declare(node, endpoints)
        return {}

    def _answer(self, command: str, call: Callable[[Prefix], Result]) -> Result:
        return self._guarded(
            command, lambda: call(self._registry.node_of_certificate(self.serial, self._not_after))
        )

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
    answer = []
    room = MAX_VALUE
    for prefix, endpoints in peers:
        # Two bytes of length before each key and value, and two at the end of each peer.
        room -= len("prefix") + len("endpoints") + len(str(prefix)) + len(endpoints.encode()) + 4 * 2 + 2
        if room < 0:
            break
        answer.append(_peer(prefix, endpoints))
    return answer
