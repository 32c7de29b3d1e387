"""The registry as XML-RPC over HTTP/1.1, with the method names, arguments and results of 2012."""

from __future__ import annotations

import inspect
import xmlrpc.client as xmlrpclib  # noqa: S411 -- bodies are small, and expat stops expanding entities
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from twisted.web.xmlrpc import XMLRPC, Fault, addIntrospection

from vifibnet.errors import BadArguments, InternalError, NotXMLRPC, RegistryRefusal, UnknownMethod
from vifibnet.guard.limits import Limits, Rate
from vifibnet.registry.core import Registry

log = Logger()

MAX_BODY = 64 * 1024
"""Bytes of a request's body: a certificate request of 8 KiB is the largest thing that is ever sent."""

MAX_DISCARDED = 1024 * 1024
"""Bytes of a body that is too long which are read all the same: most clients read no answer before."""

IDLE_TIMEOUT = 60.0
"""Seconds of silence after which a connection is closed."""

_TOO_LARGE = b"HTTP/1.1 413 Request Entity Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

_TYPES: dict[str, type] = {"string": str, "int": int, "array": list}

Method = TypeVar("Method", bound=Callable[..., object])


def method(*signature: str) -> Callable[[Method], Method]:
    """Mark a method that is told where a call comes from; its types, the result's first, as XML-RPC's."""

    def mark(function: Method) -> Method:
        # What system.methodSignature and system.methodHelp answer.
        vars(function).update(signature=[list(signature)], help=inspect.getdoc(function), with_source=True)
        return function

    return mark


class RegistryXMLRPC(XMLRPC):
    """Translates calls into those of the registry, and refusals into Faults with their codes."""

    def __init__(
        self, registry: Registry, clock: IReactorTime | None = None, limits: Limits | None = None
    ) -> None:
        """Without a clock, callers may call as fast as they like."""
        XMLRPC.__init__(self, allowNone=True)
        self._registry = registry
        self._clock = clock
        if clock is not None:
            limits = limits or Limits()
            self._rate = Rate(clock, limits.calls_per_second, limits.calls_burst)
        addIntrospection(self)

    # -- the methods ----------------------------------------------------------------------------------

    @method("string")
    def xmlrpc_getCa(self, source: str) -> str:  # noqa: N802
        """getCa(): the network's CA certificate as PEM."""
        return self._registry.get_ca()

    @method("array")
    def xmlrpc_getAuthorities(self, source: str) -> list[str]:  # noqa: N802
        """getAuthorities(): the document that names the network's CA certificates, signed by each of them."""
        return self._registry.get_authorities()

    @method("boolean", "string")
    async def xmlrpc_requestToken(self, source: str, email: str) -> bool:  # noqa: N802
        """requestToken(email): send there a token for one certificate, good for 24 hours."""
        await self._registry.request_token(email)
        return True

    @method("string", "string", "string")
    def xmlrpc_requestCertificate(self, source: str, token: str, request: str) -> str:  # noqa: N802
        """requestCertificate(token, request): trade both, the request as PEM, for a certificate as PEM."""
        return self._registry.request_certificate(token, request)

    @method("array")
    def xmlrpc_getBootstrapPeer(self, source: str) -> list[str]:  # noqa: N802
        """getBootstrapPeer(): one node that can be reached, as [prefix in binary digits, endpoints]."""
        prefix, endpoints = self._registry.bootstrap_peer(self._registry.node_at(source))
        return [prefix.bits, endpoints]

    @method("boolean", "array")
    def xmlrpc_declare(self, source: str, claim: list) -> bool:
        """declare([address, endpoints]): say, from one's address in the VPN, where one can be reached."""
        match claim:
            case [str(address), str(endpoints)]:
                self._registry.declare(self._registry.identify(source, address), endpoints)
                return True
        raise BadArguments(method="declare", problem="it takes one array of two strings")

    @method("array", "int", "string")
    def xmlrpc_getPeerList(self, source: str, count: int, address: str) -> list[list[str]]:  # noqa: N802
        """getPeerList(n, address): up to n (1 to 999) random nodes, asked for from one's address in the VPN.

        Each is [prefix in binary digits, endpoints].
        """
        node = self._registry.identify(source, address)
        return [[prefix.bits, endpoints] for prefix, endpoints in self._registry.peers(node, count)]

    # -- how they are called --------------------------------------------------------------------------

    def lookupProcedure(self, procedurePath: str) -> Callable[..., object]:  # noqa: N802, N803
        """The method of that name. Raises UnknownMethod."""
        try:
            return XMLRPC.lookupProcedure(self, procedurePath)
        except Fault:
            raise UnknownMethod(method=procedurePath[:100]) from None

    def render_POST(self, request: Any) -> int:  # noqa: N802
        """Answer one call: whatever happens, the caller gets a result or a Fault."""
        request.setHeader(b"content-type", b"text/xml; charset=utf-8")
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)
        answering = Deferred.fromCoroutine(self._answer(request))
        answering.addCallback(self._cbRender, request, gone)
        answering.addErrback(lambda failure: log.failure("an answer could not be sent", failure))
        return NOT_DONE_YET

    async def _answer(self, request: Request) -> object:
        source = str(getattr(request.getClientAddress(), "host", ""))
        name = "a call"
        try:
            if self._clock is not None and (wait := self._rate.take(source)) > 0:
                await deferLater(self._clock, wait)
            name, arguments = _read(request)
            result = self._call(name, source, arguments)
            return await result if isinstance(result, Awaitable) else result
        except RegistryRefusal as refusal:
            log.info("refused {method} from {source}: {why}", method=name, source=source, why=str(refusal))
            return Fault(refusal.code, str(refusal))
        except Exception:
            log.failure("{method} from {source} failed", method=name, source=source)
            return Fault(InternalError.code, str(InternalError()))

    def _call(self, name: str, source: str, arguments: tuple[object, ...]) -> object:
        function: Any = self.lookupProcedure(name)
        wanted = function.signature[0][1:]
        if len(arguments) != len(wanted):
            raise BadArguments(method=name, problem=f"it takes {len(wanted)} of them, not {len(arguments)}")
        for position, (argument, kind) in enumerate(zip(arguments, wanted, strict=True), 1):
            # Python's bool is an int, XML-RPC's is not.
            if type(argument) is not _TYPES[kind]:
                raise BadArguments(method=name, problem=f"argument {position} is of another type than {kind}")
        if getattr(function, "with_source", False):
            return function(source, *arguments)
        return function(*arguments)


def _read(request: Any) -> tuple[str, tuple[object, ...]]:
    """A call's method and arguments. Raises NotXMLRPC."""
    try:
        arguments, name = xmlrpclib.loads(request.content.read())
    except Exception:
        # The parser lets through whatever goes wrong inside it.
        raise NotXMLRPC from None
    if name is None:
        raise NotXMLRPC
    return name, arguments


class BoundedRequest(Request):
    """A request whose body is kept in memory, and is refused with HTTP status 413 when it is too long."""

    _received = 0
    _refused = False

    def gotLength(self, length: int | None) -> None:  # noqa: N802
        """The length that the headers announce; None where the body comes in chunks."""
        # The base class would write what comes in chunks to a file.
        self.content = self._body = BytesIO()
        if length is not None and length > MAX_BODY:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802
        """A part of the body."""
        self._received += len(data)
        if self._received > MAX_DISCARDED:
            self._transport.abortConnection()
        elif self._received > MAX_BODY and not self._refused:
            self._refuse()
        elif not self._refused:
            self._body.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:  # noqa: N802
        """The body is complete."""
        if self._refused:
            self.channel.loseConnection()
        else:
            Request.requestReceived(self, command, path, version)

    @property
    def _transport(self) -> Any:
        return self.channel.transport

    def _refuse(self) -> None:
        self._refused = True
        log.info(
            "refused a body of more than {limit} bytes from {source}", limit=MAX_BODY, source=self.client
        )
        self._transport.write(_TOO_LARGE)


class BoundedChannel(HTTPChannel):
    """HTTP/1.1 that ends after so many requests, and with a client that sends or reads too slowly."""

    maxHeaders = 64
    totalHeadersSize = 8 * 1024
    limits = Limits()
    _served = 0
    _idle = True
    _leaving = False

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Bytes of a request; from the first to the last there is but one deadline."""
        if self._leaving:
            return
        if data and self._idle:
            self._idle = False
            self.setTimeout(self.limits.request_time)
        # Not the base class's, whose deadline each byte would put off.
        LineReceiver.dataReceived(self, data)

    def checkPersistence(self, request: Request, version: bytes) -> bool:  # noqa: N802
        """Whether the connection stays for another request."""
        self._served += 1
        if self._served >= self.limits.requests_per_connection:
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
            return False
        stays: bool = super().checkPersistence(request, version)
        return stays

    def requestDone(self, request: Request) -> None:  # noqa: N802
        """Answered."""
        super().requestDone(request)
        if self.persistent and not self._handlingRequest:
            self._idle = True
            self.setTimeout(self.timeOut)

    def pauseProducing(self) -> None:  # noqa: N802
        """The client does not read: of what it has sent, too, no more is answered for now."""
        self.paused = True
        super().pauseProducing()

    def resumeProducing(self) -> None:  # noqa: N802
        """The client has read all."""
        super().resumeProducing()
        if self._leaving:
            return
        self.paused = False
        LineReceiver.dataReceived(self, b"")

    def loseConnection(self) -> None:  # noqa: N802
        """Hang up; TLS would wait for ever for the other side to do so as well."""
        if self._leaving:
            return
        self._leaving = True
        # What else has come is not looked at; the base class would refuse each line of it anew.
        self.paused = True
        super().loseConnection()
        if self._abortingCall is None:
            self._abortingCall = self.callLater(self.abortTimeout, self.forceAbortClient)


class RegistrySite(Site):
    """The registry's HTTP: XML-RPC at ``/`` and ``/RPC2``, nothing elsewhere."""

    # Twisted's annotation names the wrapper that adds HTTP/2.
    protocol = BoundedChannel  # type: ignore[assignment]

    def __init__(self, registry: Registry, clock: IReactorTime, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        root = Resource()
        calls = RegistryXMLRPC(registry, clock, self.limits)
        root.putChild(b"", calls)
        root.putChild(b"RPC2", calls)
        Site.__init__(
            self, root, BoundedRequest, timeout=IDLE_TIMEOUT, reactor=clock, parsePOSTFormSubmission=False
        )

    def buildProtocol(self, addr: IAddress | None) -> Any:  # noqa: N802
        """One connection."""
        channel: Any = super().buildProtocol(addr)
        channel.limits = self.limits
        return channel

    def log(self, request: object) -> None:
        """Keep no access log: what happened is logged where it happened, with its fields."""
