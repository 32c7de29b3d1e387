"""Tables and times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.cli.nodes import COLUMNS, row
from vifibnet.cli.tables import Column, Table, ago, counted, day, duration, minute, seconds
from vifibnet.errors import BadInput

NOW = 1_800_000_000.0
NODE = {
    "prefix": "5/16", "address": "2001:db8:42:5::1", "subject": "CN=5/16,O=My club\\, Inc",
    "email": "a@b.example", "serial": "1", "joined": NOW, "expires": NOW + 1,
    "released": None, "revoked": None, "seen": None, "connected": False, "endpoints": "",
}  # fmt: skip


class TableTests(SynchronousTestCase):
    """Columns that fit."""

    def test_pages(self) -> None:
        """The first page says how wide the columns are; the headings come once; too long is cut."""
        table = Table([Column("a", 3), Column("b", 1)], 12)
        self.assertEqual(table.lines([["1", "2"], ["12345", "xyz"]]), ["a      b", "1      2", "12345  xyz"])
        self.assertEqual(table.lines([["1234567", "wxyz"]]), ["1234…  wx…"])

    @given(st.lists(st.lists(st.text(max_size=60), min_size=6, max_size=6), max_size=5))
    def test_width(self, rows: list[list[str]]) -> None:
        """No line of the nodes' table is longer than the terminal is wide."""
        for line in Table(COLUMNS, 100).lines(rows):
            self.assertLessEqual(len(line), 100)

    def test_node(self) -> None:
        """What a node's line says."""
        self.assertEqual(
            row(NODE, NOW),
            ("5/16", "2001:db8:42:5::1", "never", "2027-01-15", "a@b.example O=My club\\, Inc", "–"),
        )
        for change, cell, text in (
            ({"connected": True}, 2, "connected"), ({"seen": NOW - 300}, 2, "5 min ago"),
            ({"released": 1.0, "revoked": 1.0}, 3, "released"), ({"revoked": 1.0}, 3, "revoked"),
            ({"expires": NOW}, 3, "expired"), ({"email": None, "subject": "CN=5/16"}, 4, "–"),
            ({"endpoints": "a,1,udp"}, 5, "a,1,udp"),
            ({"endpoints": "a,1,udp;b,2,udp;c,3,udp"}, 5, "a,1,udp +2"),
        ):  # fmt: skip
            self.assertEqual(row({**NODE, **change}, NOW)[cell], text)


class TimeTests(SynchronousTestCase):
    """Times as people say them."""

    def test_words(self) -> None:
        """One unit, and no zero days."""
        for time, words in ((0, "0 s"), (59.9, "59 s"), (60, "1 min"), (7199, "1 h"), (90000, "25 h"),
                            (2 * 86400, "2 d"), (4e7, "462 d")):  # fmt: skip
            self.assertEqual(duration(time), words)
        self.assertEqual(ago(None, NOW), "never")
        self.assertEqual(ago(NOW + 5, NOW), "0 s ago")
        self.assertEqual((day(NOW), minute(NOW)), ("2027-01-15", "2027-01-15 08:00"))
        self.assertEqual((counted(1, "node"), counted(0, "node")), ("1 node", "0 nodes"))

    def test_valid(self) -> None:
        """What --valid takes."""
        self.assertEqual(
            [seconds("--valid", text) for text in ("90s", "30m", "24h", "7d")], [90, 1800, 86400, 604800]
        )
        for text in ("", "24", "h", "0h", "-1h", "1.5h", "24 h", "1w", "٣h", "9" * 99 + "d"):
            with self.assertRaises(BadInput):
                seconds("--valid", text)
