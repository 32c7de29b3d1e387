"""Fetch documents from a gateway without trusting it: one host, no redirects, bounded in size and time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast
from xml.parsers import expat

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, fail, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import (
    URI,
    Agent,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory
from txupnp.scpd import StringProducer
from zope.interface import implementer

from vifibnet.node.portmap.gateway import IReactor, MappingRefused
from vifibnet.node.portmap.ssdp import url_on

TIMEOUT = 3.0
"""Seconds for one whole request and answer."""

MAX_RESPONSE = 256 * 1024
"""Bytes of one response, headers included; real descriptions have 2 to 30 KiB."""

MAX_DEPTH = 24
"""How deep a document may nest; a device description needs about 12."""


def check_document(body: bytes) -> dict[str, str]:
    """Make sure that a document is safe to give to a parser; return the fault in it, if there is one.

    Raises ValueError for what is no XML, what declares a document type (only with one can entities expand
    without limit), and what nests deeper than any description. The fault is ``errorCode`` and
    ``errorDescription`` of a SOAP fault, as text.
    """
    path: list[str] = []
    fault: dict[str, str] = {}

    def doctype(*_: object) -> None:
        raise ValueError("it declares a document type")

    def start(tag: str, _: object) -> None:
        path.append(tag.rpartition(":")[2])
        if len(path) > MAX_DEPTH:
            raise ValueError("it nests too deep")

    def end(_: str) -> None:
        path.pop()

    def text(data: str) -> None:
        if path[-1] in ("errorCode", "errorDescription"):
            fault[path[-1]] = (fault.get(path[-1], "") + data)[:200]

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = doctype
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    try:
        parser.Parse(body, True)
    except expat.ExpatError as problem:
        raise ValueError(f"it is no XML ({problem})") from None
    return fault


def refusal(fault: Mapping[str, str]) -> MappingRefused:
    """The error that a SOAP fault stands for."""
    code = fault.get("errorCode", "").strip()
    number = int(code) if code.isascii() and code.isdigit() else 0
    return MappingRefused(number, fault.get("errorDescription", "").strip() or "it does not say why")


class _Limited(ProtocolWrapper):
    """Ends a connection that brings more than MAX_RESPONSE bytes."""

    _left = MAX_RESPONSE

    def dataReceived(self, data: bytes) -> None:
        """Pass on what fits."""
        self._left -= len(data)
        if self._left < 0:
            self.abortConnection()
        else:
            super().dataReceived(data)


class _LimitedFactory(WrappingFactory):
    protocol = _Limited

    def doStart(self) -> None:
        """Say nothing: every factory would log every connection."""

    def doStop(self) -> None:
        """Say nothing."""


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class _Connection:
    """The one connection of one request, always to ``host``; ``local`` is our own address on it."""

    def __init__(self, reactor: IReactor, host: str) -> None:
        self._reactor = reactor
        self._host = host
        self._port = 0
        self._protocol: ProtocolWrapper | None = None
        self.local: str | None = None

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Say where to connect to: this is our own host in any case."""
        self._port = uri.port
        return self

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect with the response limited in size."""
        endpoint = TCP4ClientEndpoint(self._reactor, self._host, self._port, timeout=TIMEOUT)
        return endpoint.connect(_LimitedFactory(protocolFactory)).addCallback(self._connected)

    def _connected(self, protocol: IProtocol) -> IProtocol:
        self._protocol = cast(ProtocolWrapper, protocol)
        self.local = self._protocol.getHost().host
        return self._protocol.wrappedProtocol

    def abort(self) -> None:
        """End it, whatever state it is in."""
        if self._protocol is not None:
            self._protocol.abortConnection()


class _Body(Protocol):
    """Collects the body of a response."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.whole: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Take a part."""
        self._parts.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """That was all; without a length the end of the connection is the end of the body."""
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(b"".join(self._parts))
        else:
            self.whole.errback(reason)


class Answer:
    """A response as txupnp's commands want it; reading it raises the fault that it carries."""

    def __init__(self, status: int, body: bytes) -> None:
        self._status = status
        self._body = body

    def content(self) -> Deferred[bytes]:
        """The body. Fails with MappingRefused, or ValueError for a body that is not safe to parse."""
        try:
            fault = check_document(self._body)
            if fault:
                raise refusal(fault)
            if self._status != 200:
                raise ValueError(f"it answered with HTTP status {self._status}")
        except (MappingRefused, ValueError) as problem:
            return fail(problem)
        return succeed(self._body)


def _too_slow(result: Answer | Failure, timeout: float) -> Answer:
    """Turn the cancellation that a timeout is into words for the log."""
    if isinstance(result, Failure):
        result.trap(CancelledError)
        raise TimeoutError(f"no answer within {timeout:g} s")
    return result


class Fetcher:
    """The HTTP client that the runner's commands use: one host, no redirects, bounded in size and time."""

    def __init__(self, reactor: IReactor, host: str, *, timeout: float = TIMEOUT) -> None:
        self._reactor = reactor
        self._host = host
        self._timeout = timeout
        self.local: str | None = None
        """Our own address as this host sees it, once something was fetched."""

    async def get(self, url: str) -> bytes:
        """The document at ``url``, checked."""
        return await (await self._limited("GET", url, None, {})).content()

    def request(
        self, method: str, url: bytes, data: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Deferred[Answer]:
        """What txupnp calls, in the shape of treq's client.

        Of its headers only SOAPAction is right (UPnP wants it in quotes): its Content-Length is a number,
        its Host that of a multicast group. Its body has a line before the XML declaration, which XML forbids.
        """
        action = str((headers or {}).get("SOAPAction", ""))
        ours = {"SOAPAction": f'"{action}"', "Content-Type": 'text/xml; charset="utf-8"'}
        return self._limited(method, url.decode("ascii"), data and data.lstrip(), ours)

    def _limited(
        self, method: str, url: str, data: bytes | None, headers: Mapping[str, str]
    ) -> Deferred[Answer]:
        exchange = Deferred.fromCoroutine(self._exchange(method, url, data, headers))
        return exchange.addTimeout(self._timeout, self._reactor, _too_slow)

    async def _exchange(
        self, method: str, url: str, data: bytes | None, headers: Mapping[str, str]
    ) -> Answer:
        connection = _Connection(self._reactor, self._host)
        pool = HTTPConnectionPool(self._reactor, persistent=False)
        agent = Agent.usingEndpointFactory(self._reactor, connection, pool=pool)
        body = _Body()
        try:
            response = await agent.request(
                method.encode("ascii"),
                url_on(self._host, "", url).encode("ascii"),
                Headers({name: [value] for name, value in headers.items()}),
                None if data is None else StringProducer(data),
            )
            response.deliverBody(body)
            answer = Answer(response.code, await body.whole)
        # Twisted wraps a cancellation up as if it were the server's failure.
        except ConnectingCancelledError:
            raise CancelledError from None
        except (RequestTransmissionFailed, ResponseFailed) as failed:
            if any(reason.check(CancelledError) for reason in failed.reasons):
                raise CancelledError from None
            raise
        finally:
            connection.abort()
        self.local = connection.local
        return answer
