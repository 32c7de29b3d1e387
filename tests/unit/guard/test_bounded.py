"""AMP with a peer that means no good, over a connection in memory."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.protocols import amp
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.errors import NoPeerYet
from vifibnet.guard.bounded import BoundedAMP
from vifibnet.guard.limits import Limits, Rate


class Now(amp.Command):
    """Answered at once."""

    response: ClassVar[list] = [(b"text", amp.String())]


class Refused(amp.Command):
    """Refused."""


class Count(amp.Command):
    """A command with an argument."""

    arguments: ClassVar[list] = [(b"number", amp.Integer())]


class Face(BoundedAMP):
    """What the peer talks to."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[int] = []

    @Now.responder
    def now(self) -> dict[str, Any]:
        """Answer."""
        return {"text": b"x" * 100}

    @Refused.responder
    def refuse(self) -> dict[str, Any]:
        """Refuse."""
        raise NoPeerYet

    @Count.responder
    def count(self, number: int) -> dict[str, Any]:
        """Note a number."""
        self.numbers.append(number)
        return {}


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
        limits = Limits(box=1000, stalled=30)
        rate = Rate(self.clock, 10, 50)
        self.face = Face()
        self.face.bound(limits, self.clock, lambda: rate.take("x"))
        self.transport: Any = StringTransportWithDisconnection()
        self.transport.protocol = self.face
        self.face.makeConnection(self.transport)

    def asked(self) -> bool:
        """Whether it was asked since the last time."""
        found = b"Ping" in self.transport.value()
        self.transport.clear()
        return found

    def test_silence(self) -> None:
        """Who is silent is asked; who answers, even if it does not understand, stays, who does not goes."""
        error = {b"_error": b"2", b"_error_code": b"UNHANDLED", b"_error_description": b""}
        for answer in (amp.AmpBox({b"_answer": b"1"}), amp.AmpBox(error)):
            self.clock.advance(Limits().silence)
            self.assertTrue(self.asked())
            self.face.dataReceived(answer.serialize())
            self.clock.advance(Limits().answer)
            self.assertTrue(self.transport.connected)
        self.clock.advance(Limits().silence)
        self.assertTrue(self.asked())
        self.clock.advance(Limits().answer)
        self.assertFalse(self.transport.connected)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_silent(self) -> None:
        """Who calls is not asked, and a call is as good an answer as any."""
        for _ in range(3):
            self.face.dataReceived(ask(b"Now"))
            self.clock.advance(Limits().silence)
        self.assertFalse(self.asked())
        self.clock.advance(Limits().silence)
        self.assertTrue(self.asked())
        self.face.dataReceived(ask(b"Now"))
        self.clock.advance(Limits().answer)
        self.assertTrue(self.transport.connected)

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
        self.face.dataReceived(b"".join(ask(b"Now", number) for number in range(52)))
        self.transport.producer.pauseProducing()
        self.assertEqual(self.answers(), 51)
        self.clock.pump([0.1, 0, 0.1, 0])
        self.assertEqual(self.answers(), 0)
        self.transport.producer.resumeProducing()
        self.clock.advance(0)
        self.assertEqual(self.answers(), 1)

    def test_refusals(self) -> None:
        """What the responder refuses, what cannot be read and what is unknown have their codes."""
        for command, code, number in (
            (b"Refused", b"13", b""), (b"Count", b"3", b""), (b"Count", b"3", b"x"),
            (b"What", b"UNHANDLED", b""),
        ):  # fmt: skip
            self.face.dataReceived(ask(command, 1, number=number))
            self.assertIn(b"_error_code" + len(code).to_bytes(2, "big") + code, self.transport.value())
            self.assertEqual(self.answers(), 0)
        self.assertTrue(self.transport.connected)

    def test_no_answer_wanted(self) -> None:
        """A call that asks for no answer gets none."""
        self.face.dataReceived(amp.AmpBox({b"_command": b"Count", b"number": b"7"}).serialize())
        self.assertEqual((self.face.numbers, self.transport.value()), ([7], b""))
