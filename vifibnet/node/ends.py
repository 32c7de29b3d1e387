"""Who is at the other ends of our tunnels: whom we hear, and whose beats are missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heappop, heappush
from ipaddress import IPv6Address
from itertools import count
from math import inf

from vifibnet.model.liveness import INFINITY
from vifibnet.node.otherend import End, Likes, meet
from vifibnet.wire.babeld import Neighbour
from vifibnet.wire.heartbeat import Beat, parse_beat, split_beat

Key = tuple[str, bytes]
"""A tap, and the packed link-local address of somebody at its other end."""

Partners = Mapping[str, frozenset[IPv6Address]]
"""The link-local addresses of those at the other end of each tap whose tunnel is up."""

Frame = tuple[str, bytes, bytes, float]
"""The tap over which a frame came, the address of the interface that sent it, its content, and its age."""


class Ends(dict[Key, End]):
    """The other ends that are known. Most beats of a calm network are like the one before, and most ends are
    not overdue: neither costs more than to find that out."""

    def __init__(
        self,
        on_met: Callable[[], None],
        inquire: Callable[[End], None],
        neighbours: Callable[[], Iterable[Neighbour]],
    ) -> None:
        """``on_met`` is called when somebody is heard who was not there: it should hear soon that we hear it.
        ``inquire`` asks somebody's kernel whether it is there; babel's ``neighbours`` tell how long an answer
        takes."""
        super().__init__()
        self._on_met = on_met
        self._inquire = inquire
        self._neighbours = neighbours
        self.senders: dict[str, frozenset[bytes]] = {}
        """Who may be there, by tap."""
        self.hurry = self.keen = 0.0
        """Until when somebody gets a beat at each look, and until when looks are four times as frequent."""
        self.beats: Counter[str] = Counter()
        """How many beats each tap has carried since that was asked last; who sends some counts them, too."""
        # Those whose last beat was a plain one.
        self._likes: dict[Likes, End] = {}
        # When to look whether somebody is overdue. An end's last entry counts.
        self._reviews: list[tuple[float, int, End]] = []
        self._order = count()

    def hasten(self, end: End) -> None:
        """It may want beats sooner."""
        self.hurry = max(self.hurry, end.lively)
        self.keen = max(self.keen, end.keen)

    def follow(self, partners: Partners) -> None:
        """Others may be there."""
        self.senders = {tap: frozenset(each.packed for each in there) for tap, there in partners.items()}

    def strangers(self) -> Iterator[Key]:
        """Those who have not been heard yet."""
        for tap, senders in self.senders.items():
            for sender in senders:
                end = self.get((tap, sender))
                if end is None or end.gone:
                    yield tap, sender

    def take_beats(self) -> Counter[str]:
        """How many beats each tap has carried since this was asked last."""
        beats, self.beats = self.beats, Counter()
        return beats

    def read(self, frames: Iterable[Frame], now: float, before: float, number: int) -> dict[Key, End]:
        """Take note of all that has come since the look ``before``; of whom more is to be thought. Whoever is
        met is told so with the beat after ``number``."""
        heard: dict[Key, End] = {}
        for tap, hardware, data, age in frames:
            came = max(before, now - max(0.0, age))
            their, rest = split_beat(data)
            likes = (tap, hardware, rest)
            end = self._likes.get(likes)
            if end is None or not end.hear_again(their, came):
                beat = parse_beat(data)
                if beat is None or beat.sender not in self.senders.get(tap, ()):
                    continue
                end = self._met(tap, beat, now, number)
                end.hear(beat, now, came)
                end.hardware = hardware
                self.hasten(end)
                self._learn(end, beat, likes)
                self._put(end, min(end.review, end.next_review(now)))
                heard[tap, beat.sender] = end
            self.beats[tap] += 1
        return heard

    def _met(self, tap: str, beat: Beat, now: float, number: int) -> End:
        """The one whose beat that is; somebody new if it is not known, or its tunnel has ended since."""
        end = self.get((tap, beat.sender))
        if end is None or end.gone:
            if end is not None:
                self._forget(end)
            end = self[tap, beat.sender] = meet(tap, beat, now, end, number)
            self._on_met()
        return end

    def _learn(self, end: End, beat: Beat, likes: Likes) -> None:
        """What follows from the same again is known, if that is a plain beat."""
        if end.likes != likes:
            self._likes.pop(end.likes, None)
            end.likes = likes
        if beat.plain:
            self._likes[likes] = end

    def _put(self, end: End, when: float) -> None:
        """Look then whether it is overdue."""
        if when != end.review:
            end.review = when
            heappush(self._reviews, (when, next(self._order), end))

    def _forget(self, end: End) -> None:
        self._likes.pop(end.likes, None)
        end.review = inf

    def review(self, now: float, *, everybody: bool) -> Iterator[End]:
        """Those who are silent, or all. Who is overdue is asked for more beats, and its kernel whether it is
        there; at last it is forgotten."""
        for end in list(self.values()) if everybody else list(self._overdue(now)):
            if not everybody and end.is_in_time(now):
                self._put(end, end.pulse.overdue)
                continue
            if end.cost == INFINITY and now >= end.forgotten:
                self._forget(self.pop((end.tap, end.address.packed)))
                continue
            # babel would go on believing in a tunnel that has ended if its tap is soon used again.
            end.gone |= end.address.packed not in self.senders.get(end.tap, ())
            if end.misses(now):
                end.miss(now, self._round_trip(end))
            self.hasten(end)
            if end.inquires(now):
                end.inquiry = now
                self._inquire(end)
            self._put(end, end.next_review(now))
            if everybody or now >= end.end:
                yield end

    def _round_trip(self, end: End) -> float:
        """How many seconds it takes, as babel knows; infinity if it does not."""
        for each in self._neighbours():
            if each.interface == end.tap and IPv6Address(each.address) == end.address:
                return inf if each.rtt is None else each.rtt / 1000
        return inf

    def _overdue(self, now: float) -> Iterator[End]:
        while self._reviews and self._reviews[0][0] <= now:
            when, _, end = heappop(self._reviews)
            if when == end.review:
                end.review = inf
                yield end
