"""The revocation list's lines: one way to write them, and nothing else is read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.errors import BadDocument
from vifibnet.model.addresses import Prefix
from vifibnet.wire.revocation import MAX_SERIAL, Revoked, format_revocations, parse_revocations

LISTED = (Revoked(20, Prefix(5, 16)), Revoked(3, Prefix(6, 16), node=False))
LINES = ["revoked 3 6/16 certificate", "revoked 20 5/16 node"]

prefixes = st.integers(0, 120).flatmap(
    lambda length: st.builds(Prefix, st.integers(0, (1 << length) - 1), st.just(length))
)
lists = st.lists(
    st.builds(Revoked, st.integers(1, MAX_SERIAL - 1), prefixes, st.booleans()),
    unique_by=lambda each: each.serial,
    max_size=6,
).map(lambda revoked: tuple(sorted(revoked)))


class RevocationListTests(SynchronousTestCase):
    """Writing and reading."""

    def test_lines(self) -> None:
        """They are as the module says, in the order of the serial numbers."""
        self.assertEqual(format_revocations(LISTED), LINES)
        read = parse_revocations(LINES)
        self.assertEqual(read.revoked, LISTED[::-1])
        self.assertEqual((read.serials, read.nodes), ({3, 20}, {Prefix(5, 16)}))

    @given(lists)
    def test_round_trip(self, revoked: tuple[Revoked, ...]) -> None:
        """What is written is read."""
        self.assertEqual(parse_revocations(format_revocations(revoked)).revoked, revoked)

    def test_one_way(self) -> None:
        """Another way to write the same, or what means nothing, is refused."""
        for old, new in (
            ("revoked 3", "revoked 03"),
            ("revoked 3", "revoked 0"),
            ("revoked 3", "revoked 30"),
            ("revoked 3", "revoked 20"),
            ("revoked 3", f"revoked {MAX_SERIAL}"),
            ("5/16", "99999/16"),
            (" node", " nobody"),
            ("revoked 3", "revoked \u0663"),
            ("revoked 3", " revoked 3"),
        ):
            error = self.assertRaises(
                BadDocument, parse_revocations, [line.replace(old, new) for line in LINES]
            )
            self.assertRegex(str(error), r"^The document is refused: .+\.$")

    @given(st.lists(st.text(max_size=40) | st.sampled_from(LINES), max_size=4))
    def test_anything(self, lines: list[str]) -> None:
        """Whatever comes is read or refused; and if it is read, then it is what we write."""
        try:
            self.assertEqual(format_revocations(parse_revocations(lines).revoked), lines)
        except BadDocument:
            return
