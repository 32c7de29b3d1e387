"""Whose word counts: the command line's, then the network's, then the manual's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fakes import config
from tests.unit.strategies import settings
from vifibnet.model.following import steps
from vifibnet.model.parameters import NOTHING, PARAMETERS, Value, Values
from vifibnet.node.config import follow

names = st.frozensets(st.sampled_from([*PARAMETERS]))


class FollowTests(SynchronousTestCase):
    """The config that holds."""

    @given(settings, settings, names)
    def test_whose_word(
        self, line: dict[str, Value], network: dict[str, Value], given: frozenset[str]
    ) -> None:
        """For each parameter, the first that says something."""
        given &= line.keys()
        base = config(Path(), **{PARAMETERS[name].field: line[name] for name in given}, given=given)
        values = follow(base, network).values
        for name, each in PARAMETERS.items():
            expected = line[name] if name in given else network.get(name, each.default)
            self.assertEqual(values.get(name), expected, name)

    @given(settings, settings, names)
    def test_overridden(self, old: Values, new: dict[str, Value], given: frozenset[str]) -> None:
        """What the command line says, the network cannot change: nothing follows."""
        base = config(Path(), given=given)
        changed = {**{name: old[name] for name in old if name not in given}}
        changed |= {name: new[name] for name in new if name in given}
        self.assertEqual(steps(follow(base, old).values, follow(base, changed).values), ())

    def test_back(self) -> None:
        """What the network does not say any more is as if it had never been said."""
        base = config(Path(), hello=2.0, given=frozenset({"hello"}))
        self.assertEqual(follow(base, NOTHING), base)
        self.assertEqual(follow(base, {"mtu": 1300, "hello": 9.0}), replace(base, mtu=1300))

    def test_secret(self) -> None:
        """The key does not show where somebody prints a config."""
        key = b"0123456789abcdef"
        self.assertNotIn("0123456789", repr(config(Path(), babel_key=key)))
