"""What a member may send: anything, and a node bears it."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.protocols.amp import AmpBox
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fakes import clock, endpoint, node
from tests.unit.node.peertalk_contract import FIVE, SEVEN, make_knowledge
from vifibnet.guard.limits import Rate
from vifibnet.node.peerport import LIMITS, PeerFace

values = st.binary(max_size=200) | st.sampled_from([b"5/16", b"-1", b"192.0.2.9,1194,udp", b"9" * 5000])
boxes = st.builds(
    lambda name, arguments: AmpBox({b"_command": name, b"_ask": b"1", **arguments}).serialize(),
    st.sampled_from([b"Meet", b"GetPeers", b"GetEndpoints", b"Declare", b"Ping", b"StartTLS"]),
    st.dictionaries(st.sampled_from([b"endpoints", b"count", b"prefixes", b"kind"]), values),
)


class FaceTests(SynchronousTestCase):
    """5/16 calls."""

    def setUp(self) -> None:
        """7/16 knows one peer."""
        self.knowledge, self.store = make_knowledge(self, SEVEN, clock(), [endpoint(7)])
        self.store.update([(node(1), (endpoint(1),))], 1e9)

    def connect(self) -> tuple[PeerFace, Any, Clock]:
        """A new connection."""
        now = Clock()
        rate = Rate(now, LIMITS.calls_per_second, LIMITS.calls_burst)
        face = PeerFace(self.knowledge, FIVE, lambda peer: None)
        face.bound(LIMITS, now, lambda: rate.take("x"))
        transport: Any = StringTransportWithDisconnection()
        transport.protocol = face
        face.makeConnection(transport)
        return face, transport, now

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.binary(max_size=300) | boxes, max_size=8))
    def test_anything(self, pieces: list[bytes]) -> None:
        """No exception, nobody else's entry touched, and an end when nothing more is said."""
        face, transport, now = self.connect()
        for piece in pieces:
            if transport.connected:
                face.dataReceived(piece)
        kept = self.store.get(node(1))
        assert kept is not None
        self.assertEqual(kept.endpoints, (endpoint(1),))
        self.assertLessEqual(len(self.store), 2)
        now.pump([1.0] * 90)
        self.assertFalse(transport.connected)
        self.assertEqual(now.getDelayedCalls(), [])

    def test_too_fast(self) -> None:
        """Whoever asks without a pause is answered ever later."""
        face, transport, now = self.connect()
        call = AmpBox({b"_command": b"GetPeers", b"_ask": b"1", b"count": b"1"}).serialize()
        face.dataReceived(call * 100)
        self.assertLessEqual(transport.value().count(b"_answer"), LIMITS.calls_burst + 1)
        now.advance(0)
        now.pump([0.5] * 10)
        self.assertLess(transport.value().count(b"_answer"), 50)
