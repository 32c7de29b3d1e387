"""Strangers' bytes for the registry: before the TLS handshake, XML-RPC, AMP boxes.

``python -m bench.fuzz --examples N`` tries that many per target with new random choices each time; the test
suite tries fewer, always the same (``tests/unit/registry/test_fuzz.py``). An example that fails is shrunk,
printed, and kept by hypothesis in ``.hypothesis``, where the next run finds it first. Every target demands
that nothing is raised or logged as an error, that each example ends at once, and that the registry holds no
memory afterwards. Prints a table on stderr and a JSON document on stdout; exits 1 when anything failed.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
import traceback
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from tempfile import TemporaryDirectory
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from twisted.protocols.amp import AmpBox
from twisted.python.failure import Failure
from zope.interface import implementer

from vifibnet.guard.limits import Limits, Rate
from vifibnet.lab.table import columns
from vifibnet.model.addresses import Network
from vifibnet.pki.authorities import Authorities
from vifibnet.pki.authority import Authority, create_authority
from vifibnet.pki.certificates import fingerprint
from vifibnet.pki.requests import make_key, make_request
from vifibnet.pki.tls import server_options
from vifibnet.registry.amp import NodeFace
from vifibnet.registry.core import Registry
from vifibnet.registry.mail import TokenMail
from vifibnet.registry.port import RegistryPort
from vifibnet.registry.xmlrpc import RegistrySite
from vifibnet.store.registry import RegistryStore
from vifibnet.wire.amp import ALPN
from vifibnet.wire.invitation import Invitation

NETWORK = Network.parse("2001:db8:42::/48")
NOW = 1_800_000_000.0
SLOW = 5.0
"""Seconds that no example may take, on whatever machine."""

LEAK = 10_000
"""Bytes that the registry may hold on to per example, on the average, after all connections are gone."""

# -- what strangers say ---------------------------------------------------------------------------------

HELLO = b"\x16\x03\x01"
WORDS = [
    b"GET / HTTP/1.1\r\n", b"POST /RPC2 HTTP/1.1\r\n", b"POST / HTTP/1.0\r\n", b"Host: x\r\n", b"\r\n",
    b"Content-Length: 5\r\n", b"Content-Length: 99999999999999999999\r\n", b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"5;x=y\r\n",
    b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Cookie: a=b; c\r\n", b" folded\r\n", b":\r\n",
    b"X: \x00\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"<?xml version='1.0'?>", b"<methodCall>",
]  # fmt: skip
http = st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=60)), max_size=30).map(b"".join)

METHODS = [
    "getCa", "requestToken", "requestCertificate", "getBootstrapPeer", "declare", "getPeerList",
    "system.listMethods", "system.methodHelp", "system.methodSignature", "system.multicall", "__init__",
]  # fmt: skip
values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**40), 2**40), st.floats(), st.text(max_size=40),
        st.binary(max_size=20), st.sampled_from(["192.0.2.1,1194,udp", "2001:db8:42:5::1", "a@b.example"]),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip

_TAGS = [
    "value", "string", "int", "i4", "i8", "boolean", "double", "array", "data", "struct", "member", "name",
    "base64", "nil", "dateTime.iso8601", "param", "params", "methodCall", "methodName", "methodResponse", "x",
]  # fmt: skip
xml = st.recursive(
    st.text(max_size=20).map(lambda text: text.replace("<", "&lt;").replace("&", "&amp;"))
    | st.sampled_from(["1", "-1", "true", "20260101T00:00:00", "&#0;", "&lol;", "<![CDATA[x]]>", *METHODS]),
    lambda inner: (
        st.builds("<{0}>{1}</{0}>".format, st.sampled_from(_TAGS), inner)
        | st.lists(inner, max_size=4).map("".join)
    ),
    max_leaves=20,
)

COMMANDS = [b"Declare", b"GetPeers", b"GetBootstrapPeer", b"StartTLS", b"GetDocument", b"Renew", b""]
KEYS = [
    b"_ask", b"_answer", b"_error", b"_error_code", b"_error_description", b"_command", b"count",
    b"endpoints", b"number", b"offset", b"request",
]  # fmt: skip
SAID = [b"1", b"-1", b"999", b"1e9", b"9" * 40, b"192.0.2.1,1194,udp", b"\xff", b"", b"tls_localCertificate"]
contents = st.sampled_from(SAID) | st.binary(max_size=40)
boxes = st.builds(
    lambda command, more: AmpBox({**more, **command}).serialize(),
    st.sampled_from([*({b"_command": name, b"_ask": b"1"} for name in COMMANDS), {}, {b"_answer": b"1"}]),
    st.dictionaries(st.sampled_from(KEYS) | st.binary(min_size=1, max_size=20), contents, max_size=5),
)
amp = st.lists(boxes | st.binary(max_size=30), max_size=12).map(b"".join)
pieces = st.lists(st.integers(1, 400), min_size=1, max_size=8)
"""How the bytes are cut on their way."""


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data in pieces of these sizes, again and again."""
    found, at, number = [], 0, 0
    while at < len(data):
        found.append(data[at : at + sizes[number % len(sizes)]])
        at += len(found[-1])
        number += 1
    return found


# -- whom they say it to --------------------------------------------------------------------------------


class _Mailer:
    async def send(self, to: str, subject: str, body: str) -> None:
        """Nobody gets mail."""


class Wire(StringTransport):
    """A TCP connection in memory, whose end is told later, as a reactor does."""

    def __init__(self, protocol: Any, peer: Any, clock: Clock) -> None:
        super().__init__(peerAddress=peer)
        self._protocol = protocol
        self._clock = clock
        self.connected = True

    def loseConnection(self) -> None:
        """Hang up."""
        if not self.disconnecting:
            super().loseConnection()
            self._clock.callLater(0, self._lost)

    def abortConnection(self) -> None:
        """Hang up."""
        self.loseConnection()

    def _lost(self) -> None:
        self.connected = False
        self._protocol.connectionLost(Failure(ConnectionDone()))

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Nothing to delay."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Nothing to keep."""


class Target:
    """A registry on a clock that stands still, and connections to its faces."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        when = datetime.fromtimestamp(NOW, UTC)
        with TemporaryDirectory() as home:
            key, certificate = create_authority(NETWORK, now=when)
            for name, data in (("ca.key", key), ("ca.crt", certificate)):
                with open(f"{home}/{name}", "wb") as file:
                    file.write(data)
            self.authority = Authority.load(f"{home}/ca.crt", f"{home}/ca.key", when)
        self.store = RegistryStore.open(":memory:", NETWORK, self.clock.seconds)
        mailer: Any = _Mailer()
        seal = fingerprint(self.authority.certificate)
        mail = TokenMail(NETWORK, lambda token: Invitation(("registry.example",), 8080, seal, token))
        self.registry = Registry(Authorities.of(self.authority), self.store, mailer, self.clock, mail)
        self.limits = Limits(calls_burst=1e12)
        self.site = RegistrySite(self.registry, self.clock, self.limits)
        self.port = RegistryPort(self.registry, self.site, self.clock, self.limits)
        self.tls = self.port.over_tls(server_options(self.authority, [], when), self.clock)
        self.rate = Rate(self.clock, 1e9, 1e12)
        self.store.add_token("token", "a@b.example")
        self.key = make_key()
        request = make_request(self.key, []).public_bytes(Encoding.PEM).decode()
        pem = self.registry.request_certificate("token", request)
        from cryptography import x509

        self.certificate = x509.load_pem_x509_certificate(pem.encode())

    def _connect(self, protocol: Any, peer: Any) -> Any:
        transport = Wire(protocol, peer, self.clock)
        protocol.makeConnection(transport)
        return transport

    def _say(self, protocol: Any, transport: Any, said: list[bytes]) -> bytes:
        """Say all of it, wait until everybody loses patience, and return what came back."""
        for piece in said:
            if transport.disconnecting:
                break
            protocol.dataReceived(piece)
            self.clock.advance(0)
        answer = bytes(transport.value())
        for _ in range(40):
            self.clock.advance(20)
        if transport.connected:
            transport.loseConnection()
        self.clock.advance(0)
        assert not self.clock.getDelayedCalls(), self.clock.getDelayedCalls()
        assert not self.port.connections
        assert len(self.port.gate) == 0
        return answer

    def before_tls(self, data: bytes, sizes: list[int]) -> None:
        """Bytes where a TLS handshake should be."""
        peer = IPv4Address("TCP", "192.0.2.9", 4000)
        protocol = self.tls.buildProtocol(peer)
        transport = self._connect(protocol, peer)
        self._say(protocol, transport, cut(data, sizes))

    def within_tls(self, protocols: list[bytes], data: bytes, spoiled: int | None, sizes: list[int]) -> None:
        """Bytes after the handshake of a client without certificate, and a record that was tampered with."""
        peer = IPv4Address("TCP", "192.0.2.9", 4000)
        protocol = self.tls.buildProtocol(peer)
        transport = self._connect(protocol, peer)
        context = SSL.Context(SSL.TLS_METHOD)
        if protocols:
            context.set_alpn_protos(protocols)
        client = SSL.Connection(context)
        client.set_connect_state()
        for _ in range(3):
            try:
                client.do_handshake()
            except SSL.WantReadError:
                pass
            except SSL.Error:
                break
            self._exchange(client, protocol, transport)
        try:
            for piece in cut(data, sizes):
                client.send(piece)
            records = client.bio_read(1 << 20)
        except (SSL.Error, SSL.WantReadError):
            records = b""
        if spoiled is not None and records:
            at = spoiled % len(records)
            records = records[:at] + bytes([records[at] ^ 1]) + records[at + 1 :]
        self._say(protocol, transport, cut(records, sizes))

    def _exchange(self, client: SSL.Connection, protocol: Any, transport: Any) -> None:
        try:
            flight = client.bio_read(1 << 20)
        except SSL.WantReadError:
            flight = b""
        if flight and not transport.disconnecting:
            protocol.dataReceived(flight)
        answer = transport.value()
        transport.clear()
        if answer:
            client.bio_write(answer)

    def over_http(self, data: bytes, sizes: list[int]) -> None:
        """Bytes where HTTP should be."""
        peer = IPv6Address("TCP", "2001:db8:42:5::1", 4000)
        protocol = self.site.buildProtocol(peer)
        answer = self._say(protocol, self._connect(protocol, peer), cut(data, sizes))
        assert not answer or answer.startswith(b"HTTP/1."), answer

    def over_xmlrpc(self, body: bytes, sizes: list[int]) -> None:
        """A body where a call should be: there is always an answer, never an internal error."""
        peer = IPv6Address("TCP", "2001:db8:42:5::1", 4000)
        protocol = self.site.buildProtocol(peer)
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        answer = self._say(protocol, self._connect(protocol, peer), cut(head + body, sizes))
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert answer.endswith(b"</methodResponse>\n"), answer
        assert b"<int>2</int>" not in answer, answer

    def over_amp(self, data: bytes, sizes: list[int]) -> None:
        """Bytes where AMP boxes should be, from a node: no answer is an internal error."""
        peer = IPv4Address("TCP", "192.0.2.9", 4000)
        face: Any = NodeFace(self.registry, self.certificate)
        face.bound(self.limits, self.clock, lambda: self.rate.take("192.0.2.9"))
        answer = self._say(face, self._connect(face, peer), cut(data, sizes))
        assert b"_error_code\x00\x012" not in answer, answer
        assert b"UNKNOWN" not in answer, answer


# -- runs -----------------------------------------------------------------------------------------------

hello = st.builds(
    lambda version, length, body: b"\x16\x03" + version + length + body,
    st.sampled_from([b"\x00", b"\x01", b"\x03", b"\x04"]),
    st.binary(min_size=2, max_size=2),
    st.binary(max_size=300),
)
calls = st.builds(
    lambda name, arguments: _dumps(tuple(arguments), name),
    st.sampled_from(METHODS) | st.text(max_size=10),
    st.lists(values, max_size=4),
)


def _dumps(arguments: tuple[Any, ...], name: str) -> bytes:
    import xmlrpc.client

    try:
        text = xmlrpc.client.dumps(arguments, name, allow_none=True)
    except (OverflowError, TypeError):
        text = name
    return text.encode("utf-8", "replace")


bodies = st.one_of(calls, xml.map(lambda text: text.encode("utf-8", "replace")), st.binary(max_size=200))

TARGETS: dict[str, tuple[Any, ...]] = {
    "before_tls": (st.one_of(hello, http, st.binary(max_size=2000)), pieces),
    "within_tls": (
        st.lists(st.sampled_from([ALPN, b"http/1.1", b"h2", b"x"]), max_size=3),
        st.one_of(http, amp),
        st.none() | st.integers(0, 1 << 16),
        pieces,
    ),
    "over_http": (http, pieces),
    "over_xmlrpc": (bodies, pieces),
    "over_amp": (amp, pieces),
}
"""The name of a method of Target, and what it is given."""


@implementer(ILogObserver)
class Errors:
    """Collects what is logged as an error."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []

    def __call__(self, event: dict[str, Any]) -> None:
        """One event."""
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            self.found.append(event)

    def check(self) -> None:
        """Raise what was logged."""
        found, self.found = self.found, []
        for event in found:
            failure = event.get("log_failure")
            raise failure.value if failure is not None else AssertionError(event.get("log_format"))


def fuzz(name: str, examples: int, same: bool, target: Target | None = None) -> dict[str, Any]:
    """Try so many examples on one target, the same each time or new ones. Raises what went wrong."""
    target = target or Target()
    errors = Errors()
    method: Callable[..., None] = getattr(target, name)
    count, slowest = 0, 0.0

    def one(arguments: tuple[Any, ...]) -> None:
        nonlocal count, slowest
        began = time.perf_counter()
        method(*arguments)
        took = time.perf_counter() - began
        count, slowest = count + 1, max(slowest, took)
        errors.check()
        assert took < SLOW, f"{took:.1f} s"

    def run(number: int) -> None:
        phases = (Phase.explicit, Phase.generate, Phase.shrink)
        checks = list(HealthCheck)
        setting = settings(
            max_examples=number, derandomize=same, database=None, deadline=None,
            phases=phases if same else tuple(Phase), suppress_health_check=checks,
        )  # fmt: skip
        setting(given(st.tuples(*TARGETS[name]))(one))()

    globalLogPublisher.addObserver(errors)
    try:
        # What is made once, caches for instance, is no leak.
        run(max(10, examples // 10))
        before = _held()
        began = time.perf_counter()
        counted = count
        run(examples)
        seconds = time.perf_counter() - began
        leaked = (_held() - before) / max(1, count - counted)
    finally:
        globalLogPublisher.removeObserver(errors)
    assert leaked < LEAK, f"{leaked:.0f} bytes per example"
    return {
        "target": name,
        "examples": count,
        "seconds": round(seconds, 1),
        "slowest_ms": round(slowest * 1000, 1),
        "bytes_held": round(leaked),
    }


def _held() -> int:
    """Bytes that our own modules and Twisted hold; 0 unless tracemalloc runs."""
    if not tracemalloc.is_tracing():
        return 0
    gc.collect()
    snapshot = tracemalloc.take_snapshot()
    ours = [tracemalloc.Filter(True, pattern) for pattern in ("*/vifibnet/*", "*/twisted/*", "*/OpenSSL/*")]
    return sum(each.size for each in snapshot.filter_traces(ours).statistics("filename"))


def explain(name: str, error: Exception) -> None:
    """Print what failed, and with which example."""
    if isinstance(error, ExceptionGroup):
        for each in error.exceptions:
            explain(name, each)
        return
    print(
        f"{name}: {type(error).__name__}: {error}",
        *getattr(error, "__notes__", ()),
        sep="\n",
        file=sys.stderr,
    )
    where = traceback.extract_tb(error.__traceback__)[-1]
    print(f"  {where.filename}:{where.lineno}", file=sys.stderr)


def main() -> int:
    """Fuzz all targets; return 1 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=5000)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    args = parser.parse_args()
    tracemalloc.start()
    rows: list[dict[str, Any]] = []
    for name in args.targets:
        try:
            rows.append({**fuzz(name, args.examples, same=False), "error": None})
        except Exception as error:
            explain(name, error)
            rows.append({"target": name, "error": f"{type(error).__name__}: {error}"})
    headings = ("target", "examples", "seconds", "slowest_ms", "bytes_held", "error")
    cells = [[str(row.get(heading) or "–") for heading in headings] for row in rows]
    print("\n".join(columns(headings, cells, frozenset((1, 2, 3, 4)))), file=sys.stderr)
    met = all(row["error"] is None for row in rows)
    print(json.dumps({"bench": "fuzz", "rows": rows, "met": met}, indent=1))
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
