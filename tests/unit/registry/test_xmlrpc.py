"""XML-RPC as the standard library's client writes and reads it, over a connection in memory."""

from __future__ import annotations

import xmlrpc.client as xmlrpclib
from http.client import HTTPResponse
from io import BytesIO
from pathlib import Path
from typing import Any

from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.registry.parts import NETWORK, NOW, Parts, request_pem
from vifibnet.errors import REFUSALS
from vifibnet.guard.limits import Limits
from vifibnet.pki.certificates import prefix_of
from vifibnet.registry.xmlrpc import IDLE_TIMEOUT, MAX_BODY, MAX_DISCARDED, RegistrySite

ENDPOINTS = "192.0.2.1,1194,udp"
METHODS = [
    "declare", "getAuthorities", "getBootstrapPeer", "getCa", "getPeerList", "requestCertificate",
    "requestToken",
]  # fmt: skip


class Answer:
    """Makes http.client read from memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *args: object) -> BytesIO:
        """As a socket does."""
        return BytesIO(self._data)


class Base(SynchronousTestCase):
    """A registry and connections to its site."""

    def setUp(self) -> None:
        """Make the registry."""
        self.parts = Parts(Path(self.mktemp()))
        self.addCleanup(self.parts.store.close)
        self.site = RegistrySite(self.parts.registry, self.parts.clock)

    def connect(self, source: str = "2001:db8::1") -> StringTransportWithDisconnection:
        """Open a connection."""
        peer = IPv6Address("TCP", source, 4000)
        transport = StringTransportWithDisconnection(peerAddress=peer)
        protocol: Any = self.site.buildProtocol(peer)
        transport.protocol = protocol
        protocol.makeConnection(transport)
        self.protocol = protocol
        return transport

    def post(self, body: bytes, source: str = "2001:db8::1", path: str = "/RPC2") -> tuple[int, bytes]:
        """Send one request; the answer's status and body."""
        transport = self.connect(source)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        self.protocol.dataReceived(head + body)
        return self.read(transport.value())

    def read(self, data: bytes) -> tuple[int, bytes]:
        """Understand an answer."""
        response = HTTPResponse(Answer(data))  # type: ignore[arg-type]
        response.begin()
        return response.status, response.read()

    def call(self, name: str, *arguments: Any, source: str = "2001:db8::1") -> Any:
        """Call a method as the standard library does, and return its result or raise its Fault."""
        status, body = self.post(xmlrpclib.dumps(arguments, name, allow_none=True).encode(), source)
        self.assertEqual(status, 200)
        (result,), _ = xmlrpclib.loads(body)
        return result

    def fault(self, name: str, *arguments: Any, source: str = "2001:db8::1") -> int:
        """The code with which a call is refused, in one sentence."""
        fault = self.assertRaises(xmlrpclib.Fault, self.call, name, *arguments, source=source)
        self.assertTrue(fault.faultString.endswith("."))
        self.assertNotIn("\n", fault.faultString)
        return int(fault.faultCode)

    def node(self) -> tuple[str, str]:
        """Enrol a node: its bits and its address."""
        prefix = prefix_of(x509.load_pem_x509_certificate(self.parts.enrol().encode()))
        return prefix.bits, str(NETWORK.address(prefix))


class CallTests(Base):
    """The methods."""

    def test_enrolment(self) -> None:
        """getCa, requestToken and requestCertificate make a node."""
        self.assertEqual(self.call("getCa").encode(), self.parts.authority.ca_pem)
        self.assertIs(self.call("requestToken", "a@b.example"), True)
        token = self.parts.mailer.token
        pem = self.call("requestCertificate", token, request_pem())
        certificate = x509.load_pem_x509_certificate(pem.encode())
        certificate.verify_directly_issued_by(self.parts.authority.certificate)
        self.assertEqual(self.fault("requestCertificate", token, request_pem()), 10)
        self.assertEqual(self.fault("requestCertificate", "x", "x"), 11)

    def test_tokens_refused(self) -> None:
        """A bad address, and a mail that fails."""
        self.assertEqual(self.fault("requestToken", "x"), 16)
        self.parts.mailer.broken = True
        self.assertEqual(self.fault("requestToken", "a@b.example"), 17)

    def test_peers(self) -> None:
        """declare, getBootstrapPeer and getPeerList, from inside the VPN."""
        (one, at_one), (_, at_two) = self.node(), self.node()
        self.assertEqual(self.fault("getBootstrapPeer"), 13)
        self.assertIs(self.call("declare", [at_one, ENDPOINTS], source=at_one), True)
        self.assertEqual(self.call("getBootstrapPeer"), [one, ENDPOINTS])
        self.assertEqual(self.call("getBootstrapPeer", source=at_two), [one, ENDPOINTS])
        self.assertEqual(self.fault("getBootstrapPeer", source=at_one), 13)
        self.assertEqual(self.call("getPeerList", 10, at_two, source=at_two), [[one, ENDPOINTS]])
        self.assertEqual(self.call("getPeerList", 10, at_one, source=at_one), [])
        self.call("declare", [at_two, ""], source=at_two)
        self.assertEqual(self.fault("declare", [at_two, "x"], source=at_two), 15)

    def test_not_from_inside(self) -> None:
        """From outside, or in another's name."""
        (_, at_one), (_, at_two) = self.node(), self.node()
        for source in ("192.0.2.1", "::ffff:192.0.2.1", at_two):
            self.assertEqual(self.fault("declare", [at_one, ENDPOINTS], source=source), 14)
            self.assertEqual(self.fault("getPeerList", 5, at_one, source=source), 14)

    def test_wrong_arguments(self) -> None:
        """Number and types of arguments are checked before anything else is done."""
        _, address = self.node()
        for name, *arguments in (
            ("getCa", 1), ("requestToken",), ("requestToken", 5), ("requestToken", None),
            ("requestToken", xmlrpclib.Binary(b"a@b")), ("requestCertificate", "x"), ("declare", address),
            ("declare", address, ENDPOINTS), ("declare", [address]), ("declare", [address, 5]),
            ("declare", [address, ENDPOINTS, ""]), ("getPeerList", True, address), ("getPeerList", 5),
            ("getPeerList", "5", address), ("getPeerList", 0, address), ("getPeerList", 1000, address),
            ("getPeerList", -1, address), ("getPeerList", 1.5, address), ("system.methodHelp",),
        ):  # fmt: skip
            self.assertEqual(self.fault(str(name), *arguments, source=address), 3, (name, arguments))

    def test_introspection(self) -> None:
        """What there is, with help and types for each."""
        names = self.call("system.listMethods")
        self.assertEqual([name for name in sorted(names) if not name.startswith("system.")], METHODS)
        for name in METHODS:
            self.assertTrue(self.call("system.methodHelp", name).startswith(f"{name}("))
        self.assertEqual(self.call("system.methodSignature", "getPeerList"), [["array", "int", "string"]])

    def test_unknown_methods(self) -> None:
        """Nothing but the published methods can be called."""
        for name in ["nope", "system", "system.nope", "a.b", "__init__", "_read", "render_POST", "putChild"]:
            self.assertEqual(self.fault(name), 4, name)
            self.assertEqual(self.fault("system.methodHelp", name), 4)

    def test_internal_error(self) -> None:
        """What was not foreseen is logged with its traceback; the caller learns only that it happened."""
        self.parts.store.close()
        fault = self.assertRaises(xmlrpclib.Fault, self.call, "getBootstrapPeer")
        self.assertEqual(
            (fault.faultCode, fault.faultString),
            (2, "The registry failed to answer; its log says why."),
        )
        (logged,) = self.flushLoggedErrors()
        self.assertIn("closed database", str(logged.value))

    def test_gone_before_the_answer(self) -> None:
        """Who does not wait for the mail to be sent is no error."""
        waiting: Deferred[None] = Deferred()
        self.parts.mailer.waiting = waiting
        transport = self.connect()
        body = xmlrpclib.dumps(("a@b.example",), "requestToken").encode()
        self.protocol.dataReceived(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        self.assertEqual(transport.value(), b"")
        transport.loseConnection()
        waiting.callback(None)
        self.assertEqual(len(self.parts.mailer.sent), 1)

    def test_codes(self) -> None:
        """The codes are part of the protocol: this list only ever grows."""
        codes = {
            1: "RegistryRefusal", 2: "InternalError", 3: "BadArguments", 4: "UnknownMethod", 5: "NotXMLRPC",
            10: "UnknownToken", 11: "BadRequest", 12: "NetworkFull", 13: "NoPeerYet",
            14: "NotInsideNetwork", 15: "BadEndpoints", 16: "BadEmail", 17: "MailFailed",
            18: "UnknownNode", 19: "AuthorityExpired",
            30: "CertificateRevoked", 31: "CertificateExpired", 32: "NoSuchNode",
            33: "TooManyTokens", 34: "NotDone", 35: "StorageFailed", 36: "BadParameter",
        }  # fmt: skip
        self.assertEqual({code: kind.__name__ for code, kind in REFUSALS.items()}, codes)


class HTTPTests(Base):
    """What is not a well-made call."""

    def test_paths(self) -> None:
        """Calls go to / and /RPC2; nothing else is there, and nothing is to be read."""
        body = xmlrpclib.dumps((), "getCa").encode()
        self.assertEqual([self.post(body, path=path)[0] for path in ("/", "/RPC2", "/x")], [200, 200, 404])
        transport = self.connect()
        self.protocol.dataReceived(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertEqual(self.read(transport.value())[0], 405)

    @given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
    def test_any_body(self, body: bytes) -> None:
        """Any bytes get a Fault that can be read."""
        self.assert_not_xmlrpc(body)

    def assert_not_xmlrpc(self, body: bytes) -> None:
        """The Fault for what is no call."""
        status, answer = self.post(body)
        self.assertEqual(status, 200)
        self.assertEqual(self.assertRaises(xmlrpclib.Fault, xmlrpclib.loads, answer).faultCode, 5)

    def test_almost_calls(self) -> None:
        """XML that is no call, and a document made to explode."""
        laughs = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 20))
        bomb = (
            f'<!DOCTYPE x [<!ENTITY a0 "ha">{laughs}]><methodCall><methodName>&a19;</methodName></methodCall>'
        )
        big = "<methodCall><methodName>getCa</methodName><params><param><value><int>" + "9" * 5000
        for text in (
            xmlrpclib.dumps((1,), methodresponse=True), xmlrpclib.dumps(xmlrpclib.Fault(1, "x")), "<x/>",
            bomb, big + "</int></value></param></params></methodCall>", "<methodCall><params/></methodCall>",
        ):  # fmt: skip
            self.assert_not_xmlrpc(text.encode())

    def test_long_body_announced(self) -> None:
        """A body of more than 64 KiB is refused as soon as it is announced, and never kept."""
        transport = self.connect()
        length = MAX_BODY + 1
        self.protocol.dataReceived(f"POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n".encode())
        self.assertEqual(self.read(transport.value())[0], 413)
        self.assertTrue(transport.connected)
        self.protocol.dataReceived(b"x" * length)
        self.assertFalse(transport.connected)

    def test_long_body_in_chunks(self) -> None:
        """The same without a length in the headers."""
        transport = self.connect()
        self.protocol.dataReceived(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
        for _ in range(4):
            self.protocol.dataReceived(chunk)
        self.assertEqual(transport.value(), b"")
        self.protocol.dataReceived(chunk)
        self.assertEqual(self.read(transport.value())[0], 413)
        for _ in range(MAX_DISCARDED // 0x4000 - 5):
            self.protocol.dataReceived(chunk)
        self.assertTrue(transport.connected)
        self.protocol.dataReceived(chunk)
        self.assertFalse(transport.connected)

    def test_longest_body(self) -> None:
        """A body of 64 KiB is read, whichever way it comes."""
        body = xmlrpclib.dumps(("x" * (MAX_BODY - 200),), "requestToken").encode()
        body += b" " * (MAX_BODY - len(body))
        status, answer = self.post(body)
        self.assertEqual((status, b"<int>16</int>" in answer), (200, True))
        transport = self.connect()
        self.protocol.dataReceived(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.protocol.dataReceived(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        self.assertEqual(self.read(transport.value())[0], 200)

    def test_idle(self) -> None:
        """Who says nothing, or stops in the middle, is disconnected."""
        for data in (b"", b"POST / HT", b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n<"):
            transport = self.connect()
            self.protocol.dataReceived(data)
            self.parts.clock.advance((Limits().request_time if data else IDLE_TIMEOUT) - 1)
            self.assertTrue(transport.connected)
            self.parts.clock.advance(2)
            self.assertFalse(transport.connected)

    def test_kept_alive(self) -> None:
        """One connection serves several calls."""
        transport = self.connect()
        body = xmlrpclib.dumps((), "getCa").encode()
        for _ in range(3):
            transport.clear()
            self.protocol.dataReceived(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            self.assertEqual(self.read(transport.value())[0], 200)
        self.assertTrue(transport.connected)

    def test_byte_by_byte(self) -> None:
        """A request must be complete within half a minute, however busy its client looks."""
        transport = self.connect()
        for byte in b"POST / HTTP/1.1\r\nHost: x":
            if not transport.connected:
                break
            self.protocol.dataReceived(bytes([byte]))
            self.parts.clock.advance(2)
        self.assertFalse(transport.connected)
        self.assertLess(self.parts.clock.seconds() - NOW, Limits().request_time + 2)

    def test_headers(self) -> None:
        """Headers have a size and a number."""
        for line in (b"X: " + b"x" * 1000 + b"\r\n", b"X:\r\n"):
            transport = self.connect()
            self.protocol.dataReceived(b"POST / HTTP/1.1\r\n" + line * (10000 // len(line)))
            self.assertEqual(self.read(transport.value())[0], 400)
            self.assertFalse(transport.connected)

    def test_requests_per_connection(self) -> None:
        """The last request of a connection is answered, and its client told to dial again."""
        transport = self.connect()
        body = xmlrpclib.dumps((), "getCa").encode()
        request = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        for _ in range(Limits().requests_per_connection - 1):
            self.protocol.dataReceived(request)
        self.assertNotIn(b"Connection: close", transport.value())
        transport.clear()
        self.protocol.dataReceived(request)
        self.assertEqual(self.read(transport.value())[0], 200)
        self.assertIn(b"Connection: close", transport.value())
        self.assertFalse(transport.connected)

    def test_too_fast(self) -> None:
        """Who calls too fast is answered later."""
        limits = Limits(calls_per_second=10, calls_burst=3)
        self.site = RegistrySite(self.parts.registry, self.parts.clock, limits)
        for _ in range(3):
            self.call("getCa")
        transport = self.connect()
        body = xmlrpclib.dumps((), "getCa").encode()
        self.protocol.dataReceived(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        self.assertEqual(transport.value(), b"")
        self.call("getCa", source="2001:db8:0:1::1")
        self.parts.clock.advance(0.1)
        self.assertEqual(self.read(transport.value())[0], 200)

    def test_slow_reader(self) -> None:
        """Who does not read gets no more answers, and then is cut off."""
        transport: Any = self.connect()
        body = xmlrpclib.dumps((), "getCa").encode()
        request = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        self.protocol.dataReceived(request)
        transport.clear()
        transport.producer.pauseProducing()
        self.protocol.dataReceived(request * 100)
        self.assertEqual(transport.value(), b"")
        transport.producer.resumeProducing()
        self.assertEqual(transport.value().count(b"HTTP/1.1 200"), 100)
        transport.clear()
        transport.producer.pauseProducing()
        self.protocol.dataReceived(request * 10)
        self.assertEqual(transport.value(), b"")
        self.parts.clock.advance(IDLE_TIMEOUT)
        self.assertFalse(transport.connected)
