"""Calling peers: a fake one, and the real one over TLS on the loopback interface."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.protocols.amp import AMP, UnhandledCommand
from twisted.trial.unittest import TestCase

from tests.unit.node.fake_caller import FakeCaller
from tests.unit.node.fakes import clock, endpoint, node
from tests.unit.node.peertalk_contract import FIVE, SEVEN, CallerContract, make_knowledge
from tests.unit.pki.making import authority, identity
from vifibnet.errors import BadArguments, BadEndpoints, PeerUnreachable
from vifibnet.guard.limits import Limits
from vifibnet.interfaces import IPeerCaller
from vifibnet.model.addresses import Prefix
from vifibnet.model.visits import Visit
from vifibnet.node import peercaller, peerport
from vifibnet.node.knowledge import Knowledge
from vifibnet.node.peercaller import PeerCaller
from vifibnet.node.peerport import PeerFactory, PeerPort
from vifibnet.pki.peertls import PeerContexts, peer_client_options
from vifibnet.wire.amp import GetBootstrapPeer
from vifibnet.wire.peertalk import ALPN, MAX_COUNT, GetEndpoints, GetPeers, Meet

reactor: Any = _reactor


class FakeCallerTests(CallerContract, TestCase):
    """The fake one."""

    def make(self, knowledge: Knowledge) -> IPeerCaller:
        """In memory."""
        return FakeCaller(FIVE, {SEVEN: knowledge})


class Loopback(TestCase):
    """A node that answers on ``::1``, whatever its own address is."""

    timeout = 20
    revoked: frozenset[Prefix] = frozenset()

    def welcome(self, prefix: Prefix, serial: int | None) -> bool:
        """Whom nobody revoked."""
        return prefix not in self.revoked

    def answer(self, knowledge: Knowledge, limits: Limits = peerport.LIMITS) -> PeerPort:
        """Listen as 7/16."""
        self.met: list[Prefix] = []
        seven = identity(prefix="7/16")
        contexts = PeerContexts(lambda: seven, lambda: [authority().ca], self.welcome, ALPN)
        self.factory = PeerFactory(reactor, knowledge, self.welcome, self.met.append, limits)
        port = PeerPort(reactor, "::1", 0, contexts, self.factory)
        port.startService()
        self.addCleanup(port.stopService)
        return port

    def calling(self, port: PeerPort, own: Prefix = FIVE) -> PeerCaller:
        """Everybody is to be found where 7/16 is."""
        return PeerCaller(
            reactor,
            lambda peer: TCP6ClientEndpoint(reactor, "::1", port.number, timeout=5),
            lambda: identity(prefix=str(own)),
            lambda: [authority().ca],
            lambda prefix, serial: True,
        )

    async def until(self, fulfilled: Callable[[], bool]) -> None:
        """Wait for it."""
        while not fulfilled():
            await deferLater(reactor, 0.01)


class RealCallerTests(CallerContract, Loopback):
    """The real one: 9/16 is dialled where 7/16 answers, which is as good as nobody."""

    def make(self, knowledge: Knowledge) -> IPeerCaller:
        """Over TLS."""
        return self.calling(self.answer(knowledge))


class PortTests(Loopback):
    """Who gets in, how far, and how long."""

    def setUp(self) -> None:
        """A node with a hundred peers."""
        self.knowledge, self.store = make_knowledge(self, SEVEN, clock(), [endpoint(7)])
        self.store.update([(node(n), (endpoint(n % 250),)) for n in range(100, 200)], 1e9)
        self.port = self.answer(self.knowledge)
        self.addCleanup(self.until, lambda: not self.factory.connections)

    async def line(self, own: Prefix = FIVE) -> AMP:
        """A connection."""
        me, cas = identity(prefix=str(own)), [authority().ca]
        options = peer_client_options(cas, me, SEVEN, lambda prefix, serial: True, ALPN)
        where = TCP6ClientEndpoint(reactor, "::1", self.port.number, timeout=5)
        factory = Factory.forProtocol(AMP)
        factory.noisy = False
        line: Any = await wrapClientTLS(options, where).connect(factory)
        self.addCleanup(self.hang_up, line)
        return line

    @staticmethod
    def hang_up(line: Any) -> None:
        """End a connection, if it has not ended."""
        with contextlib.suppress(AttributeError):
            line.transport.abortConnection()

    async def test_bounds(self) -> None:
        """No more peers than there may be, no wrong questions, and no command of the registry's."""
        line = await self.line()
        self.assertEqual(len((await line.callRemote(GetPeers, count=10**9))["peers"]), MAX_COUNT)
        for command, arguments, refusal in (
            (GetPeers, {"count": 0}, BadArguments),
            (GetEndpoints, {"prefixes": "1/16 " * 17}, BadArguments),
            (GetEndpoints, {"prefixes": "what?"}, BadArguments),
            (Meet, {"endpoints": "here"}, BadEndpoints),
        ):
            with self.assertRaises(refusal):
                await line.callRemote(command, **arguments)
        with self.assertRaises(UnhandledCommand):
            await line.callRemote(GetBootstrapPeer)
        self.assertIsNone(self.store.get(FIVE))

    async def test_met(self) -> None:
        """Who has called knows where we are."""
        await self.calling(self.port).visit(Visit(SEVEN), [])
        self.assertEqual(self.met, [FIVE])

    async def test_revoked(self) -> None:
        """Nobody who was revoked gets a word in."""
        self.revoked = frozenset([FIVE])
        with self.assertRaises(PeerUnreachable):
            await self.calling(self.port).visit(Visit(SEVEN), [endpoint(5)])
        self.assertIsNone(self.store.get(FIVE))
        await self.calling(self.port, node(6)).visit(Visit(SEVEN), [endpoint(6)])
        self.assertIsNotNone(self.store.get(node(6)))

    async def test_too_long(self) -> None:
        """A visit ends, however it is drawn out; so does one whose other side says nothing."""
        self.patch(peerport, "VISIT", 0.2)
        line: Any = await self.line()
        lost: Deferred[None] = Deferred()
        self.patch(line, "connectionLost", lambda reason: lost.callback(None))
        await lost.addTimeout(5, reactor)

    async def test_silence(self) -> None:
        """A caller gives up."""
        self.patch(peercaller, "VISIT_TIMEOUT", 0.3)
        self.patch(Knowledge, "here", lambda knowledge: 1 / 0)
        with self.assertRaises(PeerUnreachable):
            await self.calling(self.port).visit(Visit(SEVEN), [])
        self.flushLoggedErrors(ZeroDivisionError)

    async def test_flood(self) -> None:
        """Whoever answers without end is hung up on."""
        self.patch(peercaller, "MAX_ANSWERS", 1000)
        with self.assertRaises(PeerUnreachable):
            await self.calling(self.port).visit(Visit(SEVEN, 50), [])

    async def test_many(self) -> None:
        """An address has so many connections, and no more."""
        lines = [await self.line() for _ in range(peerport.LIMITS.connections_per_address)]
        with self.assertRaises(PeerUnreachable):
            await self.calling(self.port).visit(Visit(SEVEN), [])
        for line in lines:
            self.hang_up(line)
        await self.until(lambda: not self.factory.connections)
        await self.calling(self.port).visit(Visit(SEVEN), [])

    async def test_cancelled(self) -> None:
        """A visit that is given up leaves no connection."""
        self.patch(peercaller._Line, "ask", lambda *_, **__: Deferred())
        waiting: Any = Deferred.fromCoroutine(self.calling(self.port).visit(Visit(SEVEN), []))
        await self.until(lambda: bool(self.factory.connections))
        waiting.cancel()
        waiting.addErrback(lambda _: None)
        await self.until(lambda: not self.factory.connections)

    async def test_address_to_come(self) -> None:
        """An address that is not there yet is tried again, with one sentence in the log."""
        self.patch(peerport, "RETRY", 0.05)
        tries: list[object] = []
        real = peerport._open

        def later(*where: Any) -> Any:
            tries.append(where)
            if len(tries) < 3:
                raise OSError(99, os.strerror(99))
            return real(*where)

        self.patch(peerport, "_open", later)
        port = self.answer(self.knowledge)
        self.assertEqual(port.number, 0)
        await self.until(lambda: port.number != 0)
        self.assertEqual(len(tries), 3)
