"""The revocation list as text: one way to write it, and nothing else is read."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.errors import BadRevocations
from vifibnet.model.addresses import Network, Prefix
from vifibnet.wire.revocation import (
    MAX_DOCUMENT,
    MAX_NUMBER,
    MAX_SERIAL,
    RevocationList,
    Revoked,
    add_signature,
    format_revocations,
    parse_revocations,
    split_signature,
)

NETWORK = Network.parse("2001:db8:42::/48")
LIST = RevocationList(
    NETWORK, "ab" * 32, 7, (Revoked(20, Prefix(5, 16)), Revoked(3, Prefix(6, 16), node=False))
)
TEXT = b"""vifibnet revocation list 1
network 2001:db8:42::/48
authority abababababababababababababababababababababababababababababababab
number 7
revoked 3 6/16 certificate
revoked 20 5/16 node
"""

prefixes = st.integers(0, 120).flatmap(
    lambda length: st.builds(Prefix, st.integers(0, (1 << length) - 1), st.just(length))
)
lists = st.builds(
    RevocationList,
    st.just(NETWORK),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    st.integers(0, MAX_NUMBER),
    st.lists(
        st.builds(Revoked, st.integers(1, MAX_SERIAL - 1), prefixes, st.booleans()),
        unique_by=lambda each: each.serial,
        max_size=6,
    ).map(lambda revoked: tuple(sorted(revoked))),
)


class RevocationListTests(SynchronousTestCase):
    """Writing and reading."""

    def test_text(self) -> None:
        """It is as the module says, in the order of the serial numbers."""
        self.assertEqual(format_revocations(LIST), TEXT)
        read = parse_revocations(TEXT)
        self.assertEqual(read, replace(LIST, revoked=LIST.revoked[::-1]))
        self.assertEqual((read.serials, read.nodes), ({3, 20}, {Prefix(5, 16)}))

    @given(lists)
    def test_round_trip(self, listed: RevocationList) -> None:
        """What is written is read, with any signature."""
        document = add_signature(format_revocations(listed), b"\0\xff")
        text, signature = split_signature(document)
        self.assertEqual((parse_revocations(text), signature), (listed, b"\0\xff"))

    def refuse(self, text: bytes) -> None:
        """It is refused with a sentence."""
        error = self.assertRaises(BadRevocations, parse_revocations, text)
        self.assertRegex(str(error), r"^The revocation list is refused: .+\.$")

    def test_one_way(self) -> None:
        """Another way to write the same, or what means nothing, is refused."""
        for old, new in (
            (b"number 7", b"number 07"),
            (b"number 7", b"number 9223372036854775808"),
            (b"number 7", b"number -7"),
            (b"list 1", b"list 2"),
            (b"2001:db8:42::/48", b"2001:0db8:42::/48"),
            (b"2001:db8:42::/48", b"2001:db8:42::/4"),
            (b"revoked 3", b"revoked 03"),
            (b"revoked 3", b"revoked 0"),
            (b"revoked 3", b"revoked 30"),
            (b"revoked 3", b"revoked 20"),
            (b"revoked 3", b"revoked %d" % MAX_SERIAL),
            (b"5/16", b"99999/16"),
            (b" node", b" nobody"),
            (b"abab", b"ABAB"),
            (b"\n", b"\r\n"),
            (b"revoked 3", b"revoked \xd9\xa3"),
            (TEXT, TEXT + b"\n"),
            (TEXT, b""),
        ):
            self.refuse(TEXT.replace(old, new, 1))
        self.refuse(TEXT + b"x" * MAX_DOCUMENT)

    @given(st.binary(max_size=300), st.integers(0, len(TEXT)), st.integers(0, 40))
    def test_anything(self, data: bytes, at: int, gone: int) -> None:
        """Whatever comes is read or refused; and if it is read, then it is what we write."""
        for text in (data, TEXT[:at] + data + TEXT[at + gone :]):
            try:
                self.assertEqual(format_revocations(parse_revocations(text)), text)
            except BadRevocations:
                continue

    def test_signature(self) -> None:
        """It is the last line, in one spelling."""
        self.assertEqual(split_signature(b"a\nsignature 00ff\n"), (b"a\n", b"\0\xff"))
        for document in (
            b"", b"\n", b"signature 00", b"a\nsignature 00", b"a\nsignature 0\n", b"a\nsignature FF\n",
            b"a\nsignature \n", b"a\n signature 00\n", b"a\nsignature 00\n\n", b"a\nsignature 00\nb\n",
            b"a\nsignature " + b"00" * 2049 + b"\n", b"x" * (MAX_DOCUMENT + 1),
        ):  # fmt: skip
            self.assertRaises(BadRevocations, split_signature, document)

    @given(st.binary(max_size=100))
    def test_any_document(self, data: bytes) -> None:
        """What is split can be put together again."""
        try:
            text, signature = split_signature(data)
        except BadRevocations:
            return
        self.assertEqual(add_signature(text, signature), data)
