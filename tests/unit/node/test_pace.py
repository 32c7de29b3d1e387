"""When a node looks at its tunnels, and beats."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.node.pace import CALM, EARLY, KEEN, LOOK, MOST, STRETCH, Pace

LITTLE = 0.01
"""What part of a tick is about none."""


class PaceTests(SynchronousTestCase):
    """Looks that follow each other."""

    @given(st.floats(0, 1e6), st.sampled_from([KEEN, LOOK, CALM]), st.floats(0.05, 60.0))
    def test_in_time(self, start: float, period: float, interval: float) -> None:
        """However rarely looks are taken, each beat is sent at the tick next to its time, by which others
        judge whether one is missing."""
        pace, now, due = Pace(start), start, start
        step = interval + min(STRETCH * interval, MOST)
        for _ in range(100):
            if pace.is_due(now):
                self.assertLess(abs(now - due), max(LOOK - EARLY, EARLY) + LITTLE * LOOK)
                pace.beat(now, interval)
                due = max(due, now - step) + step
            wait = pace.until_look(now, period)
            self.assertTrue(0 < wait <= 1.01 * period, wait)
            now += wait
