"""Where other nodes call this one: AMP over mutual TLS on its own address in the network, for members
alone."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IOpenSSLContextFactory, IProtocol, IReactorTime
from twisted.logger import Logger

from vifibnet.errors import BadArguments
from vifibnet.guard.bounded import BoundedAMP
from vifibnet.guard.limits import Limits
from vifibnet.guard.port import GuardedPort, Negotiated
from vifibnet.model.addresses import Prefix
from vifibnet.model.news import News
from vifibnet.node.knowledge import Knowledge
from vifibnet.pki.peertls import Welcome, member
from vifibnet.wire.endpoints import format_endpoints, parse_endpoints
from vifibnet.wire.peertalk import ALPN, MAX_COUNT, GetEndpoints, GetPeers, Meet, news_rows, parse_prefixes

LIMITS = Limits(
    handshakes=8,
    handshake_timeout=10.0,
    connections=64,
    connections_per_address=8,
    calls_per_second=2.0,
    calls_burst=30.0,
    box=8 * 1024,
    stalled=10.0,
    silence=20.0,
    answer=10.0,
)
"""What a node bears: calls are short, and come from a few neighbours."""

VISIT = 60.0
"""Seconds after which a visit is over, however much there is to say."""

RETRY = 10.0
"""Seconds between two attempts to listen: our address may come later."""

BACKLOG = 32
"""Connections that may wait to be accepted."""

log = Logger()


class PeerFace(BoundedAMP):
    """One member who is calling."""

    def __init__(self, knowledge: Knowledge, peer: Prefix, on_met: Callable[[Prefix], None]) -> None:
        """``on_met`` is called when it has told where it is, and is told where we are."""
        super().__init__()
        self._knowledge = knowledge
        self._peer = peer
        self._on_met = on_met

    @Meet.responder
    def meet(self, endpoints: str) -> dict[str, Any]:
        """Hear where the caller is. Raises BadEndpoints."""
        told = parse_endpoints(endpoints)
        self._knowledge.hear(self._peer, [News(self._peer, told, 0.0)])
        self._on_met(self._peer)
        return {"endpoints": format_endpoints(self._knowledge.here())}

    @GetPeers.responder
    def get_peers(self, count: int) -> dict[str, Any]:
        """Name others. Raises BadArguments."""
        if count < 1:
            raise BadArguments(method="GetPeers", problem="the count must be positive")
        return {"peers": news_rows(self._knowledge.sample(min(count, MAX_COUNT), self._peer))}

    @GetEndpoints.responder
    def get_endpoints(self, prefixes: str) -> dict[str, Any]:
        """Say where these are. Raises BadArguments."""
        return {"peers": news_rows(self._knowledge.of(parse_prefixes(prefixes), self._peer))}


class PeerFactory(GuardedPort):
    """Speaks with members, and hangs up on everybody else."""

    def __init__(
        self,
        clock: IReactorTime,
        knowledge: Knowledge,
        welcome: Welcome,
        on_met: Callable[[Prefix], None],
        limits: Limits = LIMITS,
    ) -> None:
        super().__init__(clock, limits)
        self._knowledge = knowledge
        self._welcome = welcome
        self._on_met = on_met

    def acceptableProtocols(self) -> list[bytes]:  # noqa: N802
        """One."""
        return [ALPN]

    def spoken(self, connection: Negotiated) -> IProtocol | None:
        """AMP, with a member. TLS has seen to that already; what it lets pass is looked at once more."""
        transport: Any = connection.transport
        certificate = transport.getPeerCertificate()
        peer = member(certificate.to_cryptography(), self._welcome) if certificate is not None else None
        if peer is None or transport.negotiatedProtocol != ALPN:
            log.info("refused {source}: it is no member", source=connection.host)
            return None
        face = PeerFace(self._knowledge, peer, self._on_met)
        face.bound(self.limits, self.clock, lambda: self.rate.take(connection.host))
        connection.limit(VISIT, "the visit")
        return face


class PeerPort(Service):
    """Listens on our own address in the network, as soon as it is there."""

    def __init__(
        self, reactor: Any, address: str, port: int, contexts: IOpenSSLContextFactory, factory: PeerFactory
    ) -> None:
        """``address`` may be none of this machine's yet."""
        self._reactor = reactor
        self._where = address, port
        self._contexts = contexts
        self._factory = factory
        self._listening: Any = None
        self._again: IDelayedCall | None = None
        self._said = False

    @property
    def number(self) -> int:
        """The port that is listened on; 0 for none."""
        return 0 if self._listening is None else int(self._listening.getHost().port)

    def startService(self) -> None:
        """Listen. Without the port we are a node that nobody can ask."""
        super().startService()
        self._listen()

    def _listen(self) -> None:
        self._again = None
        try:
            with _open(*self._where) as opened:
                self._listening = self._factory.listen(self._reactor, opened, self._contexts)
        except OSError as error:
            say = log.debug if self._said else log.warn
            self._said = True
            address, port = self._where
            say(
                "TCP port {port} of {address} cannot be used ({problem}): peers can ask us nothing",
                port=port,
                address=address,
                problem=error.strerror,
            )
            self._again = self._reactor.callLater(RETRY, self._listen)

    def stopService(self) -> Deferred[Any]:
        """Hear nobody any more."""
        super().stopService()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        listening, self._listening = self._listening, None
        self._factory.close()
        return maybeDeferred(listening.stopListening) if listening is not None else succeed(None)


def _open(address: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError."""
    opened = socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind((address, port))
        opened.listen(BACKLOG)
    except BaseException:
        opened.close()
        raise
    return opened
