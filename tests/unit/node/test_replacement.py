"""Replacing processes over a period."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.node.replacement import SETTLE_AFTER, Holder, Replacement


class ReplacementTests(SynchronousTestCase):
    """On a clock."""

    def setUp(self) -> None:
        """Five processes."""
        self.takes = 0.0
        self.clock = Clock()
        self.replaced: list[tuple[int, float]] = []
        self.replacement = Replacement(self.clock, Random(1), self.holders, lambda: 2.0)

    def holders(self) -> list[Holder]:
        """Each notes its number and the time, and takes as long as the test says."""

        def holder(number: int) -> Holder:
            def replace() -> Deferred[None]:
                self.replaced.append((number, self.clock.seconds()))
                return deferLater(self.clock, self.takes) if self.takes else succeed(None)

            return replace

        return [holder(number) for number in range(5)]

    def test_one_after_another(self) -> None:
        """Each in a part of the period of its own, in any order."""
        self.replacement.plan(100, 150)
        self.clock.pump([0.5] * 320)
        self.assertEqual(sorted(number for number, _ in self.replaced), list(range(5)))
        self.assertNotEqual([number for number, _ in self.replaced], list(range(5)))
        self.assertEqual([int((when - 100.01) // 10) for _, when in self.replaced], list(range(5)))

    def test_longer_than_the_period(self) -> None:
        """None before the one before it is replaced and settled, whatever the period."""
        self.takes = 3.0
        self.replacement.plan(0, 1)
        self.clock.pump([0.5] * 200)
        moments = [when for _, when in self.replaced]
        self.assertEqual(len(moments), 5)
        self.assertTrue(all(b - a >= 3 + SETTLE_AFTER * 2.0 for a, b in pairwise(moments)), moments)

    def test_stop(self) -> None:
        """Nothing is left, also while one is settling."""
        self.takes = 1.0
        self.replacement.plan(0, 10)
        self.clock.pump([0.5] * 18)
        self.replacement.stop()
        self.clock.advance(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertGreater(len(self.replaced), 0)
