"""A TLS port: who is let in, how long a handshake may take, and what is spoken after it."""

from __future__ import annotations

import socket
from typing import Any

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
from zope.interface import implementer

from vifibnet.guard.gate import Gate, Visit
from vifibnet.guard.limits import Limits, Rate
from vifibnet.guard.records import PromptTLS

log = Logger()


@implementer(IProtocolNegotiationFactory)
class GuardedPort(Factory):
    """Makes the protocols of a TLS port, and knows its connections so as to end them.

    A subclass says what is spoken (``spoken``) and names it (``acceptableProtocols``, RFC 7301).
    """

    noisy = False

    def __init__(self, clock: IReactorTime, limits: Limits) -> None:
        self.clock = clock
        self.limits = limits
        self.gate = Gate(clock, limits)
        self.rate = Rate(clock, limits.calls_per_second, limits.calls_burst)
        self.connections: set[Negotiated] = set()

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802
        """What we speak, the best first."""
        raise NotImplementedError

    def spoken(self, connection: Negotiated) -> IProtocol | None:
        """What is spoken on a connection whose handshake is done; None ends it."""
        raise NotImplementedError

    def buildProtocol(self, addr: IAddress | None) -> Negotiated:  # noqa: N802
        """One connection."""
        return Negotiated(self, addr)

    def over_tls(self, options: IOpenSSLContextFactory, clock: IReactorTime) -> TLSMemoryBIOFactory:
        """The factory to listen with; ``clock`` is the reactor."""
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

    protocol = PromptTLS

    def buildProtocol(self, addr: IAddress | None) -> Any:  # noqa: N802
        """One connection; None closes it."""
        return super().buildProtocol(addr) if self.wrappedFactory.gate.admits(_host(addr)) else None


@implementer(IHandshakeListener)
class Negotiated(Protocol):
    """One connection: a handshake, then whatever protocol the two sides agreed on."""

    def __init__(self, port: GuardedPort, address: IAddress | None) -> None:
        self._port = port
        self.address = address
        self._spoken: IProtocol | None = None
        self._deadline: IDelayedCall | None = None
        self._visit: Visit | None = None

    @property
    def host(self) -> str:
        """The address that it comes from."""
        return _host(self.address)

    def connectionMade(self) -> None:  # noqa: N802
        """The handshake begins."""
        port = self._port
        port.connections.add(self)
        self._visit = port.gate.enter(self.host)
        self.limit(port.limits.handshake_timeout, "handshake")

    def handshakeCompleted(self) -> None:  # noqa: N802
        """Protocol and certificate are known."""
        self._cancel()
        if self._visit is not None:
            self._visit.shaken()
        spoken: Any = self._port.spoken(self)
        if spoken is None:
            self.abort()
            return
        self._spoken = spoken
        spoken.makeConnection(self.transport)

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

    def limit(self, seconds: float, what: str) -> None:
        """End the connection when ``what`` takes longer; a handshake's end lifts the limit."""
        self._cancel()
        self._deadline = self._port.clock.callLater(seconds, self._too_late, what)

    def _too_late(self, what: str) -> None:
        self._deadline = None
        log.info("{what} of {peer} took too long", what=what, peer=str(self.address))
        self.abort()

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _host(address: IAddress | None) -> str:
    return str(getattr(address, "host", ""))
