"""Our own Babel packets; that babeld believes them is shown with a real one."""

import struct
from ipaddress import IPv6Address, IPv6Network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.wire.babelpacket import (
    FAR,
    Wanted,
    asked,
    datagram,
    errand,
    ihu,
    introduction,
    patience,
    questions,
    silence,
)

ONE, OTHER = IPv6Address("fe80::1"), IPv6Address("fe80::2")


def packet(*tlvs: bytes) -> bytes:
    """A packet with these in it."""
    return struct.pack("!BBH", 42, 2, sum(map(len, tlvs))) + b"".join(tlvs)


def received(payload: bytes) -> bytes:
    """A datagram as it comes in: without the IPv6 header."""
    return datagram(ONE, OTHER, payload)[40:]


def request(prefix: IPv6Network, seqno: int = 1, hops: int = 127, router: bytes = bytes(8)) -> bytes:
    """The TLV that wants a newer sequence number (RFC 8966, section 4.6.11)."""
    address = prefix.network_address.packed[: (prefix.prefixlen + 7) // 8]
    length = 14 + len(address)
    return struct.pack("!BBBBHBB", 10, length, 2, prefix.prefixlen, seqno, hops, 0) + router + address


def plain(prefix: IPv6Network) -> bytes:
    """The TLV that wants a route (section 4.6.10)."""
    address = prefix.network_address.packed[: (prefix.prefixlen + 7) // 8]
    return struct.pack("!BBBB", 9, 2 + len(address), 2, prefix.prefixlen) + address


PREFIXES = st.builds(
    lambda address, length: IPv6Network((address, length), strict=False),
    st.integers(0, (1 << 128) - 1),
    st.integers(0, 128),
)
FILLING = st.lists(
    st.sampled_from([b"\0", b"\1\2xx", b"\4\6hello!", bytes.fromhex("0303aabbcc")]), max_size=3
)


class PacketTests(SynchronousTestCase):
    """Byte for byte."""

    def test_ihu(self) -> None:
        """Header, then one TLV of type 5 without an address: cost and interval in hundredths of a second."""
        self.assertEqual(ihu(96, 30.0).hex(), "2a020008" + "0506" + "0000" + "0060" + "0bb8")
        self.assertEqual(ihu(65535, 1000.0)[-4:].hex(), "ffffffff")

    def test_introduction(self) -> None:
        """A multicast hello, two unicast ones in a row, an IHU, a request for all routes."""
        said = "04060000ffff0064" + "04068000ffff0064" + "0406800000000064" + "0506000000600bb8" + "09020000"
        self.assertEqual(introduction(96, 30.0, 1.0, 0xFFFF).hex(), "2a020024" + said)

    def test_questions(self) -> None:
        """A seqno request for each prefix, one hop to go, nobody's router id; none is too long for the least
        of all MTUs."""
        prefixes = [IPv6Network("2001:db8:42::/61"), IPv6Network("::/0")]
        (said,) = questions(prefixes)
        one = "0a16" + "023d" + "0000" + "0100" + "00" * 8 + "20010db800420000"
        self.assertEqual(said.hex(), "2a020028" + one + "0a0e" + "0200" + "0000" + "0100" + "00" * 8)
        packets = list(questions(IPv6Network((number, 128)) for number in range(1000)))
        self.assertEqual(sum(packet.count(b"\x0a\x1e\x02\x80") for packet in packets), 1000)
        self.assertLessEqual(max(map(len, packets)) + 48, 1280)

    def test_silence(self) -> None:
        """Two multicast hellos that cannot both be near the last one, a unicast one, no promise of more."""
        far = f"04060000{FAR:04x}0000"
        self.assertEqual(
            silence(0xFFFF).hex(), "2a020018" + "0406000000000000" + far + "0406" + "8000" + "3fff" + "0000"
        )

    def test_patience(self) -> None:
        """A unicast hello that is far from the last one; the next comes as late as can be said."""
        self.assertEqual(patience(0xFFFF).hex(), "2a020008" + "0406" + "8000" + "3fff" + "ffff")

    def test_errand(self) -> None:
        """An acknowledgement is wanted, at once."""
        self.assertEqual(errand().hex(), "2a020008" + "0206" + "0000" + "0000" + "0000")

    @given(st.lists(st.tuples(FILLING, PREFIXES, st.integers(0, 255)), max_size=5), FILLING)
    def test_asked(self, wanted: list[tuple[list[bytes], IPv6Network, int]], more: list[bytes]) -> None:
        """Each prefix that somebody else may have to be asked for, or for which a route is wanted (here: with
        no hops), whatever else is said."""
        tlvs = []
        for filling, prefix, hops in wanted:
            tlvs += [*filling, request(prefix, hops=hops) if hops else plain(prefix)]
        data = received(packet(*tlvs, *more))
        expected = [Wanted(prefix, newer=hops > 0) for _, prefix, hops in wanted if hops != 1]
        self.assertEqual(list(asked(data)), expected)

    @given(st.binary(max_size=99), PREFIXES, st.integers(0, 60))
    def test_nonsense(self, payload: bytes, prefix: IPv6Network, cut: int) -> None:
        """Nothing is found in what is none, or cut off."""
        list(asked(payload))
        list(asked(received(packet(payload))))
        self.assertEqual(list(asked(received(packet(request(prefix)[: min(cut, 15)])))), [])
        whole = plain(prefix)
        self.assertEqual(list(asked(received(packet(whole[: min(cut, len(whole) - 1)])))), [])

    @given(st.binary(max_size=99))
    def test_datagram(self, payload: bytes) -> None:
        """A receiver that sums up what the checksum covers gets all ones (RFC 8200, 8.1)."""
        packet = datagram(ONE, OTHER, payload)
        length, protocol, hops = struct.unpack("!HBB", packet[4:8])
        self.assertEqual((packet[0] >> 4, length, protocol, hops), (6, 8 + len(payload), 17, 1))
        self.assertEqual((packet[8:24], packet[24:40]), (ONE.packed, OTHER.packed))
        self.assertEqual(struct.unpack("!HHH", packet[40:46]), (6696, 6696, length))
        self.assertEqual(packet[48:], payload)
        covered = packet[8:40] + struct.pack("!II", length, 17) + packet[40:] + b"\0" * (length % 2)
        total = sum(struct.unpack(f"!{len(covered) // 2}H", covered))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        self.assertEqual(total, 0xFFFF)
