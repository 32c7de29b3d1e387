"""The parameters' lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.strategies import settings
from vifibnet.errors import BadDocument
from vifibnet.model.parameters import NOTHING, PARAMETERS, Value, Values, changed, write
from vifibnet.wire.parameters import format_parameters, parse_parameters

KEY = bytes(range(16))


class ParameterTests(SynchronousTestCase):
    """Writing and reading."""

    def test_lines(self) -> None:
        """In alphabetical order, whatever the order they were set in."""
        values: Values = {"mtu": 1400, "hello": 0.5, "babel-key": KEY}
        lines = [f"babel-key {KEY.hex()}", "hello 0.5", "mtu 1400"]
        self.assertEqual(format_parameters(values), lines)
        self.assertEqual(parse_parameters(lines), values)
        self.assertEqual(parse_parameters([]), NOTHING)

    @given(settings)
    def test_round_trip(self, values: dict[str, Value]) -> None:
        """What is written is read."""
        self.assertEqual(parse_parameters(format_parameters(values)), values)

    def test_newer(self) -> None:
        """A parameter that this program has never heard of is passed over."""
        self.assertEqual(parse_parameters(["colour blue", "hello 2"]), {"hello": 2.0})

    def test_refused(self) -> None:
        """A value it cannot have, one twice, the wrong order; a secret is not repeated."""
        for lines in (
            ["hello 0"], ["hello"], ["hello x"], ["hello nan"], ["hello 1e1"], ["hello -1"], ["hello 601"],
            ["hello 1", "hello 1"], ["mtu 1400", "hello 1"], ["mtu 1400.0"], ["mtu 1279"], ["mtu ١٤٠٠"],
            ["babel-key 00"], ["babel-key " + "AB" * 16], ["babel-key " + "ab" * 33], ["hello 1 "], [""],
        ):  # fmt: skip
            error = self.assertRaises(BadDocument, parse_parameters, lines)
            self.assertNotIn("AB" * 16, str(error))

    @given(st.lists(st.text(max_size=20), max_size=3))
    def test_anything(self, lines: list[str]) -> None:
        """Whatever comes is read or refused."""
        try:
            parse_parameters(lines)
        except BadDocument:
            return

    def test_defaults(self) -> None:
        """The manual's defaults are values that the parameters can have."""
        for parameter in PARAMETERS.values():
            if parameter.default is not None:
                self.assertEqual(parameter.read(write(parameter.default)), parameter.default)

    def test_changed(self) -> None:
        """What was set, unset, or set to something else."""
        old: Values = {"hello": 1.0, "mtu": 1400, "roll": 5.0}
        new: Values = {"hello": 2.0, "mtu": 1400, "refresh-rate": 0.1}
        self.assertEqual(changed(old, new), {"hello", "roll", "refresh-rate"})
