"""What follows from heartbeats that come and that do not."""

from __future__ import annotations

from math import inf
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.liveness import (
    ANSWER,
    BACK,
    INFINITY,
    LATEST,
    LENIENT,
    LINK,
    LONG,
    MISSED,
    RECENT,
    SLACK,
    Pulse,
    awaited,
    first,
    heard,
    heard_next,
)

T = 0.25


def play(pulse: Pulse, arrivals: str, number: int = 1) -> tuple[Pulse, float, int]:
    """Let beats come (1), be lost (0) or be late (-), one each interval; the pulse, the time and the last
    number then."""
    now = pulse.last
    for arrival in arrivals:
        now += T
        if arrival == "-":
            continue
        if arrival == "1":
            pulse = heard(pulse, number % 256, T, now)
        number += 1
    return pulse, now, number


class PulseTests(SynchronousTestCase):
    """Silence, losses, return."""

    def test_silence(self) -> None:
        """Two missing beats and a little are silence; one is not."""
        pulse = first(0, T, 100.0)
        self.assertEqual(pulse.deadline, 100 + MISSED * T + SLACK)
        self.assertEqual(pulse.cost(pulse.deadline - 0.01), 0)
        self.assertEqual(pulse.cost(pulse.deadline), INFINITY)

    def test_awaited(self) -> None:
        """Whoever is asked has to answer at once, but for what that takes; not so who is bad anyway."""
        pulse = first(0, T, 100.0)
        asked = awaited(pulse, 0.01, pulse.overdue)
        self.assertAlmostEqual(asked.deadline, pulse.overdue + ANSWER + 0.02)
        self.assertLess(asked.deadline, pulse.deadline)
        for far in (1.0, inf):
            self.assertEqual(awaited(pulse, far, pulse.overdue).deadline, pulse.deadline)
        again = heard(asked, 2, T, asked.deadline - 0.01)
        self.assertAlmostEqual(again.deadline, asked.deadline - 0.01 + MISSED * T + SLACK)
        bad = pulse._replace(penalty=LINK)
        self.assertEqual(awaited(bad, 0.01, bad.overdue), bad)

    def test_return(self) -> None:
        """It ends with three beats in a row; the line is not blamed for a cut."""
        pulse = first(0, T, 100.0)
        pulse, now, number = play(pulse, "0" * 20)
        self.assertEqual(pulse.cost(now), INFINITY)
        for _ in range(BACK - 1):
            pulse = heard(pulse, number, T, now := now + T)
            number += 1
            self.assertEqual(pulse.cost(now), INFINITY)
        pulse = heard(pulse, number, T, now + T)
        self.assertEqual(pulse.cost(now + T), 0)

    def test_one_lost(self) -> None:
        """One lost in a long while is no reason for anything."""
        pulse, now, _ = play(first(0, T, 0.0), ("1" * RECENT + "0") * 9)
        self.assertEqual(pulse.cost(now), 0)

    def test_lossy(self) -> None:
        """Three of some are: the line costs more than a detour over two links, until all is well for long."""
        pulse, now, number = play(first(0, T, 0.0), "1110110111")
        self.assertEqual(pulse.cost(now), 0)
        pulse, now, number = play(pulse, "01", number)
        self.assertGreater(pulse.cost(now), 2 * LINK)
        pulse, now, number = play(pulse, "1" * (LONG - 12), number)
        self.assertGreater(pulse.cost(now), 2 * LINK)
        pulse, now, number = play(pulse, "1" * 12, number)
        self.assertEqual(pulse.cost(now), 0)

    def test_late(self) -> None:
        """A younger beat has come before: this one says nothing about the line."""
        pulse, now, _ = play(first(0, T, 0.0), "111")
        self.assertIs(heard(pulse, 2, T, now + 0.1), pulse)
        self.assertIs(heard(pulse, 3, T, now + 0.1), pulse)

    def test_counts_anew(self) -> None:
        """Its node was started again: it is heard, and nothing is held against it."""
        pulse, now, _ = play(first(100, T, 0.0), "1" * 5, 101)
        again = heard(pulse, 150, T, now + T)
        self.assertEqual((again.number, again.penalty), (150, 0))
        # From a lower number it takes until the other one would be silent.
        self.assertIs(heard(pulse, 50, T, now + T), pulse)
        later = heard(pulse, 50, T, pulse.deadline)
        self.assertEqual((later.number, later.penalty), (50, 0))

    def test_slow(self) -> None:
        """Nothing was lost, but a beat came too late: others may be as late for a while, up to a limit."""
        pulse, _, number = play(first(0, T, 100.0), "1" * 5)
        for late, slack in ((T + SLACK + 0.05, T + SLACK + 0.05), (30.0, LATEST)):
            again = heard(pulse, number, T, at := pulse.last + T + late)
            self.assertAlmostEqual(again.slack, slack)
            self.assertAlmostEqual(again.deadline, at + MISSED * T + slack)
            again, now, after = play(again, "1" * 3, number + 1)
            calm, _, _ = play(again, "1" * round(LENIENT / T), after)
            self.assertEqual((again.slack > SLACK, calm.slack), (True, SLACK))
            # It is only late again: no alarm this time, and no end of the leniency, nor a longer one.
            in_time = heard(again, after, T, now + T + min(late, LATEST))
            self.assertEqual((in_time.cost(now), in_time.slack), (0, again.slack))
            self.assertEqual(in_time.lenient, again.lenient)

    def test_cut(self) -> None:
        """Beats were lost: the next silence is noticed as soon as this one."""
        pulse, _, _ = play(first(0, T, 0.0), "11111" + "0" * 5 + "11111")
        self.assertEqual(pulse.slack, SLACK)

    @given(st.text("01-", max_size=300))
    def test_anything(self, arrivals: str) -> None:
        """A cost is within bounds whatever comes; after a long time without a loss all is well."""
        pulse, now, number = play(first(0, T, 0.0), arrivals)
        self.assertIn(pulse.cost(now), range(INFINITY + 1))
        pulse, now, _ = play(pulse, "1" * (2 * LONG), number)
        self.assertEqual(pulse.cost(now), 0)

    @given(st.text("01-", max_size=100), st.integers(-1, 3), st.floats(0.0, 3 * T))
    def test_next(self, arrivals: str, step: int, pause: float) -> None:
        """Whoever is well is soon dealt with; what comes of that is the same, and nobody else is."""
        pulse, _, _ = play(first(0, T, 100.0), arrivals)
        number, now = (pulse.number + step) % 256, pulse.last + pause
        after = heard_next(pulse, number, now)
        well = pulse.cost(now) == 0 and not pulse.penalty
        self.assertEqual(after is not None, well and step == 1 and now < pulse.overdue)
        if after is not None:
            self.assertEqual(after, heard(pulse, number, T, now))

    def test_one_in_five(self) -> None:
        """A line that loses so much is noticed within sixty beats, nineteen times in twenty."""
        noticed = 0
        for seed in range(200):
            random = Random(seed)
            lost = "".join("0" if random.random() < 0.2 else "1" for _ in range(60))
            pulse, now, _ = play(first(0, T, 0.0), lost)
            noticed += pulse.cost(now) > 2 * LINK
        self.assertGreaterEqual(noticed, 190)
