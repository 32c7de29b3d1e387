"""AMP with a peer that means no good, over a connection in memory."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.protocols import amp
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.registry.bounded import BoundedAMP
from vifibnet.registry.limits import Limits, Rate


class Now(amp.Command):
    """Answered at once."""

    response: ClassVar[list] = [(b"text", amp.String())]


class Later(amp.Command):
    """Answered when the test says so."""


class Face(BoundedAMP):
    """What the peer talks to."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Deferred[dict[str, Any]]] = []

    @Now.responder
    def now(self) -> dict[str, Any]:
        """Answer."""
        return {"text": b"x" * 100}

    @Later.responder
    def later(self) -> Deferred[dict[str, Any]]:
        """Answer later."""
        self.waiting.append(Deferred())
        return self.waiting[-1]


def ask(command: bytes, tag: int = 1, **more: bytes) -> bytes:
    """A call as bytes."""
    box = amp.AmpBox({b"_command": command, b"_ask": b"%d" % tag})
    box.update({key.encode(): value for key, value in more.items()})
    return box.serialize()


class BoundedTests(SynchronousTestCase):
    """What comes in, how much, how fast."""

    def setUp(self) -> None:
        """Connect."""
        self.clock = Clock()
        limits = Limits(box=1000, calls_outstanding=3, stalled=30)
        rate = Rate(self.clock, 10, 50)
        self.face = Face()
        self.face.bound(limits, self.clock, lambda: rate.take("x"))
        self.transport: Any = StringTransportWithDisconnection()
        self.transport.protocol = self.face
        self.face.makeConnection(self.transport)

    def answers(self) -> int:
        """How many answers there are since the last time."""
        count: int = self.transport.value().count(b"_answer")
        self.transport.clear()
        return count

    def test_works(self) -> None:
        """A call is answered."""
        self.face.dataReceived(ask(b"Now"))
        self.assertEqual(self.answers(), 1)

    def test_box_too_large(self) -> None:
        """A box of many keys, each of them short, has an end, too; many boxes have not."""
        for number in range(30):
            self.face.dataReceived(ask(b"Now", number, x=b"x" * 900))
        self.assertEqual(self.answers(), 30)
        self.face.dataReceived(b"\x00\x01k\x00\x01v" * 166)
        self.assertTrue(self.transport.connected)
        self.face.dataReceived(b"\x00\x01k\x00\x01v" * 2 + b"\x00\x00" + ask(b"Now"))
        self.assertFalse(self.transport.connected)
        self.assertEqual(self.answers(), 0)

    def test_no_sense(self) -> None:
        """What is no AMP, and what answers no question, ends the connection without ado."""
        for box in (
            {b"_answer": b"7"}, {b"_error": b"7"}, {b"x": b"y"}, {b"_error": b""},
        ):  # fmt: skip
            self.setUp()
            self.face.dataReceived(amp.AmpBox(box).serialize())
            self.assertFalse(self.transport.connected, box)
        self.setUp()
        self.face.dataReceived(b"GET / HTTP/1.1\r\n\r\n")
        self.assertFalse(self.transport.connected)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_foolish_answer(self) -> None:
        """An answer to our own call that cannot be read, or is an error, is not ours to wonder about."""
        for answer in (
            {b"_answer": b"1"},
            {b"_error": b"1", b"_error_code": b"Q", b"_error_description": b""},
        ):
            self.setUp()
            self.face.callRemote(Now)
            self.face.dataReceived(amp.AmpBox(answer).serialize())
            self.assertFalse(self.transport.connected)

    def test_no_start_tls(self) -> None:
        """AMP's own commands are not served."""
        self.face.dataReceived(ask(b"StartTLS"))
        self.assertIn(b"UNHANDLED", self.transport.value())
        self.assertTrue(self.transport.connected)

    def test_too_fast(self) -> None:
        """After a burst, calls are answered at the rate; none is lost."""
        self.face.dataReceived(b"".join(ask(b"Now", number) for number in range(80)))
        self.assertEqual(self.answers(), 51)
        self.assertEqual(self.transport.producerState, "paused")
        # Each call waits for as long as it stands for.
        for _ in range(28):
            self.clock.advance(0.1)
            self.clock.advance(0)
        self.assertEqual(self.answers(), 28)
        self.clock.pump([0.1, 0, 0.1, 0, 0.1, 0])
        self.assertEqual(self.answers(), 1)
        self.assertEqual(self.transport.producerState, "producing")

    def test_outstanding(self) -> None:
        """No more calls are read than are being answered."""
        self.face.dataReceived(b"".join(ask(b"Later", number) for number in range(5)))
        self.assertEqual(len(self.face.waiting), 3)
        self.face.waiting[0].callback({})
        self.clock.advance(0)
        self.assertEqual((len(self.face.waiting), self.answers()), (4, 1))
        for number in (1, 2, 3):
            self.face.waiting[number].callback({})
        self.clock.advance(0)
        self.assertEqual((len(self.face.waiting), self.answers()), (5, 3))
        # The connection ends before the answer.
        self.transport.loseConnection()
        self.face.waiting[4].callback({})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_slow_reader(self) -> None:
        """While the answers are not read no more calls are; this has an end."""
        self.transport.producer.pauseProducing()
        self.face.dataReceived(ask(b"Now") * 10)
        self.assertEqual(self.answers(), 0)
        self.clock.advance(29)
        self.transport.producer.resumeProducing()
        self.clock.advance(0)
        self.assertEqual(self.answers(), 10)
        self.clock.advance(60)
        self.transport.producer.pauseProducing()
        self.clock.advance(29)
        self.assertTrue(self.transport.connected)
        self.clock.advance(1)
        self.assertFalse(self.transport.connected)

    def test_two_reasons(self) -> None:
        """A connection is read again when the last reason not to is gone."""
        self.face.dataReceived(b"".join(ask(b"Later", number) for number in range(4)))
        self.transport.producer.pauseProducing()
        self.face.waiting[0].callback({})
        self.clock.advance(0)
        self.assertEqual(len(self.face.waiting), 3)
        self.transport.producer.resumeProducing()
        self.clock.advance(0)
        self.assertEqual(len(self.face.waiting), 4)
