"""The other end of a tunnel, as far as heartbeats tell."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from math import inf

from vifibnet.model.liveness import (
    BACK,
    DRAINED,
    INFINITY,
    MISSED,
    SHUNNED,
    SLACK,
    Pulse,
    awaited,
    first,
    heard,
    heard_next,
)
from vifibnet.model.ways import Health
from vifibnet.node.pace import LOOK
from vifibnet.wire.heartbeat import Beat

NO_MORE = "is heard no more"
"""What is logged of somebody whose silence is noticed."""

EAGER = 1.0
"""Seconds in which beats come at each look after one was missing, or when a silence ends: on a good line, of
which one in a hundred is lost, that costs little. A bad one is found out much sooner, and where two in a row
were lost by chance, one of these is heard before that is taken for the end."""

USED = 1.0
"""Seconds for which a tunnel that has just carried packets is taken for busy."""

FORGET = 60.0
"""Seconds of silence, and of being taken for dead, after which somebody is a stranger again."""

ASKED = 2.0
"""Seconds after the last beat in which its kernel is asked, or three intervals. Then the tunnel is given up
(model.silence)."""

LIVELY = 0.1
"""The interval in seconds that we tell while a tunnel is busy. Beats go out at each look then; so three in a
row may be lost before that is silence."""

Likes = tuple[str, bytes, bytes]
"""What all like beats have in common: the tap, the address of the interface that sends them, and the content
but for their number."""


@dataclass(slots=True)
class End:
    """The other end of a tunnel. ``hardware``: the address of its tap; ``theirs``: the cost that it told;
    ``empty``: whether it uses the tunnel; ``mine``: the cost that we find; ``cost``: what we made of both;
    ``told``: what we told babeld, ``believed`` what that last said, and ``before`` what it had believed;
    ``gone``: the tunnel has ended; ``mutual``: it has heard us; ``said``: we have told it that we do not use
    the tunnel; ``sent``: our last beat's number, ``beaten`` when it was sent. ``missed``: when a beat of its
    was last overdue, ``eager`` until when we want more of them, ``asked`` until when it wants more of ours,
    ``used`` until when we take the tunnel for busy, ``busy`` until when one of us does, ``alive`` when we
    began to hear each other, ``died`` when that ended, ``shunned`` when it was found to be lossy, ``seized``
    the same if babeld is told then that it is dead, ``introduced`` when babeld was last told of it,
    ``inquired`` when others were asked in its stead, ``quiet`` until when babeld misses nothing of it,
    ``review`` when it may be overdue; ``inquiry``: when its kernel was asked last, ``answered`` when that
    answered; ``likes``: its last beat."""

    tap: str
    address: IPv6Address
    pulse: Pulse
    hardware: bytes = b""
    theirs: int = 0
    empty: bool = False
    mine: int = 0
    cost: int = 0
    told: int = 0
    believed: int = 0
    before: int = INFINITY
    gone: bool = False
    said: bool = False
    sent: int = 0
    missed: float = 0.0
    eager: float = 0.0
    asked: float = 0.0
    used: float = 0.0
    busy: float = 0.0
    mutual: bool = False
    alive: float = 0.0
    died: float = 0.0
    shunned: float = 0.0
    seized: float = 0.0
    introduced: float = 0.0
    inquired: float = 0.0
    quiet: float = 0.0
    beaten: float = 0.0
    review: float = inf
    inquiry: float = -inf
    answered: float = -inf
    likes: Likes = ("", b"", b"")

    @property
    def lossy(self) -> bool:
        """Whether it loses many, as one of us has found out."""
        return SHUNNED <= self.cost < DRAINED

    @property
    def health(self) -> Health:
        """The same for others' eyes."""
        if self.lossy:
            return Health.LOSSY
        if self.cost >= INFINITY:
            return Health.DEAD
        return Health.LEAVING if self.cost >= DRAINED else Health.FINE

    @property
    def words(self) -> str:
        """The same in words."""
        if self.health is Health.LEAVING:
            return "is to be left"
        return NO_MORE if self.health is Health.DEAD else "is heard"

    def count(self) -> End:
        """It gets its next beat now."""
        self.sent = (self.sent + 1) % 256
        return self

    def hear(self, beat: Beat, now: float, came: float) -> None:
        """A beat of its is read that ``came`` before."""
        self.pulse = heard(self.pulse, beat.number, beat.interval, came)
        self.empty = beat.empty
        if self.pulse.suspect or self.pulse.streak < BACK:
            self.eager = now + EAGER
        if beat.eager:
            self.asked = now + EAGER
        if beat.busy:
            self.busy = max(self.busy, now + USED)
        if beat.cost < INFINITY and not self.mutual:
            self.mutual, self.alive = True, now
        # The first beat comes from somebody who cannot have heard us yet.
        self.theirs = beat.cost if self.mutual else 0

    def hear_again(self, number: int, came: float) -> bool:
        """A plain beat like the one before has come; whether that is all, and nothing follows from it."""
        if self.cost or self.gone or self.pulse.last < self.missed:
            return False
        pulse = heard_next(self.pulse, number, came)
        if pulse is None:
            return False
        self.pulse = pulse
        return True

    @property
    def last(self) -> float:
        """When it, or its kernel, was heard last."""
        return max(self.pulse.last, self.answered)

    @property
    def forgotten(self) -> float:
        """When it is a stranger again, if it is dead by then."""
        return max(self.last, self.died) + FORGET

    @property
    def vouched(self) -> float:
        """Until when its kernel's last answer is as good as a beat."""
        return self.answered + MISSED * self.pulse.interval + SLACK

    @property
    def end(self) -> float:
        """When it is taken for dead if nothing comes."""
        return max(self.pulse.deadline, self.vouched)

    def is_in_time(self, now: float) -> bool:
        """Whether its beats come, as those of most do: nothing follows from a look at it."""
        return not self.cost and not self.gone and self.pulse.last >= self.missed and now < self.pulse.overdue

    def inquires(self, now: float) -> bool:
        """Whether its kernel is to be asked now."""
        return self._unsure(now) and now >= self.inquiry + self.pulse.interval

    def _unsure(self, now: float) -> bool:
        """Whether its kernel may know more. Where packets are late, so may be the answer that shows that it
        lives, but nobody waits for that: it is asked for a while longer."""
        missed = self.pulse.last < self.missed and not self.gone
        return missed and now < self.last + max(ASKED, 3 * self.pulse.interval)

    def next_review(self, now: float) -> float:
        """When to look again if nothing comes: it is asked for more, then its kernel, time and again, then it
        is taken for dead, and at last forgotten."""
        if now >= self.end:
            return self.inquiry + self.pulse.interval if self._unsure(now) else self.forgotten
        if self.pulse.last >= self.missed:
            return self.pulse.overdue
        return min(self.end, self.inquiry + self.pulse.interval)

    def misses(self, now: float) -> bool:
        """Whether its beat has just become overdue."""
        return now >= self.pulse.overdue and self.pulse.last >= self.missed

    def miss(self, now: float, round_trip: float) -> None:
        """It has: we want more, and the answer takes so many seconds, as far as anybody knows."""
        self.missed = now
        self.eager = now + EAGER
        self.pulse = awaited(self.pulse, round_trip, now)

    def doubted(self, now: float) -> bool:
        """Whether we want more beats of it. Of a line that is known to be bad we know enough."""
        return now < self.eager and not self.pulse.penalty

    def use(self, now: float) -> None:
        """Packets go over the tunnel."""
        self.used = now + USED
        self.busy = max(self.busy, self.used)

    @property
    def lively(self) -> float:
        """Until when it gets a beat at each look: when the tunnel is busy, or one of us is eager, so that
        both find out together how many are lost."""
        return max(self.asked, self.busy, 0.0 if self.pulse.penalty else self.eager)

    @property
    def keen(self) -> float:
        """Until when it gets beats at each of the more frequent looks: packets are being lost, perhaps."""
        return min(self.busy, max(self.asked, 0.0 if self.pulse.penalty else self.eager))

    def wants(self, now: float) -> bool:
        """Whether it gets a beat at this look."""
        return now < self.keen or (now < self.lively and now >= self.beaten + 0.75 * LOOK)

    def is_plain(self, now: float) -> bool:
        """Whether all that it has to be told is that we are well, and usual beats will do."""
        return not self.cost and not self.mine and now >= self.lively

    def promised(self, now: float, interval: float) -> float:
        """Within how many seconds the next beat comes, whatever happens until then; usually ``interval``."""
        return min(interval, LIVELY) if now + interval < self.lively else interval

    def judge(self, asked: int, now: float) -> bool:
        """What follows from all that, and from what it shall cost at least; whether that is new."""
        heard = self.pulse.cost(now)
        if now < self.vouched and heard == INFINITY:
            heard = self.pulse.penalty
        self.mine = INFINITY if self.gone else max(heard, asked)
        cost, before = min(INFINITY, max(self.theirs, self.mine)), self.cost
        if cost == before:
            return False
        self.cost = cost
        if before == INFINITY:
            self.alive = now
        elif cost == INFINITY:
            self.died = now
        elif before < SHUNNED <= cost:
            self.shunned = now
        return True


def meet(tap: str, beat: Beat, now: float, before: End | None, sent: int) -> End:
    """Somebody is heard who was not there, or over a tunnel ``before`` that has ended; ``sent`` is the number
    of our last beat to everybody."""
    end = End(tap, beat.address, first(beat.number, beat.interval, now), sent=sent)
    if before is not None:
        end.sent = before.sent
        end.told, end.before, end.cost = before.told, before.before, before.cost
    return end
