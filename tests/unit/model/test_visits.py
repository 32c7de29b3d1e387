"""Whom to call and what to ask, on generated affairs."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.addresses import Prefix
from vifibnet.model.visits import (
    ASKED,
    MAX_WANTED,
    TELL_AGAIN,
    Affairs,
    Neighbour,
    backoff,
    next_visit,
    tell_again,
    visits,
)

NOW = 1000.0
hundreds = settings(max_examples=300, deadline=None)
times = st.sampled_from([0.0, NOW - 1, NOW, NOW + 1, NOW + 600])
nodes = st.integers(0, 31).map(lambda number: Prefix(number, 5))
neighbours = st.builds(Neighbour, nodes, times, times, st.booleans())
affairs = st.builds(
    Affairs,
    st.just(NOW),
    st.lists(neighbours, max_size=8, unique_by=lambda each: each.peer).map(tuple),
    st.integers(0, 4),
    st.none() | times,
    st.lists(nodes, max_size=20, unique=True).map(tuple),
)


def neighbour(number: int, due: float = NOW + 1, rests: float = 0.0) -> Neighbour:
    """One."""
    return Neighbour(Prefix(number, 5), due, rests)


class VisitTests(SynchronousTestCase):
    """Calls."""

    @hundreds
    @given(affairs, st.integers(0, 99))
    def test_bounds(self, given_: Affairs, seed: int) -> None:
        """Only who is free is called, once, on a free line; few are asked, and not for too many."""
        chosen = visits(given_, Random(seed), 50)
        by_peer = {each.peer: each for each in given_.neighbours}
        self.assertLessEqual(len(chosen), given_.lines)
        self.assertEqual(len({visit.peer for visit in chosen}), len(chosen))
        for visit in chosen:
            each = by_peer[visit.peer]
            self.assertFalse(each.busy)
            self.assertLessEqual(each.rests, NOW)
            self.assertLessEqual(len(visit.wanted), MAX_WANTED)
            self.assertFalse(set(visit.wanted) & set(by_peer))
            self.assertLessEqual(set(visit.wanted), set(given_.doubtful))
            self.assertTrue(each.due <= NOW or visit.count or visit.wanted, "a call for nothing")
        self.assertLessEqual(sum(bool(visit.count or visit.wanted) for visit in chosen), ASKED)
        if given_.ask_at is None or given_.ask_at > NOW:
            self.assertFalse(any(visit.count for visit in chosen))

    @hundreds
    @given(affairs, st.integers(0, 99))
    def test_progress(self, given_: Affairs, seed: int) -> None:
        """There is a call exactly when it is time for one: nothing is left undone or turns in circles."""
        when = next_visit(given_)
        due = when is not None and when <= NOW and given_.lines > 0
        self.assertEqual(bool(visits(given_, Random(seed), 50)), due)
        if when is not None and when > NOW and given_.lines:
            self.assertTrue(visits(replace(given_, now=when), Random(seed), 50))

    @hundreds
    @given(affairs, st.integers(0, 99))
    def test_questions_find_somebody(self, given_: Affairs, seed: int) -> None:
        """When peers are to be asked for, and anybody is free, somebody is asked."""
        asking = replace(given_, ask_at=NOW, lines=2)
        chosen = visits(asking, Random(seed), 50)
        free = [each for each in given_.neighbours if not each.busy and each.rests <= NOW]
        self.assertEqual(sum(visit.count == 50 for visit in chosen), min(2, len(free)))

    def test_who_is_asked_changes(self) -> None:
        """Not always the same: one who lies does not have the last word."""
        asking = Affairs(NOW, tuple(neighbour(n) for n in range(10)), 4, NOW)
        asked = {visit.peer for seed in range(40) for visit in visits(asking, Random(seed), 50)}
        self.assertEqual(len(asked), 10)

    def test_longest_waiting_first(self) -> None:
        """Whoever has waited longest to be told."""
        waiting = Affairs(NOW, tuple(neighbour(n, NOW - n) for n in range(6)), 2)
        self.assertEqual([visit.peer.value for visit in visits(waiting, Random(1), 50)], [5, 4])

    def test_waits(self) -> None:
        """They grow up to a bound, with jitter."""
        waits = [backoff(0.0, times, 1.0, 600.0, Random(times)) for times in range(1, 40)]
        self.assertTrue(0.75 <= waits[0] <= 1.25 and 1.5 <= waits[1] <= 2.5)
        self.assertTrue(min(waits[11:]) >= 450 and max(waits) <= 750)
        told = {tell_again(NOW, Random(seed)) - NOW for seed in range(50)}
        self.assertEqual(len(told), 50)
        self.assertTrue(min(told) >= 0.75 * TELL_AGAIN and max(told) <= 1.25 * TELL_AGAIN)
