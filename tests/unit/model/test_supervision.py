"""The table of a child's life, the delays, and what is news."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.supervision import (
    COMPLAINTS,
    FIRST_DELAY,
    LONG_ENOUGH,
    LONGEST_DELAY,
    TABLE,
    WANTED,
    Event,
    History,
    State,
    after,
    delay,
)

AT_MOST_ONE = {
    State.STOPPED: 0, State.BACKING_OFF: 0, State.PREPARING: 0, State.RUNNING: 1,
}  # fmt: skip


class TableTests(SynchronousTestCase):
    """What follows what."""

    def test_every_state(self) -> None:
        """From each a stop leads to the end, and none is a dead end."""
        for state in State:
            stopped = after(state, Event.STOP)
            self.assertIn(stopped, (State.STOPPED, State.STOPPING))
            self.assertTrue(any(came is state for came, _ in TABLE))
            self.assertTrue(state is State.STOPPED or state in TABLE.values())
        self.assertIs(after(State.STOPPING, Event.ENDED), State.STOPPED)

    def test_impossible(self) -> None:
        """What cannot happen is an error, what is wanted again and again is none."""
        self.assertRaises(KeyError, after, State.STOPPED, Event.ENDED)
        self.assertRaises(KeyError, after, State.RUNNING, Event.SPAWNED)
        for state in State:
            for event in WANTED:
                after(after(state, event), event)

    @given(st.lists(st.sampled_from(Event), max_size=60))
    def test_any_sequence(self, events: list[Event]) -> None:
        """Whatever happens in whatever order, there is never a second process, and after a stop none."""
        state, processes, trying = State.STOPPED, 0, False
        for event in [*events, Event.STOP, Event.ENDED]:
            possible = {
                Event.SPAWNED: state is State.PREPARING,
                Event.ENDED: trying,
                Event.DUE: state is State.BACKING_OFF,
            }
            if not possible.get(event, True):
                continue
            before, state = state, after(state, event)
            processes += (event is Event.SPAWNED) - (event is Event.ENDED and processes)
            if event is Event.ENDED:
                trying = False
            if state is State.PREPARING and before is not state:
                self.assertFalse(trying, "the last try goes on")
                trying = True
            self.assertIn(processes, (0, 1))
            if state in AT_MOST_ONE:
                self.assertEqual(processes, AT_MOST_ONE[state])
        self.assertEqual((state, processes), (State.STOPPED, 0))


class DelayTests(SynchronousTestCase):
    """When it is tried again."""

    @given(st.integers(1, 10**6), st.floats(0, 10**6), st.integers())
    def test_bounds(self, short: int, alive: float, seed: int) -> None:
        """From half to all of what doubles each time, less what it has lived; never nothing."""
        wait = delay(short, alive, Random(seed))
        longest = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(short - 1, 20))
        self.assertGreaterEqual(wait, FIRST_DELAY / 2)
        self.assertLessEqual(wait, longest)
        self.assertGreaterEqual(wait, (longest - alive) / 2)

    def test_first(self) -> None:
        """The first one is over soon."""
        self.assertLessEqual(delay(1, 0.0, Random(1)), FIRST_DELAY)


class HistoryTests(SynchronousTestCase):
    """What it has behind it."""

    def test_failures(self) -> None:
        """They are counted until it is well; a run that was long enough lets it start soon again."""
        history = History()
        for second in range(3):
            history = history.failed(100.0 + second, 0.1, "no")
        self.assertEqual((history.restarts, history.failures, history.short), (3, 3, 3))
        self.assertEqual((history.since, history.complained), (100.0, 102.0))
        history = history.failed(120.0, LONG_ENOUGH, "no")
        self.assertEqual((history.failures, history.short, history.since), (4, 1, 100.0))
        history = history.well()
        self.assertEqual((history.restarts, history.failures, history.complaint), (4, 0, "no"))
        self.assertEqual(history.failed(500.0, 0.1, "x").since, 500.0)

    def test_news(self) -> None:
        """Each reason once, and not too many of them, until it is well."""
        history = History()
        for number in range(COMPLAINTS):
            self.assertTrue(history.is_news(str(number)))
            history = history.failed(1.0, 0.1, str(number))
            self.assertFalse(history.is_news(str(number)))
        self.assertFalse(history.is_news("another"))
        self.assertEqual(history.failed(2.0, 0.1, "another").complaint, "another")
        self.assertTrue(history.well().is_news("0"))
