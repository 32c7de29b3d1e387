"""Documents as text: one way to write one, and nothing else is read."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.errors import BadDocument
from vifibnet.model.addresses import Network
from vifibnet.wire.document import (
    MAX_DOCUMENT,
    MAX_NUMBER,
    Document,
    Kind,
    add_signature,
    format_document,
    parse_document,
    split_signature,
)

NETWORK = Network.parse("2001:db8:42::/48")
DOCUMENT = Document(Kind.REVOCATIONS, NETWORK, "ab" * 32, 7, ("one thing", "another  thing"))
TEXT = b"""vifibnet revocations 1
network 2001:db8:42::/48
authority abababababababababababababababababababababababababababababababab
number 7
one thing
another  thing
"""

lines = st.from_regex(r"[!-~][ -~]{0,20}", fullmatch=True)
documents = st.builds(
    Document,
    st.sampled_from(list(Kind)),
    st.just(NETWORK),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    st.integers(0, MAX_NUMBER),
    st.lists(lines, max_size=6).map(tuple),
)


class DocumentTests(SynchronousTestCase):
    """Writing and reading."""

    def test_text(self) -> None:
        """It is as the module says."""
        self.assertEqual(format_document(DOCUMENT), TEXT)
        self.assertEqual(parse_document(TEXT), DOCUMENT)
        self.assertEqual(parse_document(TEXT[: TEXT.index(b"one")]), replace(DOCUMENT, lines=()))

    @given(documents)
    def test_round_trip(self, document: Document) -> None:
        """What is written is read, with any signature."""
        data = add_signature(format_document(document), b"\0\xff")
        text, signature = split_signature(data)
        self.assertEqual((parse_document(text), signature), (document, b"\0\xff"))

    def refuse(self, text: bytes) -> None:
        """It is refused with a sentence."""
        error = self.assertRaises(BadDocument, parse_document, text)
        self.assertRegex(str(error), r"^The document is refused: .+\.$")

    def test_one_way(self) -> None:
        """Another way to write the same, or what means nothing, is refused."""
        for old, new in (
            (b"number 7", b"number 07"),
            (b"number 7", b"number 9223372036854775808"),
            (b"number 7", b"number -7"),
            (b"revocations 1", b"revocations 2"),
            (b"revocations 1", b"gossip 1"),
            (b"2001:db8:42::/48", b"2001:0db8:42::/48"),
            (b"2001:db8:42::/48", b"2001:db8:42::/4"),
            (b"abab", b"ABAB"),
            (b"\n", b"\r\n"),
            (b"one", b" one"),
            (b"one", b"\xd9\xa3"),
            (b"one thing", b""),
            (b"one", b"one\x0b"),
            (TEXT, TEXT + b"\n"),
            (TEXT, TEXT[:-1]),
            (TEXT, b""),
        ):
            self.refuse(TEXT.replace(old, new, 1))
        self.refuse(TEXT + b"x" * MAX_DOCUMENT)

    @given(st.binary(max_size=300), st.integers(0, len(TEXT)), st.integers(0, 40))
    def test_anything(self, data: bytes, at: int, gone: int) -> None:
        """Whatever comes is read or refused; and if it is read, then it is what we write."""
        for text in (data, TEXT[:at] + data + TEXT[at + gone :]):
            try:
                self.assertEqual(format_document(parse_document(text)), text)
            except BadDocument:
                continue

    def test_signature(self) -> None:
        """It is the last line, in one spelling."""
        self.assertEqual(split_signature(b"a\nsignature 00ff\n"), (b"a\n", b"\0\xff"))
        for document in (
            b"", b"\n", b"signature 00", b"a\nsignature 00", b"a\nsignature 0\n", b"a\nsignature FF\n",
            b"a\nsignature \n", b"a\n signature 00\n", b"a\nsignature 00\n\n", b"a\nsignature 00\nb\n",
            b"a\nsignature " + b"00" * 2049 + b"\n", b"x" * (MAX_DOCUMENT + 1),
        ):  # fmt: skip
            self.assertRaises(BadDocument, split_signature, document)

    @given(st.binary(max_size=100))
    def test_any_document(self, data: bytes) -> None:
        """What is split can be put together again."""
        try:
            text, signature = split_signature(data)
        except BadDocument:
            return
        self.assertEqual(add_signature(text, signature), data)
