"""Fetching from a host that may be anything."""

from collections.abc import Callable
from typing import cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import ResponseFailed

from tests.unit.node.portmap.fakes import FAULT, listen, port_number
from vifibnet.node.portmap import fetch
from vifibnet.node.portmap.fetch import Fetcher, check_document
from vifibnet.node.portmap.gateway import IReactor, MappingRefused

reactor = cast(IReactor, global_reactor)
BOMB = b"""<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>"""


class DocumentTests(SynchronousTestCase):
    """Looking at a document before it is parsed."""

    def test_fine(self) -> None:
        """An ordinary document has no fault."""
        self.assertEqual(check_document(b'<?xml version="1.0"?><a b="c"><d>text</d></a>'), {})

    def test_fault(self) -> None:
        """A SOAP fault is found whatever its namespaces."""
        fault = {"errorCode": "718", "errorDescription": "ConflictInMappingEntry"}
        self.assertEqual(
            check_document(FAULT.format(code=718, text="ConflictInMappingEntry").encode()), fault
        )

    def test_refused(self) -> None:
        """Entities, whatever the encoding, endless nesting and what is no XML are refused."""
        deep = b"<a>" * 1000 + b"</a>" * 1000
        for body in (
            BOMB,
            BOMB.decode().encode("utf-16"),
            b"<!DOCTYPE a SYSTEM 'x'><a/>",
            deep,
            b"",
            b"<a>",
            b"\xff",
        ):
            with self.assertRaises(ValueError, msg=body[:100]):
                check_document(body)

    @given(st.binary())
    def test_any_body(self, body: bytes) -> None:
        """Any bytes are fine or refused."""
        try:
            check_document(body)
        except ValueError:
            return


class _Server(Protocol):
    """Does ``on_request`` when anything comes."""

    def __init__(self, on_request: Callable[[Protocol], None], lost: Deferred[None]) -> None:
        self.on_request = on_request
        self.lost = lost

    def dataReceived(self, data: bytes) -> None:
        """That is a request."""
        self.on_request(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell."""
        if not self.lost.called:
            self.lost.callback(None)


class FetcherTests(TestCase):
    """Fetching on loopback."""

    def serve(self, on_request: Callable[[Protocol], None]) -> str:
        """Serve like this; ``self.lost`` fires when the client has gone."""
        self.lost: Deferred[None] = Deferred()
        factory = Factory.forProtocol(lambda: _Server(on_request, self.lost))
        return f"http://127.0.0.1:{port_number(listen(self, factory))}/"

    def say(self, data: bytes, *, close: bool = False) -> str:
        """Serve these bytes."""

        def answer(server: Protocol) -> None:
            assert server.transport is not None
            server.transport.write(data)
            if close:
                server.transport.loseConnection()

        return self.serve(answer)

    def fetcher(self, timeout: float = 5) -> Fetcher:
        """One for loopback."""
        return Fetcher(reactor, "127.0.0.1", timeout=timeout)

    async def test_get(self) -> None:
        """A document arrives; the connection ends, though the server would keep it; we know our address."""
        fetcher = self.fetcher()
        url = self.say(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<a/>")
        self.assertEqual(await fetcher.get(url), b"<a/>")
        self.assertEqual(fetcher.local, "127.0.0.1")
        await self.lost

    async def test_no_length(self) -> None:
        """Without a length the end of the connection is the end."""
        self.assertEqual(
            await self.fetcher().get(self.say(b"HTTP/1.0 200 OK\r\n\r\n<a/>", close=True)), b"<a/>"
        )

    async def test_too_big(self) -> None:
        """A response is cut off at the limit, whether it is the body or the headers that are too big."""
        for size in (fetch.MAX_RESPONSE - 100, fetch.MAX_RESPONSE):
            for response in (
                b"HTTP/1.1 200 OK\r\n\r\n<a>" + b"x" * size + b"</a>",
                b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * (size // 6) + b"\r\n<a/>",
            ):
                url = self.say(response, close=True)
                if size < fetch.MAX_RESPONSE:
                    self.assertIn(b"a", await self.fetcher().get(url))
                else:
                    # A body that was cut off where only the connection's end ends it is no XML.
                    with self.assertRaises((ResponseFailed, ValueError)):
                        await self.fetcher().get(url)
                await self.lost

    async def test_status_and_fault(self) -> None:
        """A status other than 200 is an error, a fault is the refusal that it says."""
        for body, kind in (
            (b"<a/>", ValueError),
            (FAULT.format(code=725, text="x").encode(), MappingRefused),
        ):
            url = self.say(b"HTTP/1.1 500 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            with self.assertRaises(kind):
                await self.fetcher().get(url)

    async def test_redirect(self) -> None:
        """A redirection is not followed."""
        url = self.say(
            b"HTTP/1.1 302 There\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 4\r\n\r\n<a/>"
        )
        with self.assertRaisesRegex(ValueError, "302"):
            await self.fetcher().get(url)

    async def test_elsewhere(self) -> None:
        """Nothing is fetched from another host."""
        with self.assertRaises(ValueError):
            await self.fetcher().get("http://127.0.0.2:1/")

    async def test_silence(self) -> None:
        """A server that says nothing, or too little, costs the timeout and no more."""
        for words in (b"", b"HTTP/1.1 200 OK\r\nA: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<a/"):
            url = self.say(words)
            with self.assertRaisesRegex(TimeoutError, "no answer within 0.1 s"):
                await self.fetcher(0.1).get(url)
            await self.lost

    async def test_trickle(self) -> None:
        """So does one that says a little, again and again."""

        drops: list[IDelayedCall] = []

        def drip(server: Protocol) -> None:
            assert server.transport is not None
            server.transport.write(b"HTTP/1.1 200 OK\r\n")
            for n in range(30):
                drops.append(reactor.callLater(n / 20, server.transport.write, b"A: b\r\n"))

        url = self.serve(drip)
        started = reactor.seconds()
        with self.assertRaises(TimeoutError):
            await self.fetcher(0.2).get(url)
        self.assertLess(reactor.seconds() - started, 1)
        await self.lost
        for drop in drops:
            if drop.active():
                drop.cancel()

    async def test_cancelled(self) -> None:
        """A cancelled request ends its connection."""
        asked: Deferred[None] = Deferred()
        url = self.serve(lambda _: asked.callback(None))
        getting = Deferred.fromCoroutine(self.fetcher().get(url))
        await asked
        getting.cancel()
        with self.assertRaises(CancelledError):
            await getting
        await self.lost
