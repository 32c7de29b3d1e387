"""The XML-RPC client against real TLS on the loopback, behind which anything may answer."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase
from twisted.web.resource import IResource, Resource
from twisted.web.xmlrpc import Fault

from tests.unit.node.fake_registry import (
    FakeRegistry,
    Raw,
    closed_port,
    endpoint,
    make_authority,
    reactor,
    serve,
)
from vifibnet.errors import NotOurRegistry, RegistryRefusal, RegistryUnreachable, UnknownToken
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.node.xmlrpcclient import MAX_ANSWER, XMLRPCRegistry
from vifibnet.pki.tls import client_options


class ClientCase(TestCase):
    """A CA, and clients that trust it alone."""

    def setUp(self) -> None:
        self.authority = make_authority(self)

    def client(self, port: int, timeout: float = 5) -> XMLRPCRegistry:
        """A client of whatever listens on the port."""
        tls = client_options([self.authority.ca])
        return XMLRPCRegistry(reactor, endpoint(port), tls, "here", timeout)

    async def sentence(self, kind: type[Exception] | tuple[type[Exception], ...], call: Any) -> str:
        """What the call's error says, which must be of this kind."""
        try:
            answer = await call
        except kind as error:
            return str(error)
        raise AssertionError(f"it answered {answer!r}")


class AnswerTests(ClientCase):
    """What a registry answers."""

    def setUp(self) -> None:
        super().setUp()
        self.registry = FakeRegistry(self.authority)
        self.there = self.client(serve(self, self.registry, self.authority))

    async def test_the_four_calls(self) -> None:
        """Arguments arrive and results come back as what they are, signs of markup included."""
        self.registry.answers["requestCertificate"] = lambda token, pem: f"<{token}&{pem}é>"
        self.assertEqual(await self.there.get_ca(), self.authority.ca_pem.decode())
        await self.there.request_token("a&b@example.com")
        self.assertEqual(await self.there.request_certificate("<t>", "p"), "<<t>&pé>")
        peer = Prefix.parse("5/16"), (Endpoint("192.0.2.5", 1194, "udp"),)
        self.assertEqual(await self.there.bootstrap(), peer)
        self.assertEqual(
            self.registry.calls,
            [
                ("getCa",),
                ("requestToken", "a&b@example.com"),
                ("requestCertificate", "<t>", "p"),
                ("getBootstrapPeer",),
            ],
        )

    async def test_faults_are_refusals(self) -> None:
        """A known code is its class, an unknown one a refusal with the registry's words."""
        for code, kind in ((UnknownToken.code, UnknownToken), (4711, RegistryRefusal)):
            self.registry.answers["getCa"] = lambda code=code: Fault(code, "no \x9b2Jway\nout")
            said = await self.sentence(kind, self.there.get_ca())
            self.assertIn("no  2Jway out", said)
            self.assertTrue(said.isprintable())

    async def test_wrong_results(self) -> None:
        """A result of another type or a peer that is none is no registry's answer."""
        self.registry.answers["getCa"] = lambda: 5
        self.assertIn("int instead of str", await self.sentence(NotOurRegistry, self.there.get_ca()))
        for peer in ("x", 7, [], ["01"], ["01", 5], [5, "x"], ["2", "192.0.2.5,1194,udp"], ["01", ""]):
            self.registry.answers["getBootstrapPeer"] = lambda peer=peer: peer
            await self.sentence(NotOurRegistry, self.there.bootstrap())


class StrangerTests(ClientCase):
    """What else may listen on that port."""

    async def refusal(self, resource: IResource) -> str:
        """What is said of somebody who owns a certificate of the CA and answers like this."""
        client = self.client(serve(self, resource, self.authority))
        return await self.sentence(NotOurRegistry, client.get_ca())

    async def test_no_xmlrpc(self) -> None:
        """Other statuses, other bodies, and endless ones."""
        self.assertIn("HTTP status 404", await self.refusal(Resource()))
        self.assertIn("not XML-RPC", await self.refusal(Raw(b"hello")))
        self.assertIn("not XML-RPC", await self.refusal(Raw(b"")))
        self.assertIn("not XML-RPC", await self.refusal(Raw(b"<a/>")))
        self.assertIn("longer than", await self.refusal(Raw(b" " * (MAX_ANSWER + 1))))

    async def test_silence(self) -> None:
        """No answer in time, to the request or already to the connection."""
        client = self.client(serve(self, Raw(None), self.authority), timeout=0.3)
        self.assertIn("within 0.3 s", await self.sentence(RegistryUnreachable, client.get_ca()))
        mute = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
        self.addCleanup(mute.stopListening)
        client = self.client(mute.getHost().port, timeout=0.3)
        self.assertIn("within 0.3 s", await self.sentence(RegistryUnreachable, client.get_ca()))

    async def test_another_ca(self) -> None:
        """A registry of another network is not called at all."""
        other = FakeRegistry(make_authority(self))
        client = self.client(serve(self, other, other.authority))
        self.assertIn(
            "network's CA", await self.sentence(NotOurRegistry, client.request_token("a@b.example"))
        )
        self.assertEqual(other.calls, [])

    def rude(self, answer: bytes) -> int:
        """The port of a server that says this to whatever it hears, and hangs up."""

        class Rude(Protocol):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                self.transport.write(answer)
                self.transport.loseConnection()

        port = reactor.listenTCP(0, Factory.forProtocol(Rude), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    async def test_no_tls(self) -> None:
        """A web server without TLS."""
        client = self.client(self.rude(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        self.assertIn("TLS", await self.sentence(NotOurRegistry, client.get_ca()))

    async def test_nobody(self) -> None:
        """Nothing listens there, or hangs up at once."""
        client = self.client(await closed_port(self))
        self.assertIn("nothing listens", await self.sentence(RegistryUnreachable, client.get_ca()))

        said = await self.sentence(
            (RegistryUnreachable, NotOurRegistry), self.client(self.rude(b"")).get_ca()
        )
        self.assertIn("closed the connection", said)
