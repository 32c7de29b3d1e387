"""What our beats say to each of those who hear them."""

from __future__ import annotations

from vifibnet.model.liveness import INFINITY
from vifibnet.node.otherend import End
from vifibnet.wire.heartbeat import Beat, format_beat, plain_beats


class Voice:
    """Says it. Most of it is said again and again, and not made anew each time."""

    def __init__(self, own: bytes) -> None:
        """``own`` is our packed link-local address."""
        self._own = own
        self._interval = 0.0
        self._plain: list[bytes] = []

    def greeting(self, number: int, interval: float) -> bytes:
        """For somebody whom nobody has heard yet, and who does not know that we are here."""
        return format_beat(Beat(self._own, number, interval))

    def beat(self, end: End, now: float, interval: float, *, ending: bool, empty: bool) -> bytes:
        """The next one for this end. ``ending``: the tunnel is about to end; ``empty``: we do not use it."""
        if not ending and end.is_plain(now):
            if interval != self._interval:
                self._interval, self._plain = interval, plain_beats(self._own, interval)
            return self._plain[end.sent]
        cost = INFINITY if ending else end.mine
        told = end.promised(now, interval), cost, empty, end.doubted(now), now < end.used
        return format_beat(Beat(self._own, end.sent, *told))
