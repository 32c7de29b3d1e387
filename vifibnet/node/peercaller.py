"""Calling another node over the network itself: AMP over mutual TLS, to the address that its prefix gives
it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.endpoints import TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.amp import AMP, Command
from zope.interface import implementer

from vifibnet.errors import BadEndpoints, PeerUnreachable, RegistryRefusal
from vifibnet.interfaces import IPeerCaller
from vifibnet.model.addresses import Network, Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.news import News
from vifibnet.model.visits import Visit
from vifibnet.pki.certificates import CA, Identity
from vifibnet.pki.peertls import Welcome, peer_client_options
from vifibnet.wire.endpoints import format_endpoints, parse_endpoints
from vifibnet.wire.peertalk import ALPN, GetEndpoints, GetPeers, Meet, format_prefixes, parse_news

CONNECT_TIMEOUT = 5.0
"""Seconds in which the other side must accept."""

VISIT_TIMEOUT = 15.0
"""Seconds that a whole visit may take: a handshake and three answers."""

MAX_ANSWERS = 256 * 1024
"""Bytes that a visited node may send in all."""

Reach = Callable[[Prefix], IStreamClientEndpoint]
"""Where a node's port is, without TLS."""


def over_the_network(reactor: Any, network: Network, own: Prefix, port: int) -> Reach:
    """Reach nodes at their own addresses, from ours."""

    def reach(peer: Prefix) -> IStreamClientEndpoint:
        return TCP6ClientEndpoint(
            reactor,
            str(network.address(peer)),
            port,
            timeout=CONNECT_TIMEOUT,
            bindAddress=(str(network.address(own)), 0),
        )

    return reach


@implementer(IPeerCaller)
class PeerCaller:
    """Makes visits, each over a connection of its own."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        reach: Reach,
        identity: Callable[[], Identity],
        cas: Callable[[], Sequence[CA]],
        welcome: Welcome,
    ) -> None:
        """``identity`` is whom we show ourselves to be, ``welcome`` says who is a member."""
        self._reactor = reactor
        self._reach = reach
        self._identity = identity
        self._cas = cas
        self._welcome = welcome

    async def visit(self, visit: Visit, own: Sequence[Endpoint]) -> list[News]:
        """Tell ``own``, ask what the visit asks. Raises PeerUnreachable."""
        talking = Deferred.fromCoroutine(self._talk(visit, own))
        try:
            return await talking.addTimeout(VISIT_TIMEOUT, self._reactor)
        except CancelledError:
            raise
        except Exception as error:
            raise PeerUnreachable(peer=str(visit.peer), problem=_words(error)) from error

    async def _talk(self, visit: Visit, own: Sequence[Endpoint]) -> list[News]:
        options = peer_client_options(self._cas(), self._identity(), visit.peer, self._welcome, ALPN)
        factory = Factory.forProtocol(_Line)
        factory.noisy = False
        endpoint = wrapClientTLS(options, self._reach(visit.peer))
        line = cast(_Line, await endpoint.connect(factory))
        try:
            return await self._converse(line, visit, own)
        finally:
            line.hang_up()

    async def _converse(self, line: _Line, visit: Visit, own: Sequence[Endpoint]) -> list[News]:
        met = await line.ask(Meet, endpoints=format_endpoints(own))
        news = [News(visit.peer, _parsed(met["endpoints"]), 0.0)]
        if visit.wanted:
            found = await line.ask(GetEndpoints, prefixes=format_prefixes(visit.wanted))
            # Only what was asked for: nobody fills our database of his own accord.
            news += [each for each in parse_news(found["peers"]) if each.peer in visit.wanted]
        if visit.count:
            found = await line.ask(GetPeers, count=visit.count)
            news += [each for each in parse_news(found["peers"])[: visit.count] if each.peer != visit.peer]
        return news


class _Line(AMP):
    """One connection; it only asks."""

    _received = 0
    _gone = False

    def __init__(self) -> None:
        super().__init__(locator=_Deaf())

    def dataReceived(self, data: bytes) -> None:
        """So much, and no more."""
        self._received += len(data)
        if self._received > MAX_ANSWERS:
            self.hang_up()
        else:
            super().dataReceived(data)

    async def ask(self, command: type[Command], **arguments: object) -> dict[str, Any]:
        """One question."""
        answer: Deferred[dict[str, Any]] = self.callRemote(command, **arguments)
        return await answer

    def connectionLost(self, reason: Any = None) -> None:
        """There is nothing left to hang up."""
        self._gone = True
        super().connectionLost(reason)

    def hang_up(self) -> None:
        """Close it without waiting for the other side."""
        if not self._gone:
            cast(Any, self.transport).abortConnection()


class _Deaf:
    """Whom we call asks us nothing."""

    def locateResponder(self, name: bytes) -> None:
        """There is none."""


def _parsed(text: str) -> tuple[Endpoint, ...]:
    """A newer node may be reached by ways that we do not know."""
    try:
        return parse_endpoints(text)
    except BadEndpoints:
        return ()


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it takes too long"
    if isinstance(error, RegistryRefusal):
        return f"it refuses ({error})".replace(".)", ")")
    return f"{type(error).__name__} {error}".strip().rstrip(".")
