"""A registry in the test's own process: real TLS and XML-RPC on the loopback, answering as it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from xmlrpc.client import loads

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.trial.unittest import TestCase
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from twisted.web.xmlrpc import XMLRPC

from vifibnet.model.addresses import Network, Prefix
from vifibnet.pki.authority import Authority, create_authority, new_serial
from vifibnet.pki.certificates import CA
from vifibnet.pki.requests import check_request
from vifibnet.pki.tls import server_options

reactor: Any = global_reactor
NETWORK = Network.parse("2001:db8:42::/48")


def now() -> datetime:
    """This moment, aware."""
    return datetime.now(UTC)


def make_authority(test: TestCase, network: Network = NETWORK) -> Authority:
    """A CA of its own for one test, some days old, so that what it signs can be old as well."""
    made = now() - timedelta(days=3)
    key, certificate = create_authority(network, name="test", email=None, days=6, now=made)
    paths = test.mktemp(), test.mktemp()
    for path, data in zip(paths, (certificate, key), strict=True):
        with open(path, "wb") as file:
            file.write(data)
    return Authority.load(*paths, now())


class FakeRegistry(XMLRPC):
    """Answers with ``answers[method](*arguments)``; what was called stands in ``calls``."""

    def __init__(self, authority: Authority) -> None:
        super().__init__()
        self.authority = authority
        self.cuts = b"no method"
        """The method upon which the connection is cut."""
        self.loses = 0
        """How many certificates get lost: made, and the connection cut instead of an answer."""
        self.calls: list[tuple[str, ...]] = []
        self.answers: dict[str, Callable[..., object]] = {
            "getCa": authority.ca_pem.decode,
            "getAuthorities": list,
            "requestToken": lambda email: True,
            "requestCertificate": lambda token, pem: self.sign(pem),
            "getBootstrapPeer": lambda: [Prefix.parse("5/16").bits, "192.0.2.5,1194,udp"],
        }

    def render_POST(self, request: Request) -> int:
        """Answer, or cut the connection."""
        content: Any = request.content
        if self.cuts in content.read():
            return self._cut(request)
        content.seek(0)
        if self.loses and b"requestCertificate" in content.read():
            self.loses -= 1
            content.seek(0)
            arguments, _ = loads(content.read())
            self.answers["requestCertificate"](*arguments)
            return self._cut(request)
        content.seek(0)
        answer: int = super().render_POST(request)
        return answer

    def _cut(self, request: Request) -> int:
        channel: Any = request.channel
        channel.transport.abortConnection()
        return NOT_DONE_YET

    def sign(self, pem: str, prefix: str = "7/16") -> str:
        """A certificate as the registry gives it."""
        certificate = self.authority.sign(check_request(pem), Prefix.parse(prefix), new_serial(), now())
        return certificate.public_bytes(Encoding.PEM).decode()

    def lookupProcedure(self, procedurePath: str) -> Callable[..., object]:
        """What XMLRPC asks for each call."""

        def answer(*arguments: str) -> object:
            self.calls.append((procedurePath, *arguments))
            return self.answers[procedurePath](*arguments)

        return answer


class Raw(Resource):
    """Answers every call with the same bytes, or never."""

    isLeaf = True

    def __init__(self, body: bytes | None, code: int = 200) -> None:
        super().__init__()
        self.body = body
        self.code = code

    def render_POST(self, request: Request) -> bytes | int:
        """Answer."""
        request.setResponseCode(self.code)
        return NOT_DONE_YET if self.body is None else self.body


def serve(test: TestCase, resource: IResource, authority: Authority, others: Sequence[CA] = ()) -> int:
    """Serve on a free port of the loopback until the test ends; the port."""
    options = server_options(authority, [], now(), others)
    root = resource
    if isinstance(resource, XMLRPC):
        root = Resource()
        root.putChild(b"RPC2", resource)
    port = reactor.listenSSL(0, Site(root), options, interface="127.0.0.1")
    test.addCleanup(port.stopListening)
    number: int = port.getHost().port
    return number


def endpoint(port: int) -> HostnameEndpoint:
    """Where ``serve`` serves."""
    return HostnameEndpoint(reactor, "127.0.0.1", port, timeout=5)


def closed_port(test: TestCase) -> Deferred[int]:
    """A port of the loopback on which nothing listens."""
    port = reactor.listenTCP(0, Site(Resource()), interface="127.0.0.1")
    number: int = port.getHost().port
    done: Deferred[int] = port.stopListening().addCallback(lambda _: number)
    return done
