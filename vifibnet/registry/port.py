"""The registry's one TLS port: AMP for who asks for it by ALPN, HTTP/1.1 for everybody else."""

from __future__ import annotations

from typing import Any

from OpenSSL.crypto import X509
from twisted.internet.interfaces import IProtocol, IReactorTime
from twisted.logger import Logger
from twisted.web.server import Site

from vifibnet.guard.limits import Limits
from vifibnet.guard.port import GuardedPort, Negotiated
from vifibnet.pki.keepalive import keep_alive
from vifibnet.registry.amp import NodeFace
from vifibnet.registry.core import Registry
from vifibnet.wire.amp import ALPN

log = Logger()

HTTP_LIFE = 600.0
"""Seconds after which an HTTP connection is cut, however busy it looks: its client dials again."""


class RegistryPort(GuardedPort):
    """What is spoken on the registry's port."""

    def __init__(
        self, registry: Registry, site: Site, clock: IReactorTime, limits: Limits | None = None
    ) -> None:
        super().__init__(clock, limits or Limits())
        self.registry = registry
        self.site = site

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802
        """What we speak (RFC 7301), the best first."""
        return [ALPN, b"http/1.1"]

    def spoken(self, connection: Negotiated) -> IProtocol | None:
        """AMP with who shows a certificate, or HTTP."""
        transport: Any = connection.transport
        if transport.negotiatedProtocol != ALPN:
            connection.limit(HTTP_LIFE, "HTTP")
            return self.site.buildProtocol(connection.address)
        certificate: X509 | None = transport.getPeerCertificate()
        if certificate is None:
            log.info("refused AMP to {peer}: it shows no certificate", peer=str(connection.address))
            return None
        keep_alive(transport)
        face = NodeFace(self.registry, certificate.to_cryptography())
        host = connection.host
        face.bound(self.limits, self.clock, lambda: self.rate.take(host))
        return face
