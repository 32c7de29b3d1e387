"""Emptying a tap, on a clock."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fakes import FakeLeaving
from vifibnet.node.drain import LAST_WORD, LOOK, PATIENCE, UNDERWAY, Emptying


class EmptyingTests(SynchronousTestCase):
    """Left, empty, and as it was."""

    def setUp(self) -> None:
        """One tap."""
        self.clock = Clock()
        self.taps = FakeLeaving()
        self.needed = False
        self.emptying = Emptying(self.clock, self.taps, "vifc0")
        self.done = Deferred.fromCoroutine(self.emptying.empty())

    def test_empty(self) -> None:
        """As soon as it is, and what is under way has arrived; the tap is left until it is released."""
        self.clock.pump([LOOK] * 20)
        self.assertNoResult(self.done)
        self.taps.emptied = True
        self.clock.pump([LOOK, LOOK])
        self.taps.emptied = False
        self.clock.pump([LOOK] * 20)
        self.assertNoResult(self.done)
        self.taps.emptied = True
        self.clock.pump([LOOK] * round(UNDERWAY / LOOK + 2))
        self.assertNoResult(self.done)
        self.assertEqual(self.taps.ended, {"vifc0"})
        self.clock.advance(LAST_WORD)
        self.assertTrue(self.successResultOf(self.done))
        self.assertEqual(self.taps.left, {"vifc0"})
        self.emptying.release()
        self.assertEqual(self.taps.left, set())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_never_empty(self) -> None:
        """Patience ends."""
        self.clock.pump([LOOK] * int(PATIENCE / LOOK))
        self.assertNoResult(self.done)
        self.clock.pump([LOOK] * 5)
        self.assertTrue(self.successResultOf(self.done))

    def test_needed(self) -> None:
        """It is not ended when something still goes over it then, or does so for too long."""
        for emptied, seconds in ((True, 4 * LOOK + UNDERWAY), (False, PATIENCE + 2 * LOOK)):
            self.taps.emptied = False
            emptying = Emptying(self.clock, self.taps, "vifc1")
            done = Deferred.fromCoroutine(emptying.empty(needed=lambda: self.needed))
            self.needed = self.taps.emptied = emptied
            self.clock.pump([LOOK] * round(seconds / LOOK))
            self.assertFalse(self.successResultOf(done))
            self.assertFalse(emptying.cancelled)
            self.assertNotIn("vifc1", self.taps.left | self.taps.ended)
        self.needed = False
        done = Deferred.fromCoroutine(emptying.empty(needed=lambda: self.needed))
        self.taps.emptied = True
        self.clock.pump([LOOK] * round(1 / LOOK))
        self.assertTrue(self.successResultOf(done))
        self.assertIn("vifc1", self.taps.ended)

    def test_cancelled(self) -> None:
        """The tunnel has ended meanwhile."""
        self.emptying.cancel()
        self.assertFalse(self.successResultOf(self.done))
        self.emptying.release()
        self.assertEqual((self.taps.left, self.clock.getDelayedCalls()), (set(), []))

    def test_released_before(self) -> None:
        """One that was never left is not given back: another may be leaving it."""
        self.taps.left = {"vifc1"}
        Emptying(self.clock, self.taps, "vifc1").release()
        self.assertEqual(self.taps.left, {"vifc1"})

    def test_wait_for(self) -> None:
        """Something else may have to happen before, which is waited for only so long."""
        emptying, happened = Emptying(self.clock, self.taps, "vifs0"), [False]
        for patience, seconds, cancelled in ((5.0, 1.0, False), (0.5, 0.5, False), (5.0, 0.2, True)):
            happened[0] = False
            began = self.clock.seconds()
            done = Deferred.fromCoroutine(emptying.wait_for(lambda: happened[0], patience))
            while self.clock.seconds() < began + seconds - LOOK / 2:
                self.assertNoResult(done)
                self.clock.advance(LOOK)
            happened[0] = not cancelled and seconds < patience
            if cancelled:
                emptying.cancel()
            self.clock.advance(LOOK)
            self.successResultOf(done)
