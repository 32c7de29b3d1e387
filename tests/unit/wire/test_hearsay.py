"""Datagrams that anybody at the other end of a tunnel may send."""

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.addresses import Prefix
from vifibnet.wire.document import MAX_NUMBER, Kind
from vifibnet.wire.hearsay import (
    MAX_LENGTH,
    MAX_NUMBERS,
    MAX_SENT,
    Numbers,
    format_numbers,
    format_seen,
    kind_of,
    parse_numbers,
    parse_seen,
)

PEER = Prefix.parse("5/16")


class SeenTests(SynchronousTestCase):
    """Telling and understanding."""

    @given(st.ip_addresses().map(str).filter(lambda text: "%" not in text))
    def test_round_trip(self, address: str) -> None:
        """What is told is understood."""
        self.assertEqual(parse_seen(format_seen(PEER, address)), (PEER, ip_address(address)))

    @given(st.binary(max_size=2 * MAX_LENGTH))
    def test_anything(self, datagram: bytes) -> None:
        """Other datagrams are ignored."""
        self.assertIsNone(parse_seen(datagram))

    def test_almost(self) -> None:
        """So are those that are nearly right."""
        for text in (
            "vifibnet-seen 5/16",
            "vifibnet-seen 5/16 192.0.2.1 ",
            "vifibnet-seen 5/16 192.0.2",
            "vifibnet-seen 5 192.0.2.1",
            "vifibnet-seen 5/16 fe80::1%eth0",
            "Vifibnet-seen 5/16 192.0.2.1",
            "vifibnet-seen 5/16 192.0.2.1" + " " * MAX_LENGTH,
        ):
            self.assertIsNone(parse_seen(text.encode()), text)


class NumbersTests(SynchronousTestCase):
    """The numbers of documents."""

    @given(st.dictionaries(st.sampled_from(Kind), st.integers(0, MAX_NUMBER), min_size=1), st.booleans())
    def test_round_trip(self, numbers: dict[Kind, int], want: bool) -> None:
        """What is told is understood, and is nothing else."""
        datagram = format_numbers(Numbers(numbers, want))
        self.assertEqual(parse_numbers(datagram), Numbers(numbers, want))
        self.assertLessEqual(len(datagram), MAX_NUMBERS)
        self.assertEqual((parse_seen(datagram), kind_of(datagram)), (None, None))

    @given(st.binary(max_size=2 * MAX_NUMBERS))
    def test_anything(self, datagram: bytes) -> None:
        """Other datagrams are ignored."""
        self.assertIsNone(parse_numbers(datagram))
        self.assertIsNone(kind_of(datagram))

    @given(
        st.text("vifbnet-hawok 0123456789\n", max_size=60).map(lambda text: f"vifibnet-have{text}".encode())
    )
    def test_nearly(self, datagram: bytes) -> None:
        """Those that are nearly right are, too, or mean what they say."""
        found = parse_numbers(datagram)
        self.assertIn(found, (None, Numbers({})))

    def test_newer(self) -> None:
        """Kinds that only newer nodes know are passed over, and so is a number that is too great."""
        told = b"vifibnet-want weather 5 parameters 7 revocations %d" % (MAX_NUMBER + 1)
        self.assertEqual(parse_numbers(told), Numbers({Kind.PARAMETERS: 7}, want=True))
        for datagram in (
            b"vifibnet-have parameters -1",
            b"vifibnet-have  parameters 1",
            b"vifibnet-have parameters 1\n",
            b"vifibnet-have parameters",
            b"vifibnet-have",
            b"vifibnet-have" + b" parameters 1" * 11,
            b"vifibnet-have" + b" abcdefghijklmnopqrst 1234567890123456789" * 10,
        ):
            self.assertIsNone(parse_numbers(datagram), datagram)

    def test_document(self) -> None:
        """What begins like a document may be one, if it is not too long."""
        for kind in Kind:
            start = b"vifibnet %s 1\n" % kind.encode()
            self.assertEqual(kind_of(start), kind)
            self.assertEqual(kind_of(start.ljust(MAX_SENT, b"x")), kind)
            self.assertIsNone(kind_of(start.ljust(MAX_SENT + 1, b"x")))
        for start in (b"vifibnet weather 1\n", b"vifibnet parameters 2\n", b" vifibnet parameters 1\n"):
            self.assertIsNone(kind_of(start))
