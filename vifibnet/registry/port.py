"""The registry's one TLS port: AMP for who asks for it by ALPN, HTTP/1.1 for everybody else."""

from __future__ import annotations

import socket
from typing import Any

from OpenSSL.crypto import X509
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IOpenSSLContextFactory,
    IProtocol,
    IProtocolNegotiationFactory,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.web.server import Site
from zope.interface import implementer

from vifibnet.registry.amp import NodeFace
from vifibnet.registry.core import Registry
from vifibnet.wire.amp import ALPN

log = Logger()

HANDSHAKE_TIMEOUT = 15.0
"""Seconds for the TLS handshake."""

HTTP_LIFE = 600.0
"""Seconds after which an HTTP connection is cut, however busy it looks: its client dials again."""

KEEPALIVE = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 20, socket.TCP_KEEPCNT: 3}
"""A node that vanished is noticed within two minutes; nodes stay connected without a word for days."""


@implementer(IProtocolNegotiationFactory)
class RegistryPort(Factory):
    """Makes the protocols of the TLS port, and knows its connections so as to end them."""

    noisy = False

    def __init__(self, registry: Registry, site: Site, clock: IReactorTime) -> None:
        self.registry = registry
        self.site = site
        self.clock = clock
        self.connections: set[Negotiated] = set()

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802
        """What we speak (RFC 7301), the best first."""
        return [ALPN, b"http/1.1"]

    def buildProtocol(self, addr: IAddress | None) -> Negotiated:  # noqa: N802
        """One connection."""
        return Negotiated(self, addr)

    def over_tls(self, options: IOpenSSLContextFactory, clock: IReactorTime) -> TLSMemoryBIOFactory:
        """The factory to listen with; ``clock`` is the reactor: TLS lets it collect small writes."""
        factory = TLSMemoryBIOFactory(options, False, self, clock)
        factory.noisy = False
        return factory

    def close(self) -> None:
        """End all connections now."""
        for connection in list(self.connections):
            connection.abort()


@implementer(IHandshakeListener)
class Negotiated(Protocol):
    """One connection: a handshake, then whatever protocol the two sides agreed on."""

    def __init__(self, port: RegistryPort, address: IAddress | None) -> None:
        self._port = port
        self._address = address
        self._spoken: IProtocol | None = None
        self._deadline: IDelayedCall | None = None

    def connectionMade(self) -> None:  # noqa: N802
        """The handshake begins."""
        self._port.connections.add(self)
        self._deadline = self._port.clock.callLater(HANDSHAKE_TIMEOUT, self._too_late, "handshake")

    def handshakeCompleted(self) -> None:  # noqa: N802
        """Protocol and certificate are known."""
        transport: Any = self.transport
        self._cancel()
        if transport.negotiatedProtocol != ALPN:
            self._deadline = self._port.clock.callLater(HTTP_LIFE, self._too_late, "HTTP")
            self._speak(self._port.site.buildProtocol(self._address))
            return
        certificate: X509 | None = transport.getPeerCertificate()
        if certificate is None:
            log.info("refused AMP to {peer}: it shows no certificate", peer=str(self._address))
            self.abort()
            return
        _keep_alive(transport)
        self._speak(NodeFace(self._port.registry, certificate.to_cryptography()))

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Pass on what was decrypted."""
        if self._spoken is not None:
            self._spoken.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Tell whom it concerns."""
        self._cancel()
        self._port.connections.discard(self)
        if self._spoken is not None:
            self._spoken.connectionLost(reason)

    def abort(self) -> None:
        """End the connection now."""
        transport: Any = self.transport
        transport.abortConnection()

    def _speak(self, protocol: Any) -> None:
        self._spoken = protocol
        protocol.makeConnection(self.transport)

    def _too_late(self, what: str) -> None:
        self._deadline = None
        log.info("{what} of {peer} took too long", what=what, peer=str(self._address))
        self.abort()

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _keep_alive(transport: Any) -> None:
    """Have the kernel find out when the other side vanished; TLS hands this to the TCP transport below."""
    transport.setTcpKeepAlive(True)
    handle = transport.transport.getHandle()
    for option, value in KEEPALIVE.items():
        handle.setsockopt(socket.IPPROTO_TCP, option, value)
