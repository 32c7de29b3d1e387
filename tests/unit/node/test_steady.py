"""Time that nobody sets."""

from __future__ import annotations

import time

from twisted.internet.base import ReactorBase
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.node.steady import since_boot, steady


class Timers(ReactorBase):
    """What a reactor has for them."""

    def installWaker(self) -> None:  # noqa: N802
        """No thread has to wake it."""


class SteadyTests(SynchronousTestCase):
    """Two clocks of a machine, of which one may be set."""

    def test_set(self) -> None:
        """It is Unix time at first, and goes on whatever happens to that."""
        calendar, running = Clock(), Clock()
        calendar.advance(1e9)
        running.advance(70)
        seconds = steady(calendar.seconds, running.seconds)
        self.assertEqual(seconds(), 1e9)
        for set_by in (3600, -7200):
            calendar.rightNow += set_by
            running.advance(1)
        self.assertEqual(seconds(), 1e9 + 2)

    def test_real(self) -> None:
        """That of this machine."""
        self.assertLess(abs(steady()() - time.time()), 1)
        self.assertLessEqual(time.monotonic(), since_boot())

    def test_timers(self) -> None:
        """A reactor that has it goes on when the clock is set back."""
        running = Clock()
        running.advance(5000)
        reactor = Timers()
        calendar = [1e9]
        reactor.seconds = steady(lambda: calendar[0], running.seconds)
        called: list[Deferred[None]] = []
        reactor.callLater(1.0, called.append, Deferred())
        calendar[0] -= 3600
        running.advance(1.5)
        reactor.runUntilCurrent()
        self.assertEqual(len(called), 1)
