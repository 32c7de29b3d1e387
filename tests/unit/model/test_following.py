"""What follows from a change of the network's parameters, on generated ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.strategies import settings
from vifibnet.model.following import Step, steps
from vifibnet.model.parameters import PARAMETERS, Applies, Value, Values, changed

RESTARTS = {Step.RESTART_BABELD, Step.REPLACE}
KEY = bytes(range(16))


class StepsTests(SynchronousTestCase):
    """The steps."""

    @given(settings)
    def test_nothing(self, values: Values) -> None:
        """No change, no step."""
        self.assertEqual(steps(values, values), ())

    @given(settings, settings, st.sets(st.sampled_from([*PARAMETERS])))
    def test_never_a_restart_for_a_live_one(
        self, old: dict[str, Value], new: dict[str, Value], names: set[str]
    ) -> None:
        """Whatever changes together: only what needs a restart causes one, and only its own."""
        new = {**old, **{name: value for name, value in new.items() if name in names}}
        done = set(steps(old, new))
        applies = {PARAMETERS[name].applies for name in changed(old, new)}
        self.assertEqual(Step.RESTART_BABELD in done, Applies.BABELD in applies)
        self.assertEqual(Step.REPLACE in done, Applies.TUNNELS in applies)
        if applies <= {Applies.LIVE}:
            self.assertFalse(done & RESTARTS)

    @given(settings, settings)
    def test_in_order(self, old: Values, new: Values) -> None:
        """Each once, babeld first: its neighbours are told the new key at this moment, too."""
        done = steps(old, new)
        self.assertEqual(list(done), sorted(set(done), key=list(Step).index))
        self.assertLessEqual(Step.TAPS in done, Step.TELL_BABELD in done)

    def test_each(self) -> None:
        """One parameter at a time."""
        count = "connection-count"
        cases: list[tuple[Values, Values, tuple[Step, ...]]] = [
            ({"hello": 1.0}, {"hello": 0.5}, (Step.RESTART_BABELD,)),
            ({}, {"update-interval": 4.0}, (Step.RESTART_BABELD,)),
            ({"babel-key": KEY}, {"babel-key": KEY[::-1]}, (Step.TELL_BABELD,)),
            ({}, {"babel-key": KEY}, (Step.TELL_BABELD,)),
            ({count: 2}, {count: 3}, (Step.TELL_BABELD, Step.TAPS, Step.PLAN)),
            ({count: 3}, {count: 2}, (Step.PLAN,)),
            ({count: 3}, {}, (Step.TELL_BABELD, Step.TAPS, Step.PLAN)),
            ({"tunnel-refresh": 3.0}, {}, (Step.PLAN,)),
            ({"refresh-rate": 0.0}, {"refresh-rate": 1.0}, (Step.PLAN,)),
            ({"mtu": 1400}, {"mtu": 1300}, (Step.SHRINK, Step.REPLACE)),
            ({"mtu": 1300}, {"mtu": 1400}, (Step.REPLACE,)),
            ({"max-clients": 5}, {"max-clients": 6}, (Step.REPLACE,)),
            ({"roll": 5.0}, {"roll": 6.0}, ()),
        ]
        for old, new, expected in cases:
            self.assertEqual(steps(old, new), expected, (old, new))
