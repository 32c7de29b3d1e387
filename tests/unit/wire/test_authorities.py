"""The lines that name the network's authorities: one way to write them, and nothing else is read."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.errors import BadDocument
from vifibnet.wire.authorities import (
    MAX_AUTHORITIES,
    MAX_CERTIFICATE,
    format_authorities,
    parse_authorities,
)


class AuthoritiesTests(SynchronousTestCase):
    """Writing and reading."""

    def test_lines(self) -> None:
        """One word and base64."""
        self.assertEqual(format_authorities([b"\x00\x01\x02", b"ab"]), ["authority AAEC", "authority YWI="])

    @given(st.lists(st.binary(max_size=40), min_size=1, max_size=MAX_AUTHORITIES))
    def test_round_trip(self, certificates: list[bytes]) -> None:
        """What is written is read."""
        self.assertEqual(parse_authorities(format_authorities(certificates)), certificates)

    def test_one_way(self) -> None:
        """Another way to write the same, too many, none, or too long ones are refused."""
        for lines in (
            [],
            ["authority AAEC"] * (MAX_AUTHORITIES + 1),
            ["authority YWJ="],
            ["authority YWI"],
            ["authority Y W I ="],
            ["authority  YWI="],
            ["Authority YWI="],
            ["authority " + "A" * 2 * MAX_CERTIFICATE],
            ["authority \u0661"],
        ):
            error = self.assertRaises(BadDocument, parse_authorities, lines)
            self.assertRegex(str(error), r"^The document is refused: .+\.$")

    @given(st.lists(st.text(max_size=40) | st.text(max_size=40).map("authority ".__add__), max_size=4))
    def test_anything(self, lines: list[str]) -> None:
        """Whatever it is, it is read or refused."""
        with contextlib.suppress(BadDocument):
            parse_authorities(lines)
