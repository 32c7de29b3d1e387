"""What a hundred pings a second say about a failure."""

import math

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.lab.children import Child
from vifibnet.lab.pulse import Pulse, Verdict


def pulse(lost: set[int], count: int = 500, late: float = 0.0) -> Pulse:
    """One that began at 1000 s, and is over."""
    made = Pulse(Child(Clock(), ["python"]), "2001:db8:42::1")
    made.line("begin 0 1000.0")
    for number in set(range(count)) - lost:
        sent = 1000 + number * 0.01
        made.line(f"{number} {sent:.6f} {sent + 0.001:.6f}")
    made.line(f"end {count} {late:.6f}")
    return made


class VerdictTests(SynchronousTestCase):
    """Five seconds of pings; something fails after one."""

    def test_nothing_lost(self) -> None:
        """No outage."""
        self.assertEqual(pulse(set()).verdict(1001.0), Verdict(0, 0.0, 0.0))

    def test_two_outages(self) -> None:
        """All lost pings count; the longest outage is the gap; the last one's end is when all was well."""
        verdict = pulse({*range(110, 160), *range(200, 210)}).verdict(1001.0)
        self.assertEqual(verdict.lost, 60)
        self.assertAlmostEqual(verdict.gap, 0.5)
        self.assertAlmostEqual(verdict.until, 1.1)

    def test_before(self) -> None:
        """What was lost before the failure is not its doing: of an outage that goes on, what comes after."""
        verdict = pulse(set(range(50, 130))).verdict(1001.0)
        self.assertEqual(verdict.lost, 30)
        self.assertAlmostEqual(verdict.gap, 0.3)

    def test_never(self) -> None:
        """No answer until the end: the outage has none."""
        self.assertEqual(pulse(set(range(110, 500))).verdict(1001.0), Verdict(390, math.inf, math.inf))

    def test_too_late(self) -> None:
        """An answer that comes after more than a second is none."""
        made = pulse({110})
        made.line("110 1001.100000 1002.200000")
        self.assertEqual(made.verdict(1001.0).lost, 1)

    @given(st.sets(st.integers(0, 498)), st.integers(0, 400))
    def test_counts(self, lost: set[int], start: int) -> None:
        """Lost is lost, however it is spread."""
        verdict = pulse(lost).verdict(1000 + start * 0.01 - 0.004)
        self.assertEqual(verdict.lost, len([number for number in lost if number >= start]))
        self.assertLessEqual(verdict.gap, verdict.until)


class SteadyTests(SynchronousTestCase):
    """Whether all is well at the moment."""

    def test_steady(self) -> None:
        """All of the last seconds' pings, but those that may still be under way, were answered."""
        made = pulse({300}, 500)
        self.assertTrue(made.steady(1005.0, 1.5))
        self.assertFalse(made.steady(1005.0, 2.5))
        self.assertFalse(made.steady(1005.5, 1.0))
        self.assertFalse(made.steady(1000.5, 1.0))

    def test_not_begun(self) -> None:
        """Before the first ping nothing is known."""
        self.assertFalse(Pulse(Child(Clock(), ["python"]), "::1").steady(1000.0, 1.0))
