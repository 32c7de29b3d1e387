"""Heartbeats as bytes."""

from ipaddress import IPv6Address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.wire.heartbeat import Beat, format_beat, parse_beat, split_beat

SENDER = IPv6Address("fe80::1")
BEATS = st.builds(
    Beat,
    sender=st.integers(0, 2**64 - 1).map(lambda suffix: IPv6Address(0xFE80 << 112 | suffix).packed),
    number=st.integers(0, 255),
    interval=st.integers(1, 65535).map(lambda thousandths: thousandths / 1000),
    cost=st.integers(0, 65535),
    empty=st.booleans(),
    eager=st.booleans(),
    busy=st.booleans(),
)


class BeatTests(SynchronousTestCase):
    """There and back."""

    @given(BEATS)
    def test_round_trip(self, beat: Beat) -> None:
        """What was said is heard, in 14 bytes; more at the end is for later versions."""
        data = format_beat(beat)
        self.assertEqual(len(data), 14)
        for heard in (parse_beat(data), parse_beat(data + b"more")):
            assert heard is not None
            self.assertEqual(heard.address.packed, beat.sender)
            self.assertAlmostEqual(heard.interval, beat.interval)
            self.assertEqual(heard._replace(interval=beat.interval), beat)

    @given(st.binary(max_size=64))
    def test_anything(self, data: bytes) -> None:
        """Any frame is a beat or none."""
        beat = parse_beat(data)
        if beat is not None:
            self.assertEqual(format_beat(beat)[1:], data[1:14])

    @given(BEATS, BEATS)
    def test_split(self, one: Beat, other: Beat) -> None:
        """All but the number is the same for beats that say the same, and for no others."""
        (number, rest), (_, others) = (split_beat(format_beat(beat)) for beat in (one, other))
        self.assertEqual(number, one.number)
        self.assertEqual(rest == others, one._replace(number=other.number) == other)
        self.assertEqual(split_beat(format_beat(one._replace(number=0))), (0, rest))

    def test_none(self) -> None:
        """Too short, another version, no interval."""
        data = format_beat(Beat(SENDER.packed, 3, 0.25, 0))
        for wrong in (data[:-1], b"\x20" + data[1:], data[:2] + b"\0\0" + data[4:]):
            self.assertIsNone(parse_beat(wrong))

    def test_bounds(self) -> None:
        """An interval that does not fit is the nearest that does."""
        for interval, told in ((0.0, 0.001), (100.0, 65.535)):
            beat = parse_beat(format_beat(Beat(SENDER.packed, 3, interval, 0)))
            assert beat is not None
            self.assertAlmostEqual(beat.interval, told)
