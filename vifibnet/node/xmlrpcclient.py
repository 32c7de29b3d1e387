"""The registry's XML-RPC methods for those who hold no certificate yet: over TLS, to one registry only.

The server must show a certificate of the pinned CA for the fixed name ``registry.vifibnet``. Whatever it
answers is bounded in size and in time.
"""

from __future__ import annotations

import xmlrpc.client as xmlrpc  # noqa: S411 -- the answers come from the pinned registry and are small
from collections.abc import Iterator
from typing import Any, TypeVar
from xml.parsers.expat import ExpatError

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.error import ConnectError, ConnectionLost, ConnectionRefusedError, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IConsumer, IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, ResponseDone, ResponseFailed
from twisted.web.http import OK, PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from vifibnet import __version__
from vifibnet.errors import (
    REFUSALS,
    BadAddress,
    BadEndpoints,
    NotOurRegistry,
    RegistryRefusal,
    RegistryUnreachable,
    UnknownMethod,
    VifibnetError,
)
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.wire.amp import REGISTRY_NAME
from vifibnet.wire.endpoints import parse_endpoints

MAX_ANSWER = 64 * 1024
"""Bytes. The largest answer is a certificate or a CA of a few kilobytes."""

TIMEOUT = 60.0
"""Seconds for one call with its connection: the registry may be waiting for a mail server meanwhile."""

T = TypeVar("T")


@implementer(IBodyProducer)
class _Request:
    """The few bytes of a request's body."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Everything was written at once."""

    resumeProducing = stopProducing = pauseProducing


@implementer(IAgentEndpointFactory)
class _OneEndpoint:
    """Whatever the URL says, the connection goes to the one registry."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        return self._endpoint


class _Answer(Protocol):
    """Collects a body; ``done`` fires with it, or fails with ValueError as soon as it is too long."""

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._drop())
        self._body = b""

    def _drop(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > MAX_ANSWER and not self.done.called:
            self.done.errback(ValueError(f"its answer is longer than {MAX_ANSWER} bytes"))
            self._drop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(self._body)
        else:
            self.done.errback(reason)


class XMLRPCRegistry:
    """The registry as it answers anybody.

    Every call raises RegistryUnreachable, NotOurRegistry or a RegistryRefusal; CancelledError if cancelled.
    """

    def __init__(
        self,
        reactor: Any,
        endpoint: IStreamClientEndpoint,
        tls: IOpenSSLClientConnectionCreator,
        where: str,
        timeout: float = TIMEOUT,
    ) -> None:
        """``endpoint`` is dialled for each call, ``tls`` verifies it; ``where`` names it in errors."""
        self.where = where
        self._reactor = reactor
        self._timeout = timeout
        self._agent = Agent.usingEndpointFactory(reactor, _OneEndpoint(wrapClientTLS(tls, endpoint)))

    async def get_ca(self) -> str:
        """The CA certificate as PEM."""
        return self._expect(str, await self.call("getCa"))

    async def authorities(self) -> list[str]:
        """The documents that name the network's CAs, each signed by another one; none of an old registry."""
        try:
            answer = self._expect(list, await self.call("getAuthorities"))
        except UnknownMethod:
            return []
        return [self._expect(str, document) for document in answer]

    async def request_token(self, email: str) -> None:
        """Have a token sent to ``email``."""
        await self.call("requestToken", email)

    async def request_certificate(self, token: str, request: str) -> str:
        """Trade a token and a certificate request (PEM) for a certificate (PEM)."""
        return self._expect(str, await self.call("requestCertificate", token, request))

    async def bootstrap(self) -> tuple[Prefix, tuple[Endpoint, ...]]:
        """One peer that can be reached."""
        answer = await self.call("getBootstrapPeer")
        try:
            bits, endpoints = self._expect(list, answer)
            peer = Prefix.from_bits(bits), parse_endpoints(endpoints)
        except (TypeError, ValueError, BadAddress, BadEndpoints):
            raise self._not_ours("the peer that it names is none") from None
        if not peer[1]:
            raise self._not_ours("the peer that it names has no endpoint")
        return peer

    async def call(self, method: str, *arguments: str) -> object:
        """Call one method; the result is what xmlrpc.client makes of it."""
        body = xmlrpc.dumps(arguments, method).encode()
        try:
            exchange = Deferred.fromCoroutine(self._exchange(body))
            answer = await exchange.addTimeout(self._timeout, self._reactor, _too_late)
            (result,), _ = xmlrpc.loads(answer)
        except xmlrpc.Fault as fault:
            raise _refusal(fault) from None
        except (xmlrpc.ResponseError, ExpatError, UnicodeError):
            raise self._not_ours("its answer is not XML-RPC") from None
        except ValueError as error:
            raise self._not_ours(str(error)) from None
        except Exception as error:
            if any(isinstance(cause, CancelledError) for cause in _causes(error)):
                raise CancelledError from None
            raise _explain(error, self.where, self._timeout) from error
        return result

    async def _exchange(self, body: bytes) -> bytes:
        headers = Headers({"Content-Type": ["text/xml"], "User-Agent": [f"vifibnet/{__version__}"]})
        url = f"https://{REGISTRY_NAME}/RPC2".encode()
        response: IResponse = await self._agent.request(b"POST", url, headers, _Request(body))
        answer = _Answer()
        response.deliverBody(answer)
        if response.code != OK:
            answer.done.addErrback(lambda _: None)
            answer.done.cancel()
            raise ValueError(f"it answers HTTP status {response.code}")
        return await answer.done

    def _expect(self, kind: type[T], answer: object) -> T:
        if not isinstance(answer, kind):
            raise self._not_ours(f"it answers with {type(answer).__name__} instead of {kind.__name__}")
        return answer

    def _not_ours(self, problem: str) -> NotOurRegistry:
        return NotOurRegistry(where=self.where, problem=problem)


def _refusal(fault: xmlrpc.Fault) -> RegistryRefusal:
    """The refusal that a Fault stands for; its text goes to a terminal, so nothing else gets through."""
    text = "".join(c if c.isprintable() else " " for c in str(fault.faultString))[:500]
    code = fault.faultCode if isinstance(fault.faultCode, int) else 0
    if code in REFUSALS:
        return REFUSALS[code](text)
    return RegistryRefusal(f"The registry refused the request: {text} (code {code}).")


def _too_late(_result: object, timeout: float) -> Failure:
    """A timeout cancels, and what that leads to depends on how far the exchange has come."""
    return Failure(TimeoutError(timeout))


def _explain(error: Exception, where: str, timeout: float) -> VifibnetError:
    """What an operator can make of an error of the connection."""
    for cause in _causes(error):
        if isinstance(cause, SSL.Error):
            return NotOurRegistry(where=where, problem=_tls_problem(cause))
        if isinstance(cause, (TimeoutError, ConnectTimeout)):
            return _unreachable(where, f"no answer within {timeout:g} seconds")
        if isinstance(cause, ConnectionRefusedError):
            return _unreachable(where, "nothing listens on that port")
        if isinstance(cause, DNSLookupError):
            return _unreachable(where, "the name is not known")
        if isinstance(cause, ConnectError):
            return _unreachable(where, str(cause).rstrip("."))
    if any(isinstance(cause, ConnectionLost) for cause in _causes(error)):
        return _unreachable(where, "it closed the connection without an answer")
    return _unreachable(where, str(error) or type(error).__name__)


def _unreachable(where: str, problem: str) -> RegistryUnreachable:
    return RegistryUnreachable(where=where, problem=problem)


def _tls_problem(error: SSL.Error) -> str:
    reasons = " ".join(str(entry[-1]) for entry in (error.args[0] if error.args else []) if entry)
    if "certificate verify failed" in reasons:
        return "its certificate is not the registry's, signed by the network's CA"
    return f"it does not speak TLS ({reasons or 'it closed the connection'})"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what twisted.web wrapped in it."""
    yield error
    if isinstance(error, ResponseFailed):
        for failure in error.reasons:
            yield from _causes(failure.value)
