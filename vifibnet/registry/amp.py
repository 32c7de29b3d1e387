"""The registry as AMP over mutual TLS: what nodes speak. Who calls is in the certificate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cryptography import x509
from twisted.logger import Logger

from vifibnet.errors import InternalError, RegistryRefusal
from vifibnet.model.addresses import Prefix
from vifibnet.registry.bounded import BoundedAMP
from vifibnet.registry.core import Registry, normal_address
from vifibnet.wire.amp import Declare, GetBootstrapPeer, GetPeers

log = Logger()

MAX_VALUE = 0xFFFF
"""Bytes of one value in an AMP box."""

Result = dict[str, Any]


class NodeFace(BoundedAMP):
    """One node's connection. Every call looks its certificate up again: it may have been replaced since."""

    _seen: str | None = None

    def __init__(self, registry: Registry, certificate: x509.Certificate) -> None:
        super().__init__()
        self._registry = registry
        self._serial = certificate.serial_number
        self._not_after = certificate.not_valid_after_utc

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

    def _declare(self, node: Prefix, endpoints: str) -> Result:
        self._registry.declare(node, endpoints)
        return {}

    def _answer(self, command: str, call: Callable[[Prefix], Result]) -> Result:
        source = self._source()
        try:
            node = self._registry.node_of_certificate(self._serial, self._not_after)
            return {**call(node), "seen": source}
        except RegistryRefusal as refusal:
            log.info(
                "refused {command} from {source}: {why}", command=command, source=source, why=str(refusal)
            )
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
