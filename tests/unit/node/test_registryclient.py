"""The registry client against an AMP server on the loopback interface that does what the test says."""

from __future__ import annotations

import socket
from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, formatEvent
from twisted.protocols.amp import AMP
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.unit.node.fakes import endpoint, node
from vifibnet.errors import (
    BadEndpoints,
    CertificateExpired,
    CertificateRevoked,
    RegistryUnreachable,
    UnknownNode,
)
from vifibnet.node import registryclient
from vifibnet.node.registryclient import RegistryClient
from vifibnet.pki.keepalive import KEEPALIVE
from vifibnet.wire.amp import Declare, DocumentChanged, GetBootstrapPeer, GetDocument, GetPeers, Renew
from vifibnet.wire.document import Kind


class Server(AMP):
    """One connection of the fake registry."""

    factory: Any

    def connectionMade(self) -> None:
        """Note it."""
        super().connectionMade()
        self.factory.connections.append(self)

    @GetPeers.responder
    def get_peers(self, count: int) -> Any:
        """Two good peers and two that a newer registry might name."""
        self.factory.calls.append(("peers", count))
        if self.factory.refuses:
            raise self.factory.refusal
        if self.factory.silent:
            return Deferred()
        peers = [
            {"prefix": "1/16", "endpoints": "192.0.2.1,1194,udp"},
            {"prefix": "2/16", "endpoints": ""},
            {"prefix": "3/16", "endpoints": "192.0.2.3,1194,carrier-pigeon"},
            {"prefix": "what?", "endpoints": ""},
        ]
        return {"peers": peers, "seen": self.factory.seen}

    @GetBootstrapPeer.responder
    def get_bootstrap_peer(self) -> Any:
        """One peer."""
        return {"prefix": "1/16", "endpoints": "192.0.2.1,1194,udp", "seen": self.factory.seen}

    @GetDocument.responder
    def get_document(self, kind: str, number: int, offset: int) -> Any:
        """Four bytes of it at a time; it changes once, after the first piece."""
        self.factory.calls.append((kind, number, offset))
        document, last = self.factory.documents[0], len(self.factory.documents)
        if len(self.factory.documents) > 1:
            self.factory.documents.pop(0)
        length = self.factory.claims or len(document)
        answer = {"number": 10 - last, "length": length, "seen": self.factory.seen}
        return {**answer, "piece": document[offset : offset + 4]}

    @Renew.responder
    def renew(self, request: str) -> Any:
        """Give what is asked for."""
        return {"certificate": f"new {request}", "seen": self.factory.seen}

    @Declare.responder
    def declare(self, endpoints: str) -> Any:
        """Note it, or refuse it."""
        self.factory.calls.append(("declare", endpoints))
        if "192.0.2.66" in endpoints:
            raise BadEndpoints(text=endpoints, problem="they are bad")
        return {"seen": self.factory.seen}


class ServerFactory(Factory):
    """The fake registry."""

    noisy = False

    def __init__(self) -> None:
        self.connections: list[Server] = []
        self.calls: list[tuple[object, ...]] = []
        self.seen = "192.0.2.99"
        self.refuses = False
        self.refusal: type[UnknownNode] = UnknownNode
        self.documents = [b""]
        self.claims = 0
        self.silent = False

    def buildProtocol(self, addr: object) -> Server:
        """Answer everybody."""
        server = Server()
        server.factory = self
        return server


@implementer(IStreamClientEndpoint)
class Place:
    """Where the registry is at the moment."""

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find = find

    def connect(self, protocolFactory: Any) -> Any:  # noqa: N803
        """Connect to it there."""
        return self._find().connect(protocolFactory)


class RegistryClientTests(TestCase):
    """Calls, refusals, and a registry that is away or hangs."""

    timeout = 20

    def setUp(self) -> None:
        """A registry that listens, and a client that is not started yet."""
        self.clock: Any = reactor
        self.patch(registryclient, "FIRST_DELAY", 0.05)
        self.patch(registryclient, "CALL_TIMEOUT", 3.0)
        self.server = ServerFactory()
        self.listen(0)
        self.events: list[str] = []
        self.client = RegistryClient(
            self.clock,
            Random(1),
            Place(lambda: TCP4ClientEndpoint(self.clock, "127.0.0.1", self.where, timeout=5)),
            "example port 1",
            lambda: self.events.append("connected"),
            lambda: self.events.append(f"seen at {self.client.seen}"),
            lambda: self.events.append("document"),
            lambda: self.events.append("revoked"),
        )
        self.addCleanup(self.client.stopService)

    def listen(self, port: int) -> None:
        """Listen."""
        self.port = self.clock.listenTCP(port, self.server, interface="127.0.0.1")
        self.where = self.port.getHost().port
        self.addCleanup(self.port.stopListening)

    async def until(self, condition: Any) -> None:
        """Wait for something to become true; trial's timeout bounds it."""
        while not condition():
            await deferLater(self.clock, 0.01)

    async def test_calls(self) -> None:
        """All three, and what is learned from the answers."""
        self.client.startService()
        found = await self.client.peers(7)
        self.assertEqual(found, [(node(1), (endpoint(1),)), (node(2), ())])
        self.assertEqual(self.server.calls, [("peers", 1), ("peers", 7)])
        self.assertEqual(len(self.server.connections), 1)
        self.assertTrue(self.client.connected)
        self.assertEqual(self.events, ["seen at 192.0.2.99", "connected"])
        self.assertEqual(await self.client.bootstrap(), (node(1), (endpoint(1),)))
        self.server.seen = "192.0.2.100"
        await self.client.declare([endpoint(5), endpoint(6)])
        self.assertEqual(self.server.calls[-1], ("declare", "192.0.2.5,1194,udp;192.0.2.6,1194,udp"))
        self.assertEqual(self.events[2:], ["seen at 192.0.2.100"])

    async def test_watched(self) -> None:
        """The kernel watches the connection: a registry whose machine died says no goodbye."""
        self.client.startService()
        await self.client.peers(1)
        connection: Any = self.client._connection
        self.assertTrue(connection.transport.getTcpKeepAlive())
        handle = connection.transport.getHandle()
        for option, value in KEEPALIVE.items():
            self.assertEqual(handle.getsockopt(socket.IPPROTO_TCP, option), value)

    async def test_move(self) -> None:
        """Where it is now it is connected to at once, also when there was nobody in the other place for long;
        where it has been all the time, nothing happens."""
        self.patch(registryclient, "FIRST_DELAY", 1000.0)
        self.client.startService()
        await self.client.peers(1)
        self.client.move("example port 1")
        await self.client.peers(1)
        self.assertEqual(len(self.server.connections), 1)
        await self.port.stopListening()
        self.listen(0)
        with capturedLogs() as events:
            self.client.move("example port 2")
            await self.client.peers(1)
        self.assertEqual(len(self.server.connections), 2)
        said = [formatEvent(event) for event in events if "is lost" in event["log_format"]]
        self.assertEqual(said, ["the connection to the registry at example port 1 is lost"])
        # It goes on being connected to where it is, and not twice.
        self.assertTrue(self.client.connected)
        await self.client.peers(1)
        self.assertEqual(len(self.server.connections), 2)

    async def test_refusal(self) -> None:
        """A refusal comes out as what it is, and the connection stays."""
        self.client.startService()
        with self.assertRaises(BadEndpoints):
            await self.client.declare([endpoint(66)])
        await self.client.peers(1)
        self.assertEqual(len(self.server.connections), 1)

    async def test_turned_away(self) -> None:
        """A registry that does not know us is no connection; it is tried again, with backoff."""
        self.server.refuses = True
        self.client.startService()
        with self.assertRaises(UnknownNode):
            await self.client.peers(7)
        self.assertFalse(self.client.connected)
        await self.until(lambda: len(self.server.connections) > 2)
        self.server.refuses = False
        await self.until(lambda: self.client.connected)

    async def test_document(self) -> None:
        """It comes in pieces, from the beginning again when it has changed meanwhile; or not at all."""
        self.client.startService()
        self.assertIsNone(await self.client.document(Kind.REVOCATIONS, 9))
        self.server.documents = [b"old list", b"a newer list"]
        self.assertEqual(await self.client.document(Kind.REVOCATIONS, 7), b"a newer list")
        offsets = [call[1:] for call in self.server.calls if call[0] == "revocations"]
        self.assertEqual(offsets, [(9, 0), (7, 0), (7, 4), (7, 0), (7, 4), (7, 8)])
        for claims in (1 << 30, 99):
            self.server.claims = claims
            with self.assertRaisesRegex(RegistryUnreachable, "no end"):
                await self.client.document(Kind.REVOCATIONS, 7)

    async def test_told(self) -> None:
        """The registry says that there is a new document."""
        self.client.startService()
        await self.client.peers(1)
        self.server.connections[0].callRemote(DocumentChanged, kind="revocations", number=4)
        await self.until(lambda: "document" in self.events)

    async def test_revoked(self) -> None:
        """Who is told that it was revoked does not come again soon."""
        self.server.refuses, self.server.refusal = True, CertificateRevoked
        self.client.startService()
        await self.until(lambda: "revoked" in self.events)
        await deferLater(self.clock, 0.3)
        self.assertEqual((len(self.server.connections), self.events.count("revoked")), (1, 1))

    async def test_expired(self) -> None:
        """Who is told that its certificate expired stays, to renew it, and comes again with the new one."""
        self.server.refuses, self.server.refusal = True, CertificateExpired
        self.client.startService()
        await self.until(lambda: "connected" in self.events)
        self.assertFalse(self.client.connected)
        self.assertEqual(await self.client.renew("certificate"), "new certificate")
        self.assertEqual(len(self.server.connections), 1)
        self.server.refuses = False
        self.client.reconnect()
        await self.until(lambda: len(self.server.connections) == 2 and self.client.connected)

    async def test_old_registry(self) -> None:
        """A registry that has never heard of documents is a registry."""
        self.patch(Server, "locateResponder", lambda server, name: None)
        self.client.startService()
        with self.assertRaisesRegex(RegistryUnreachable, "too old"):
            await self.client.document(Kind.REVOCATIONS, 0)

    async def test_away(self) -> None:
        """Nobody listens: calls say so soon, and work as soon as somebody does."""
        port = self.port.getHost().port
        await self.port.stopListening()
        self.client.startService()
        with self.assertRaisesRegex(RegistryUnreachable, "example port 1.*refused"):
            await self.client.peers(7)
        self.listen(port)
        await self.until(lambda: self.client.connected)
        self.assertEqual(len(await self.client.peers(7)), 2)

    async def test_lost(self) -> None:
        """A connection that breaks is made again, and that is told."""
        self.client.startService()
        await self.client.peers(7)
        cast: Any = self.server.connections[0].transport
        cast.abortConnection()
        await self.until(lambda: not self.client.connected)
        await self.until(lambda: self.client.connected)
        self.assertEqual(self.events.count("connected"), 2)

    async def test_hangs(self) -> None:
        """A registry that says nothing: the call ends, and another connection is tried."""
        self.client.startService()
        await self.client.peers(7)
        self.server.silent = True
        self.patch(registryclient, "CALL_TIMEOUT", 0.1)
        with self.assertRaisesRegex(RegistryUnreachable, "takes too long"):
            await self.client.peers(7)
        self.server.silent = False
        self.patch(registryclient, "CALL_TIMEOUT", 3.0)
        await self.until(lambda: len(self.server.connections) > 1 and self.client.connected)

    async def test_stopped(self) -> None:
        """After the stop a call fails at once, and nothing is connected."""
        self.client.startService()
        await self.client.peers(7)
        await self.client.stopService()
        await deferLater(self.clock, 0)
        with self.assertRaises(RegistryUnreachable):
            await self.client.peers(7)
        self.assertFalse(self.client.connected)
