"""The registry's TLS on real loopback connections."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Coroutine
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IHandshakeListener, IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.unit.pki.making import (
    DAY,
    NETWORK,
    NOW,
    authority,
    authority_of,
    certificate,
    identity,
    key,
    successor,
)
from vifibnet.errors import BadInput, NotOurRegistry, RegistryUnreachable
from vifibnet.model.addresses import Network
from vifibnet.pki.authorities import Authorities
from vifibnet.pki.authority import Authority, create_authority, new_serial
from vifibnet.pki.tls import RegistryContexts, client_options, fetch_cas, server_options
from vifibnet.wire.amp import REGISTRY_NAME

CLOCK: Any = reactor


@implementer(IHandshakeListener)
class Greeter(Protocol):
    """A server that says who the client is."""

    def handshakeCompleted(self) -> None:
        transport: Any = self.transport
        peer = transport.getPeerCertificate()
        name = peer.to_cryptography().subject.rfc4514_string() if peer else "nobody"
        alpn = transport.negotiatedProtocol or b"-"
        transport.write(f"hello {name} ".encode() + alpn)
        transport.loseConnection()


class Reader(Protocol):
    """A client that collects what it is told until the end."""

    def __init__(self) -> None:
        self.data = b""
        self.ended: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.data:
            self.ended.callback(self.data)
        else:
            self.ended.errback(reason)


class Loopback(TestCase):
    """Servers on 127.0.0.1 that end with the test."""

    def serve(self, protocol: type[Protocol], options: Any = None) -> int:
        """Listen, with TLS if there are options; the port."""
        factory: Any = Factory.forProtocol(protocol)
        factory.noisy = False
        if options is not None:
            factory = TLSMemoryBIOFactory(options, False, factory)
        port = CLOCK.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def serve_registry(
        self, names: tuple[str, ...] = ("127.0.0.1", "localhost"), by: Authority | None = None
    ) -> int:
        """A registry's TLS."""
        return self.serve(Greeter, server_options(by or authority(), names, NOW))

    def endpoint(self, port: int) -> TCP4ClientEndpoint:
        return TCP4ClientEndpoint(CLOCK, "127.0.0.1", port, timeout=5)

    async def ask(self, port: int, options: IOpenSSLClientConnectionCreator) -> str:
        """What the server says to a client with these options."""
        factory = Factory.forProtocol(Reader)
        factory.noisy = False
        reader: Any = await wrapClientTLS(options, self.endpoint(port)).connect(factory)
        said: bytes = await reader.ended.addTimeout(10, CLOCK)
        return said.decode()

    async def refused(self, port: int, options: IOpenSSLClientConnectionCreator) -> str:
        """Why such a client gets no answer."""
        try:
            said = await self.ask(port, options)
        except Exception as error:
            return f"{type(error).__name__} {error}"
        raise self.failureException(f"was answered: {said}")


class MutualTests(Loopback):
    """Who is let in by whom."""

    async def test_without_a_certificate(self) -> None:
        """A newcomer is answered, and known to be nobody."""
        port = self.serve_registry()
        self.assertEqual(await self.ask(port, client_options([authority().ca])), "hello nobody -")

    async def test_with_a_certificate(self) -> None:
        """A node is known by the certificate that it showed."""
        port = self.serve_registry()
        self.assertEqual(
            await self.ask(port, client_options([authority().ca], identity(prefix="7/16"))), "hello CN=7/16 -"
        )

    async def test_every_kind_of_authority(self) -> None:
        """The CA may have any type of key."""
        for key_type in ("ed25519", "rsa"):
            by = authority(key_type)
            port = self.serve_registry(by=by)
            self.assertEqual(await self.ask(port, client_options([by.ca], identity(by))), "hello CN=5/16 -")

    async def test_strangers_certificate(self) -> None:
        """A certificate of another CA of the same name and network is refused."""
        other = authority("p256", NETWORK, days=1000)
        stranger = identity(other)
        port = self.serve_registry()
        self.assertIn("Error", await self.refused(port, client_options([authority().ca], stranger)))

    async def test_expired_certificate(self) -> None:
        """A certificate whose time is over may still be shown, to be renewed; any other fault is refused."""
        past = create_authority(NETWORK, now=NOW - 30 * DAY, days=60)
        past_of_another = create_authority(NETWORK, now=NOW - 30 * DAY, days=60)
        by = authority_of(*past)
        port = self.serve(Greeter, server_options(by, [], NOW))
        self.assertIn("CN=5/16", await self.ask(port, client_options([by.ca], identity(by))))
        expired = identity(by, now=NOW - 20 * DAY, days=10)
        self.assertEqual(await self.ask(port, client_options([by.ca], expired)), "hello CN=5/16 -")
        future = identity(by, now=NOW + 20 * DAY, days=10)
        self.assertIn("Error", await self.refused(port, client_options([by.ca], future)))
        stranger = identity(authority_of(*past_of_another), now=NOW - 20 * DAY, days=10)
        self.assertIn("Error", await self.refused(port, client_options([by.ca], stranger)))

    async def test_two_authorities(self) -> None:
        """During the overlap nodes of both are let in, and who knows either finds the registry as long as
        the old one counts; afterwards who knows the new one does."""
        first = authority("p256", NETWORK, days=100)
        second = successor(first)
        held = Authorities.of(first)
        port = self.serve(Greeter, RegistryContexts(held, [], lambda: NOW))
        both = [first.ca, second.ca]
        self.assertIn("Error", await self.refused(port, client_options(both, identity(second))))
        held.cas, held._keys = (second.ca, first.ca), (second.key, first.key)
        for trusted in (both, [first.ca]):
            for by in (first, second):
                self.assertIn("CN=5/16", await self.ask(port, client_options(trusted, identity(by))))
        self.assertIn("verify failed", await self.refused(port, client_options([second.ca])))
        # A newcomer is shown both.
        for ca in both:
            self.assertIn(ca, await fetch_cas(CLOCK, self.endpoint(port)))
        # When the old one has expired its certificates are let in to be renewed.
        past = authority_of(*create_authority(NETWORK, now=NOW - 30 * DAY, days=20))
        expired = identity(past, now=NOW - 25 * DAY)
        self.assertIn("Error", await self.refused(port, client_options([first.ca], expired)))
        held.cas, held._keys = (second.ca, past.ca), (second.key,)
        for node in (expired, identity(second)):
            self.assertIn("CN=5/16", await self.ask(port, client_options([second.ca], node)))
        self.assertIn("verify failed", await self.refused(port, client_options([first.ca])))

    async def test_registry_of_another_network(self) -> None:
        """A node does not talk to a registry whose CA is not its own."""
        port = self.serve_registry()
        other = authority("p256", Network.parse("2001:db8:43::/48"))
        self.assertIn("verify failed", await self.refused(port, client_options([other.ca])))

    async def test_node_that_plays_the_registry(self) -> None:
        """A node's certificate is not the registry's, though of the same CA, whatever it asked for."""
        asked = (("O", "registry.vifibnet"), ("CN", "registry.vifibnet"))
        await self.refuse_server(certificate(attributes=asked))

    async def test_server_without_a_name(self) -> None:
        """A certificate of the CA with CN registry.vifibnet but no subjectAltName is not the registry's."""
        self.assertIn("registry.vifibnet", await self.answer_of(self.server_certificate([REGISTRY_NAME])))
        for names in (None, [], ["registry.vifibnet.example.com", "*.vifibnet", "vifibnet"]):
            await self.refuse_server(self.server_certificate(names))

    async def test_client_certificate_as_server(self) -> None:
        """The right name on a certificate that is not for servers is refused."""
        await self.refuse_server(
            self.server_certificate([REGISTRY_NAME], usage=ExtendedKeyUsageOID.CLIENT_AUTH)
        )

    @staticmethod
    def server_certificate(
        names: list[str] | None, usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH
    ) -> x509.Certificate:
        """A certificate of the CA for CN registry.vifibnet with these DNS names, or no extension for them."""
        by = authority()
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, REGISTRY_NAME)]))
            .issuer_name(by.certificate.subject)
            .public_key(key().public_key())
            .serial_number(new_serial())
            .not_valid_before(NOW)
            .not_valid_after(NOW + DAY)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if names is not None:
            alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(by.key, SHA256())

    async def answer_of(self, shown: x509.Certificate) -> str:
        """What a client of the network gets from a server with this certificate."""
        options: Any = {"privateKey": key(), "certificate": shown}
        port = self.serve(Greeter, CertificateOptions(**options))
        return await self.ask(port, client_options([authority().ca])) + shown.subject.rfc4514_string()

    async def refuse_server(self, shown: x509.Certificate) -> None:
        """Fail unless a client of the network refuses a server with this certificate."""
        with self.assertRaises(SSL.Error) as caught:
            await self.answer_of(shown)
        self.assertIn("certificate verify failed", str(caught.exception))

    async def test_alpn(self) -> None:
        """What the client offers is what the server may choose."""
        options = server_options(authority(), [], NOW)
        options._acceptableProtocols = [b"vifibnet-amp", b"http/1.1"]
        port = self.serve(Greeter, options)
        said = await self.ask(port, client_options([authority().ca], alpn=[b"vifibnet-amp"]))
        self.assertEqual(said, "hello nobody vifibnet-amp")

    async def test_bad_name(self) -> None:
        """A name that is none is refused before anything listens."""
        for name in ("", "a b", "1.2.3", "-x.org", "x" * 64 + ".org"):
            with self.assertRaises(BadInput) as caught:
                server_options(authority(), [name], NOW)
            self.assertIn("--name", str(caught.exception))


class StandardLibraryTests(Loopback):
    """Python's own ssl, as xmlrpc.client and curl would call."""

    def call(self, port: int, name: str, **settings: Any) -> Coroutine[Any, Any, bytes]:
        def blocking() -> bytes:
            context = ssl.create_default_context(cadata=authority().ca_pem.decode())
            for setting, value in settings.items():
                if setting == "ciphers":
                    context.set_ciphers(value)
                else:
                    setattr(context, setting, value)
            with (
                socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname=name) as tls,
            ):
                return tls.recv(1000)

        async def call() -> bytes:
            return await deferToThread(blocking)

        return call()

    async def test_names_and_addresses(self) -> None:
        """Each of the given names and the fixed one is right, any other wrong."""
        port = self.serve_registry(("127.0.0.1", "::1", "registry.example.com", "*.example.net"))
        for name in ("127.0.0.1", "::1", "registry.example.com", "a.example.net", "registry.vifibnet"):
            self.assertEqual(await self.call(port, name), b"hello nobody -", name)
        for name in ("127.0.0.2", "example.com"):
            with self.assertRaises(ssl.SSLCertVerificationError, msg=name):
                await self.call(port, name)

    async def test_old_tls(self) -> None:
        """TLS 1.2 is spoken, 1.1 is not."""
        port = self.serve_registry()
        new = {"maximum_version": ssl.TLSVersion.TLSv1_2}
        self.assertEqual(await self.call(port, "127.0.0.1", **new), b"hello nobody -")
        old = {
            "minimum_version": ssl.TLSVersion.TLSv1_1,
            "maximum_version": ssl.TLSVersion.TLSv1_1,
            "ciphers": "ALL:@SECLEVEL=0",
        }
        with self.assertRaises(ssl.SSLError) as caught:
            await self.call(port, "127.0.0.1", **old)
        self.assertIn("PROTOCOL_VERSION", str(caught.exception).upper())


class FetchTests(Loopback):
    """Learning the CA of an unknown registry."""

    async def test_fetches(self) -> None:
        """What comes back is the CA, which then verifies the registry."""
        port = self.serve_registry()
        fetched = await fetch_cas(CLOCK, self.endpoint(port), 10.0)
        self.assertEqual(fetched, [authority().ca])

    async def test_nobody_there(self) -> None:
        """A closed port and a name that does not exist are said as such."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        with self.assertRaises(RegistryUnreachable) as caught:
            await fetch_cas(CLOCK, self.endpoint(port), 10.0, f"127.0.0.1 port {port}")
        self.assertEqual(
            str(caught.exception),
            f"The registry at 127.0.0.1 port {port} does not answer: Connection refused.",
        )
        with self.assertRaises(RegistryUnreachable):
            await fetch_cas(CLOCK, HostnameEndpoint(CLOCK, b"does-not-exist.invalid", port), 10.0)

    async def test_silence(self) -> None:
        """Who accepts and says nothing is given up on in time, and nothing is left behind."""
        port = self.serve(Protocol)
        before = CLOCK.seconds()
        with self.assertRaises(RegistryUnreachable) as caught:
            await fetch_cas(CLOCK, self.endpoint(port), 0.2)
        self.assertLess(CLOCK.seconds() - before, 3)
        self.assertIn("no answer within 0.2 s", str(caught.exception))

    async def test_no_route(self) -> None:
        """A connection that is never made is given up on as well."""
        with contextlib.ExitStack() as stack:
            full = stack.enter_context(socket.socket())
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for _ in range(3):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            with self.assertRaises(RegistryUnreachable) as caught:
                await fetch_cas(CLOCK, self.endpoint(full.getsockname()[1]), 0.3)
        self.assertIn("no answer within 0.3 s", str(caught.exception))

    async def test_no_tls(self) -> None:
        """A plain server and one that hangs up are not taken for a registry."""

        class Plain(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(b"220 mail.example.com ESMTP\r\n")

        class HangUp(Protocol):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                self.transport.loseConnection()

        with self.assertRaises(NotOurRegistry) as caught:
            await fetch_cas(CLOCK, self.endpoint(self.serve(Plain)), 10.0)
        self.assertIn("does not speak TLS", str(caught.exception))
        with self.assertRaises(RegistryUnreachable):
            await fetch_cas(CLOCK, self.endpoint(self.serve(HangUp)), 10.0)

    async def test_other_tls_servers(self) -> None:
        """No CA at all, or one that did not sign the server's certificate, is no registry's."""
        chains: list[tuple[list[x509.Certificate], str]] = [
            ([], "no certificate authority"),
            ([authority("p256", Network.parse("2001:db8:43::/48")).certificate], "not signed by"),
        ]
        for chain, problem in chains:
            options: Any = {"privateKey": key(), "certificate": certificate(), "extraCertChain": chain}
            with self.assertRaises(NotOurRegistry) as caught:
                await fetch_cas(
                    CLOCK, self.endpoint(self.serve(Greeter, CertificateOptions(**options))), 10.0
                )
            self.assertIn(problem, str(caught.exception))
