"""What is said in a beat."""

from ipaddress import IPv6Address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.liveness import INFINITY, LEAVING, SHUNNED, first
from vifibnet.node.otherend import EAGER, LIVELY, USED, End
from vifibnet.node.voice import Voice
from vifibnet.wire.heartbeat import Beat, parse_beat

OWN = IPv6Address("fe80::1").packed
COSTS = st.sampled_from([0, SHUNNED, LEAVING, INFINITY])
TIMES = st.integers(10, 100).map(float)
ENDS = st.builds(
    End,
    tap=st.just("vifc0"),
    address=st.just(IPv6Address("fe80::2")),
    pulse=st.just(first(0, 0.3, 100.0)),
    cost=COSTS,
    mine=COSTS,
    sent=st.integers(0, 255),
    eager=TIMES,
    asked=TIMES,
    busy=TIMES,
)


class VoiceTests(SynchronousTestCase):
    """There and back."""

    @given(
        st.lists(st.tuples(ENDS, st.booleans(), st.sampled_from([0.0, 0.5, 0.75, 1.0, 1.5])), min_size=1),
        st.sampled_from([0.05, 0.3, 1.0]),
        st.booleans(),
    )
    def test_said(self, ends: list[tuple[End, bool, float]], interval: float, ending: bool) -> None:
        """Everybody is told all that matters, whatever those before were told."""
        voice = Voice(OWN)
        for end, used, later in ends:
            now = end.eager - EAGER + later
            if used:
                end.use(now - later)
            empty = end.mine < INFINITY and end.cost >= LEAVING and not ending
            beat = parse_beat(voice.beat(end, now, interval, ending=ending, empty=empty))
            assert beat is not None
            self.assertEqual((beat.sender, beat.number, beat.empty), (OWN, end.sent, empty))
            self.assertEqual(beat.cost, INFINITY if ending else end.mine)
            self.assertEqual(beat.eager, now < end.eager)
            self.assertEqual(beat.busy, used and later < USED)
            self.assertIn(round(beat.interval, 3), {interval, min(interval, LIVELY)})

    def test_interval(self) -> None:
        """Another one is told from the next beat on."""
        voice, end = Voice(OWN), End("vifc0", IPv6Address("fe80::2"), first(0, 0.3, 0.0), sent=7)
        for interval in (0.3, 0.5, 0.3):
            said = parse_beat(voice.beat(end, 10.0, interval, ending=False, empty=False))
            self.assertEqual(said, Beat(OWN, 7, interval, cost=0))

    def test_greeting(self) -> None:
        """Whom nobody has heard is not heard."""
        self.assertEqual(parse_beat(Voice(OWN).greeting(5, 0.3)), Beat(OWN, 5, 0.3, INFINITY))
