"""The Babel packets that we send ourselves."""

from ipaddress import IPv6Network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.wire.babel import MAX_REQUESTS, route_request

subnets = st.builds(
    lambda bits, length: IPv6Network((bits >> (128 - length) << (128 - length), length)),
    st.integers(0, (1 << 128) - 1),
    st.integers(1, 128),
)


def tlvs(packet: bytes) -> list[tuple[int, bytes]]:
    """Take a packet apart: type and body of each TLV."""
    assert packet[:2] == b"\x2a\x02"
    rest = packet[4:]
    assert len(rest) == int.from_bytes(packet[2:4], "big")
    found = []
    while rest:
        found.append((rest[0], rest[2 : 2 + rest[1]]))
        rest = rest[2 + rest[1] :]
    return found


class RouteRequestTests(SynchronousTestCase):
    """Asking for routes."""

    def test_bytes(self) -> None:
        """Byte by byte as in RFC 8966."""
        self.assertEqual(route_request(), bytes.fromhex("2a020004 09020000"))
        self.assertEqual(
            route_request([IPv6Network("2001:db8:42:5::/64")]),
            bytes.fromhex("2a020010 09020000 090a0240 20010db800420005"),
        )

    @given(st.lists(subnets, max_size=2 * MAX_REQUESTS))
    def test_all_of_them(self, asked: list[IPv6Network]) -> None:
        """First everything, then each of the first ones, in a packet that fits everywhere."""
        packet = route_request(asked)
        self.assertLessEqual(len(packet), 1280 - 40 - 8)
        everything, *each = tlvs(packet)
        self.assertEqual(everything, (9, b"\0\0"))
        read = [
            IPv6Network((body[2:].ljust(16, b"\0"), body[1]))
            for kind, body in each
            if (kind, body[0]) == (9, 2)
        ]
        self.assertEqual(read, asked[:MAX_REQUESTS])
