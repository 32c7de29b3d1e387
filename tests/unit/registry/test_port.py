"""The TLS port on loopback: who gets AMP, who gets HTTP, who gets nothing."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.amp import AMP, AmpBox
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.unit.registry.parts import Parts
from vifibnet.errors import NoPeerYet
from vifibnet.guard.bounded import UNREAD
from vifibnet.guard.limits import Limits
from vifibnet.model.addresses import Prefix
from vifibnet.node.registryclient import RegistryClient
from vifibnet.pki.certificates import Identity
from vifibnet.pki.keepalive import KEEPALIVE
from vifibnet.pki.tls import client_options, server_options
from vifibnet.registry.listen import open_sockets
from vifibnet.registry.port import HTTP_LIFE, RegistryPort
from vifibnet.registry.xmlrpc import RegistrySite
from vifibnet.wire.amp import ALPN, GetBootstrapPeer

reactor: Any = _reactor

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@implementer(IHandshakeListener)
class Client(Protocol):
    """Notes what happens to it."""

    def __init__(self) -> None:
        self.shaken: Deferred[bytes | None] = Deferred()
        self.answered: Deferred[bytes] = Deferred()
        self.gone: Deferred[BaseException | None] = Deferred()

    def handshakeCompleted(self) -> None:
        """TLS is there."""
        transport: Any = self.transport
        self.shaken.callback(transport.negotiatedProtocol)

    def dataReceived(self, data: bytes) -> None:
        """The first bytes."""
        if not self.answered.called:
            self.answered.callback(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The end."""
        self.gone.callback(reason.value)

    def send(self, data: bytes) -> None:
        """Say something."""
        transport: Any = self.transport
        transport.write(data)

    def close(self) -> None:
        """Hang up."""
        transport: Any = self.transport
        transport.abortConnection()


class PortTests(TestCase):
    """One port with real connections, whose patience is measured by a clock of ours."""

    timeout = 20

    def setUp(self) -> None:
        """Listen."""
        self.parts = Parts(Path(self.mktemp()), reactor.seconds())
        self.addCleanup(self.parts.store.close)
        self.listen(Limits())

    def listen(self, limits: Limits) -> None:
        """Listen anew, within these limits."""
        site = RegistrySite(self.parts.registry, self.parts.clock, limits)
        self.port = RegistryPort(self.parts.registry, site, self.parts.clock, limits)
        options = server_options(self.parts.authority, [], datetime.now(UTC))
        (opened,) = open_sockets(0, ["127.0.0.1"])
        listening: Any = self.port.listen(reactor, opened, options)
        opened.close()
        self.addCleanup(listening.stopListening)
        self.addCleanup(self.port.close)
        self.address: IPv4Address = listening.getHost()

    async def connect(self, protocol: Protocol, tls: Any = None) -> None:
        """Connect, over TLS if options for it are given."""
        endpoint: Any = TCP4ClientEndpoint(reactor, "127.0.0.1", self.address.port)
        factory: Factory = Factory.forProtocol(lambda: protocol)
        factory.noisy = False
        await (endpoint if tls is None else wrapClientTLS(tls, endpoint)).connect(factory)

    async def client(self, identity: Identity | None = None, *alpn: bytes) -> Client:
        """A client that trusts our CA."""
        client = Client()
        await self.connect(client, client_options([self.parts.authority.ca], identity, alpn))
        return client

    async def test_http(self) -> None:
        """HTTP for who asks for it, for who asks for nothing and for who asks for what we lack."""
        for alpn, agreed in (((b"http/1.1",), b"http/1.1"), ((), None), ((b"h2", b"http/1.1"), b"http/1.1")):
            client = await self.client(None, *alpn)
            self.assertEqual(await client.shaken, agreed)
            client.send(GET)
            self.assertTrue((await client.answered).startswith(b"HTTP/1.1 405"))
            client.close()
            await client.gone
        await self.until(lambda: not self.port.connections)

    async def test_http_with_certificate(self) -> None:
        """A certificate does not get in the way of HTTP."""
        client = await self.client(self.parts.identity())
        client.send(GET)
        self.assertTrue((await client.answered).startswith(b"HTTP/1.1 405"))
        client.close()
        await client.gone
        await self.until(lambda: not self.port.connections)

    async def test_amp(self) -> None:
        """AMP for a node, and the kernel is asked to watch the connection."""
        node = AMP()
        await self.connect(node, client_options([self.parts.authority.ca], self.parts.identity(), [ALPN]))
        await self.assertFailure(node.callRemote(GetBootstrapPeer), NoPeerYet)
        (connection,) = self.port.connections
        transport: Any = connection.transport
        self.assertTrue(transport.getTcpKeepAlive())
        handle = transport.transport.getHandle()
        for option, value in KEEPALIVE.items():
            self.assertEqual(handle.getsockopt(socket.IPPROTO_TCP, option), value)
        # It stays for as long as it likes.
        self.parts.clock.advance(HTTP_LIFE * 2)
        await self.assertFailure(node.callRemote(GetBootstrapPeer), NoPeerYet)
        gone: Deferred[None] = Deferred()
        node.connectionLost = lambda reason: gone.callback(None)  # type: ignore[method-assign]
        self.port.close()
        await gone

    async def test_amp_without_certificate(self) -> None:
        """No certificate, no AMP: the connection is closed without an answer."""
        client = await self.client(None, ALPN)
        await client.gone
        self.assertFalse(client.answered.called)

    async def test_foreign_certificate(self) -> None:
        """A certificate of another CA comes to nothing, whatever it is used for."""
        stranger = Parts(Path(self.mktemp()), reactor.seconds())
        self.addCleanup(stranger.store.close)
        for alpn in ((ALPN,), (b"http/1.1",)):
            client = await self.client(stranger.identity(), *alpn)
            client.send(GET)
            reason = await client.gone
            self.assertIsInstance(reason, SSL.Error)
            self.assertFalse(client.answered.called)

    async def test_silence(self) -> None:
        """Who never shakes hands is disconnected."""
        client = Client()
        await self.connect(client)
        await self.until(lambda: len(self.port.connections) == 1)
        self.parts.clock.advance(Limits().handshake_timeout - 1)
        self.assertFalse(client.gone.called)
        self.parts.clock.advance(2)
        await client.gone

    async def test_rubbish(self) -> None:
        """Who does not speak TLS, too, at once."""
        client = Client()
        await self.connect(client)
        client.send(GET)
        await client.gone
        await self.until(lambda: not self.port.connections)

    async def test_endless_request(self) -> None:
        """A request that comes a byte a minute has an end."""
        client = await self.client()
        await client.shaken
        await self.until(lambda: bool(self.port.connections))
        (connection,) = self.port.connections
        arrived: list[bytes] = []
        pass_on = connection.dataReceived

        def received(data: bytes) -> None:
            arrived.append(data)
            pass_on(data)

        self.patch(connection, "dataReceived", received)
        for step in range(int(Limits().request_time // 10)):
            self.assertFalse(client.gone.called)
            client.send(b"P")
            await self.until(lambda step=step: len(b"".join(arrived)) > step)
            self.parts.clock.advance(10)
        await client.gone

    async def test_queue(self) -> None:
        """While enough handshakes are under way the others wait, and are served when it is their turn."""
        self.listen(Limits(handshakes=2))
        silent = [Client() for _ in range(5)]
        for client in silent:
            await self.connect(client)
        await self.until(lambda: len(self.port.connections) == 2)
        busy = await self.client()
        await self.until(lambda: True, 0.05)
        self.assertEqual((len(self.port.connections), busy.shaken.called), (2, False))
        for expected in (4, 6):
            self.parts.clock.advance(1.1)
            await self.until(lambda expected=expected: len(self.port.connections) >= expected)
        await busy.shaken
        for client in silent:
            client.close()
        busy.close()
        await self.until(lambda: not self.port.connections)
        self.assertEqual((len(self.port.gate), self.port.gate.closed), (0, False))

    async def test_one_address(self) -> None:
        """One address has so many connections; another one gets in."""
        self.listen(Limits(connections_per_address=2))
        clients = [await self.client() for _ in range(2)]
        for client in clients:
            await client.shaken
        third = await self.client()
        await third.gone
        self.assertFalse(third.shaken.called)
        other = Client()
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.address.port, bindAddress=("127.0.0.2", 0))
        tls = client_options([self.parts.authority.ca])
        await wrapClientTLS(tls, endpoint).connect(Factory.forProtocol(lambda: other))
        await other.shaken
        for client in (*clients, other):
            client.close()
            await client.gone
        await self.until(lambda: not self.port.connections)

    async def test_one_certificate(self) -> None:
        """A certificate has so many connections, the newest; others have theirs."""
        self.listen(Limits(connections_per_certificate=2))
        identity, other = self.parts.identity(), self.parts.identity()
        clients = [await self.client(each, ALPN) for each in (other, identity, identity, identity, identity)]
        for client in clients[1:3]:
            await client.gone
        self.assertEqual([client.gone.called for client in clients], [False, True, True, False, False])
        await self.until(lambda: len(self.port.connections) == 3)
        self.assertEqual(len(self.parts.registry.connections), 3)
        for client in (clients[0], *clients[3:]):
            client.close()
        await self.until(lambda: not self.port.connections)
        self.assertEqual(len(self.parts.registry.connections), 0)

    async def test_hangs(self) -> None:
        """A node that acknowledges what it is sent and never answers goes; one that answers stays."""
        hung = await self.client(self.parts.identity(), ALPN)
        await hung.shaken
        node = RegistryClient(reactor, Random(1), self.endpoint(self.parts.identity()), "here")
        node.startService()
        self.addCleanup(node.stopService)
        await self.until(lambda: node.connected and len(self.parts.registry.connections) == 2)
        # The node has called once, so that it is not asked before the second time.
        self.parts.clock.advance(Limits().silence)
        await hung.answered
        self.parts.clock.advance(Limits().answer)
        await hung.gone
        (face,) = self.parts.registry.connections
        self.parts.clock.advance(Limits().silence - Limits().answer)
        await self.until(lambda: getattr(face, "_heard", False))
        self.parts.clock.advance(Limits().answer)
        self.assertTrue(node.connected)

    async def test_stranger(self) -> None:
        """Who shows a certificate that counts for nothing, and says nothing either, is not kept."""
        identity = self.parts.identity()
        self.parts.registry.revocations.revoke(str(identity.prefix), "", "uid 0")
        client = await self.client(identity, ALPN)
        await client.shaken
        await self.until(lambda: bool(self.port.connections))
        self.parts.clock.advance(Limits().stranger)
        await client.gone

    def endpoint(self, identity: Identity) -> Any:
        """Where a node finds the port."""
        tcp = TCP4ClientEndpoint(reactor, "127.0.0.1", self.address.port)
        return wrapClientTLS(client_options([self.parts.authority.ca], identity, [ALPN]), tcp)

    async def test_reads_nothing(self) -> None:
        """A node that asks and does not listen gets little, and is cut off; others do not notice."""
        peers = [(Prefix(number, 16), "x" * 60) for number in range(700)]
        asked: list[int] = []

        def answer(node: Prefix, count: int) -> list[tuple[Prefix, str]]:
            asked.append(count)
            return peers

        self.patch(self.parts.registry, "peers", answer)
        client = await self.client(self.parts.identity(), ALPN)
        await client.shaken
        transport: Any = client.transport
        transport.pauseProducing()
        box = AmpBox({b"_command": b"GetPeers", b"_ask": b"1", b"count": b"999"}).serialize()
        client.send(box * 1000)
        (connection,) = self.port.connections
        await self.until(lambda: UNREAD in getattr(connection._spoken, "_held", ()))
        self.assertLess(len(asked), 500)
        self.parts.clock.advance(Limits().stalled)
        await self.until(lambda: not self.port.connections)
        client.close()
        await client.gone

    async def test_old_tls(self) -> None:
        """Nothing older than TLS 1.2."""
        old = CertificateOptions(method=SSL.TLS_METHOD)
        context = old.getContext()
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        context.set_min_proto_version(SSL.TLS1_VERSION)
        context.set_max_proto_version(SSL.TLS1_1_VERSION)
        client = Client()
        await self.connect(client, old)
        reason = await client.gone
        self.assertFalse(client.shaken.called)
        self.assertIsInstance(reason, SSL.Error)

    async def until(self, condition: Any, at_least: float = 0.0) -> None:
        """Let the reactor run until the condition holds."""
        while True:
            pause: Deferred[None] = Deferred()
            reactor.callLater(at_least, pause.callback, None)
            await pause
            if condition():
                return
