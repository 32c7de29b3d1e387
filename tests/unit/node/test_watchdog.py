"""A program that answers when the test says so."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.node.watchdog import INTERVAL, PATIENCE, Watchdog


class WatchdogTests(SynchronousTestCase):
    """When it barks."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked = self.barks = 0
        self.watchdog = Watchdog(self.clock, self.bark, self.ask)
        self.watchdog.start()

    def bark(self) -> None:
        self.barks += 1

    def ask(self) -> None:
        self.asked += 1

    def test_hangs(self) -> None:
        """Once, when the last question in a row has had its time, too."""
        self.clock.pump([INTERVAL] * PATIENCE)
        self.assertEqual((self.asked, self.barks), (PATIENCE, 0))
        self.clock.pump([INTERVAL] * 10)
        self.assertEqual((self.asked, self.barks), (PATIENCE, 1))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_late(self) -> None:
        """One answer of some is enough, whichever question it is to."""
        for _ in range(5):
            self.clock.pump([INTERVAL] * PATIENCE)
            self.watchdog.answered()
        self.assertEqual(self.barks, 0)

    def test_slept(self) -> None:
        """However long a machine has slept, that is one question."""
        for _ in range(5):
            self.clock.advance(100 * INTERVAL)
            self.assertEqual(self.barks, 0)
            self.watchdog.answered()
        self.assertEqual(self.asked, 5)

    def test_started_anew(self) -> None:
        """What an earlier process did not answer is not held against the next; nothing is asked between."""
        self.clock.pump([INTERVAL] * PATIENCE)
        self.watchdog.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.watchdog.start()
        self.clock.pump([INTERVAL] * PATIENCE)
        self.assertEqual((self.asked, self.barks), (2 * PATIENCE, 0))
