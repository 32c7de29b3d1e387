"""The registry's one TLS port: AMP for who asks for it by ALPN, HTTP/1.1 for everybody else."""

from __future__ import annotations

import socket
from typing import Any

from OpenSSL.crypto import X509
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IListeningPort,
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

from vifibnet.pki.keepalive import keep_alive
from vifibnet.registry.amp import NodeFace
from vifibnet.registry.core import Registry
from vifibnet.registry.gate import Gate, Visit
from vifibnet.registry.limits import Limits, Rate
from vifibnet.wire.amp import ALPN

log = Logger()

HTTP_LIFE = 600.0
"""Seconds after which an HTTP connection is cut, however busy it looks: its client dials again."""


@implementer(IProtocolNegotiationFactory)
class RegistryPort(Factory):
    """Makes the protocols of the TLS port, and knows its connections so as to end them."""

    noisy = False

    def __init__(
        self, registry: Registry, site: Site, clock: IReactorTime, limits: Limits | None = None
    ) -> None:
        self.registry = registry
        self.site = site
        self.clock = clock
        self.limits = limits or Limits()
        self.gate = Gate(clock, self.limits)
        self.rate = Rate(clock, self.limits.calls_per_second, self.limits.calls_burst)
        self.connections: set[Negotiated] = set()

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802
        """What we speak (RFC 7301), the best first."""
        return [ALPN, b"http/1.1"]

    def buildProtocol(self, addr: IAddress | None) -> Negotiated:  # noqa: N802
        """One connection."""
        return Negotiated(self, addr)

    def over_tls(self, options: IOpenSSLContextFactory, clock: IReactorTime) -> TLSMemoryBIOFactory:
        """The factory to listen with; ``clock`` is the reactor: TLS lets it collect small writes."""
        factory = _Entrance(options, False, self, clock)
        factory.noisy = False
        return factory

    def listen(
        self, reactor: Any, listening: socket.socket, options: IOpenSSLContextFactory
    ) -> IListeningPort:
        """Accept on this socket, of which the reactor gets a duplicate, as fast as we can bear."""
        factory = self.over_tls(options, reactor)
        port: IListeningPort = reactor.adoptStreamPort(listening.fileno(), listening.family, factory)
        self.gate.watch(port)
        return port

    def close(self) -> None:
        """End all connections now; the ports are being closed."""
        self.gate.release()
        for connection in list(self.connections):
            connection.abort()


class _Entrance(TLSMemoryBIOFactory):
    """Sends those away who have enough connections, before they cost us a TLS object."""

    def buildProtocol(self, addr: IAddress | None) -> Any:  # noqa: N802
        """One connection; None closes it."""
        return super().buildProtocol(addr) if self.wrappedFactory.gate.admits(_host(addr)) else None


@implementer(IHandshakeListener)
class Negotiated(Protocol):
    """One connection: a handshake, then whatever protocol the two sides agreed on."""

    def __init__(self, port: RegistryPort, address: IAddress | None) -> None:
        self._port = port
        self._address = address
        self._spoken: IProtocol | None = None
        self._deadline: IDelayedCall | None = None
        self._visit: Visit | None = None

    def connectionMade(self) -> None:  # noqa: N802
        """The handshake begins."""
        port = self._port
        port.connections.add(self)
        self._visit = port.gate.enter(_host(self._address))
        self._deadline = port.clock.callLater(port.limits.handshake_timeout, self._too_late, "handshake")

    def handshakeCompleted(self) -> None:  # noqa: N802
        """Protocol and certificate are known."""
        transport: Any = self.transport
        self._cancel()
        if self._visit is not None:
            self._visit.shaken()
        if transport.negotiatedProtocol != ALPN:
            self._deadline = self._port.clock.callLater(HTTP_LIFE, self._too_late, "HTTP")
            self._speak(self._port.site.buildProtocol(self._address))
            return
        certificate: X509 | None = transport.getPeerCertificate()
        if certificate is None:
            log.info("refused AMP to {peer}: it shows no certificate", peer=str(self._address))
            self.abort()
            return
        keep_alive(transport)
        face = NodeFace(self._port.registry, certificate.to_cryptography())
        host = _host(self._address)
        face.bound(self._port.limits, self._port.clock, lambda: self._port.rate.take(host))
        self._speak(face)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Pass on what was decrypted."""
        if self._spoken is not None:
            self._spoken.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Tell whom it concerns."""
        self._cancel()
        self._port.connections.discard(self)
        if self._visit is not None:
            self._visit.left()
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


def _host(address: IAddress | None) -> str:
    return str(getattr(address, "host", ""))
