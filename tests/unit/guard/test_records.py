"""What becomes one TLS record, and when it leaves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from twisted.internet.interfaces import IWriteDescriptor
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, IOPump
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides, providedBy

from tests.unit.pki.making import authority
from vifibnet.guard.records import MOST, PromptTLS
from vifibnet.pki.tls import client_options, server_options


class Client(Protocol):
    """Keeps what it hears."""

    heard = b""
    gone = False

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone = True


class Server(Protocol):
    """Does what it is told, one word after the other."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:
        for word in data.split():
            if word == b"bye":
                self.transport.loseConnection()
            elif word == b"abort":
                self.transport.abortConnection()
            elif word == b"much":
                self.transport.writeSequence([b"x" * MOST, b"x"])
            else:
                self.transport.write(word)


class PromptTests(SynchronousTestCase):
    """Over a wire of ours, without a reactor."""

    def setUp(self) -> None:
        """Shake hands."""
        now = datetime.now(UTC)
        self.client, self.server = Client(), Server()
        ends: list[Any] = []
        for protocol, options, is_client in (
            (self.client, client_options([authority().ca], None, ()), True),
            (self.server, server_options(authority(), [], now), False),
        ):
            wrapped: Any = Factory.forProtocol(lambda made=protocol: made)  # type: ignore[misc]
            factory = TLSMemoryBIOFactory(options, is_client, wrapped, None)
            factory.protocol = PromptTLS
            factory.noisy = wrapped.noisy = False
            ends.append(factory.buildProtocol(None))
        near, far = ends
        self.wire, self.other = FakeTransport(near, False), FakeTransport(far, True)
        self.pump = IOPump(near, far, self.wire, self.other, False)
        near.makeConnection(self.wire)
        far.makeConnection(self.other)
        self.pump.flush()

    def say(self, words: bytes) -> list[bytes]:
        """What the server writes to its transport at once when it hears words."""
        transport: Any = self.client.transport
        transport.write(words)
        self.pump.pump()
        return list(self.other.stream)

    def test_one_record(self) -> None:
        """Three answers to what came together leave together, and no turn of a reactor later."""
        (record,) = self.say(b"one two three")
        # Five bytes before, and seventeen behind (RFC 8446, 5.2).
        self.assertEqual(len(record), 5 + len("onetwothree") + 17)
        self.pump.flush()
        self.assertEqual(self.client.heard, b"onetwothree")

    def test_unasked(self) -> None:
        """What is said out of its own leaves at once."""
        self.server.transport.write(b"by the way")
        self.assertEqual(len(self.other.stream), 1)
        self.pump.flush()
        self.assertEqual(self.client.heard, b"by the way")

    def test_much(self) -> None:
        """So much is collected and no more; the order stays."""
        self.say(b"first much last")
        self.pump.flush()
        self.assertEqual(self.client.heard, b"first" + b"x" * (MOST + 1) + b"last")

    def test_end(self) -> None:
        """Everything that was said before the end arrives, nothing behind it."""
        self.say(b"first last bye late")
        self.pump.flush()
        self.assertEqual(self.client.heard, b"firstlast")
        self.assertTrue(self.client.gone)

    def test_abort(self) -> None:
        """Nothing is sent that waited."""
        self.say(b"first abort late")
        self.pump.flush()
        self.assertEqual(self.client.heard, b"")
        self.assertTrue(self.client.gone)

    def departures(self, words: bytes, disconnecting: bool = False) -> list[list[bytes]]:
        """What a socket has to send each time that it is told not to wait for the reactor."""
        socket: Any = self.other
        directlyProvides(socket, IWriteDescriptor, providedBy(socket))
        socket.connected = True
        socket.disconnecting = disconnecting
        told: list[list[bytes]] = []
        socket.doWrite = lambda: told.append(list(socket.stream))
        self.say(words)
        return told

    def test_departs(self) -> None:
        """What is answered goes to the kernel at once, and once."""
        ((record,),) = self.departures(b"one two")
        self.assertEqual(len(record), 5 + len("onetwo") + 17)

    def test_nothing_departs(self) -> None:
        """Where nothing was answered, or all is over, the reactor is left alone."""
        self.assertEqual(self.departures(b" "), [])
        self.assertEqual(self.departures(b"one", disconnecting=True), [])
