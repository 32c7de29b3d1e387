"""What is believed of what nodes say of each other, on generated talk."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.news import MAX_AGE, Believed, Judge, News, believe

NOW = 1e9
OWN = Prefix(0, 4)
TELLER = Prefix(1, 4)
hundreds = settings(max_examples=300, deadline=None)

nodes = st.integers(0, 15).map(lambda number: Prefix(number, 4))
sets = st.frozensets(nodes, max_size=5)
place = st.lists(
    st.builds(Endpoint, st.sampled_from(["192.0.2.1", "192.0.2.2"]), st.just(1194), st.just("udp")),
    min_size=1,
    max_size=2,
).map(tuple)
places = st.just(()) | place
ages = st.sampled_from([-1e12, -5.0, 0.0, 1.0, 60.0, 3600.0, 1e7, 1e300])
news = st.builds(News, nodes, places, ages)
talk = st.lists(news, max_size=12)
judges = st.builds(
    Judge,
    st.just(OWN),
    st.just(NOW),
    st.dictionaries(
        nodes, st.sampled_from([0.0, NOW - 1e7, NOW - 3600, NOW - 60, NOW, NOW + 1e6]), max_size=12
    ),
    sets,
    sets,
    st.integers(0, 4),
)


def at(number: int) -> tuple[Endpoint, ...]:
    """A place."""
    return (Endpoint(f"192.0.2.{number}", 1194, "udp"),)


class BelieveTests(SynchronousTestCase):
    """Whom we believe what."""

    @hundreds
    @given(talk, judges)
    def test_hearsay_never_beats_better_knowledge(self, said: list[News], judge: Judge) -> None:
        """Nothing of ourselves, of the revoked, of those we are connected to; nothing that is not newer."""
        believed = believe(TELLER, said, judge)
        for each in believed:
            self.assertNotEqual(each.peer, OWN)
            self.assertNotIn(each.peer, judge.revoked)
            self.assertTrue(each.endpoints)
            self.assertLessEqual(each.when, NOW)
            self.assertGreaterEqual(each.when, NOW - MAX_AGE)
            self.assertIn((each.peer, each.endpoints), [(one.peer, one.endpoints) for one in said])
            if each.peer != TELLER:
                self.assertNotIn(each.peer, judge.connected)
                date = judge.dates.get(each.peer)
                self.assertTrue(date is None or date > NOW or each.when > date)
        self.assertEqual(len({each.peer for each in believed}), len(believed))

    @hundreds
    @given(talk, judges)
    def test_bounded(self, said: list[News], judge: Judge) -> None:
        """No more strangers than there is room for, whoever talks and however much."""
        strangers = [each for each in believe(TELLER, said, judge) if each.peer not in judge.dates]
        self.assertLessEqual(len([each for each in strangers if each.peer != TELLER]), judge.room)

    @hundreds
    @given(talk, judges)
    def test_hearing_it_twice(self, said: list[News], judge: Judge) -> None:
        """What was believed is no news any more: it does not travel in circles, and does not get younger."""
        once = believe(TELLER, said, judge)
        dates = {**judge.dates, **{each.peer: each.when for each in once}}
        again = believe(TELLER, said, replace(judge, dates=dates, room=0))
        self.assertEqual([each for each in again if each.peer != TELLER and dates[each.peer] <= NOW], [])

    @hundreds
    @given(talk, judges, nodes.filter(lambda node: node != OWN), place, ages)
    def test_of_itself_a_peer_knows_best(
        self, said: list[News], judge: Judge, teller: Prefix, here: tuple[Endpoint, ...], age: float
    ) -> None:
        """Whatever we know, and whenever from."""
        mine = News(teller, here, age)
        believed = believe(teller, [mine, *(each for each in said if each.peer != teller)], judge)
        own_words = [each for each in believed if each.peer == teller]
        wanted = [] if teller in judge.revoked else [Believed(teller, here, NOW)]
        self.assertEqual(own_words, wanted)

    @hundreds
    @given(talk, talk, judges)
    def test_the_freshest_wins(self, one: list[News], two: list[News], judge: Judge) -> None:
        """In whichever order tellers are asked, the same is known at the end of whom anything is known."""

        def heard(*talks: list[News]) -> dict[Prefix, float]:
            dates = dict(judge.dates)
            for said in talks:
                now = replace(judge, dates=dates, room=len(said))
                dates.update({each.peer: each.when for each in believe(TELLER, said, now)})
            return dates

        self.assertEqual(heard(one, two), heard(two, one))

    def test_examples(self) -> None:
        """Old news, new news, the same news, and a date that a wrong clock wrote."""
        judge = Judge(OWN, NOW, {Prefix(2, 4): NOW - 100, Prefix(3, 4): NOW + 500}, room=1)

        def when(number: int, age: float) -> list[float]:
            said = [News(Prefix(number, 4), at(1), age)]
            return [each.when for each in believe(TELLER, said, judge)]

        self.assertEqual(when(2, 101), [])
        self.assertEqual(when(2, 100), [])
        self.assertEqual(when(2, 99), [NOW - 99])
        self.assertEqual(when(3, 1e6), [NOW - 1e6])
        self.assertEqual(when(4, 31 * 86400), [NOW - 31 * 86400])
