"""Splitting free prefixes."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.allocation import split


class SplitTests(SynchronousTestCase):
    """One prefix out of a free one."""

    def test_as_in_2012(self) -> None:
        """The lower half is given, each upper half stays free."""
        self.assertEqual(split("", 4), ("0000", ["0001", "001", "01", "1"]))
        self.assertEqual(split("101", 4), ("1010", ["1011"]))
        self.assertEqual(split("101", 3), ("101", []))

    @given(st.text("01", max_size=20), st.integers(0, 60))
    def test_nothing_is_lost_or_doubled(self, free: str, more: int) -> None:
        """What is given and what is left are parts of the free prefix, apart, and together all of it."""
        given_bits, rest = split(free, len(free) + more)
        parts = [given_bits, *rest]
        self.assertEqual(len(given_bits), len(free) + more)
        self.assertTrue(all(part.startswith(free) for part in parts))
        in_order = sorted(parts)
        for one, next_one in zip(in_order, in_order[1:], strict=False):
            self.assertFalse(next_one.startswith(one), (one, next_one))
        self.assertEqual(sum(1 << 80 - len(part) for part in parts), 1 << 80 - len(free))
        self.assertEqual([len(part) for part in rest], sorted((len(part) for part in rest), reverse=True))

    def test_too_long(self) -> None:
        """A free prefix holds none that is shorter."""
        with self.assertRaises(ValueError):
            split("0101", 3)
