"""Waking together."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.node.ticks import until_tick

times = st.floats(0, 4e9)


class TickTests(SynchronousTestCase):
    """Whenever somebody asks."""

    @given(times, st.sampled_from([0.03, 0.05, 1.0]))
    def test_together(self, now: float, period: float) -> None:
        """All wait for multiples of the period, but for rounding; never longer than that, nor for nothing."""
        wait = until_tick(now, period)
        self.assertGreater(wait, 0)
        self.assertLess(wait, period * 1.01)
        rest = (now + wait) / period
        self.assertLess(abs(rest - round(rest)), 0.001)

    def test_one_after_another(self) -> None:
        """Who wakes a little late waits the less, and no tick is met twice."""
        self.assertAlmostEqual(until_tick(10.0, 0.05), 0.05)
        self.assertAlmostEqual(until_tick(10.02, 0.05), 0.03)
        self.assertAlmostEqual(until_tick(10.049999999, 0.05), 0.05)
