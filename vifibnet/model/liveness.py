"""Whether the other end of a tunnel is there, how well it is heard, and what the tunnel should cost for that.

Each end sends a heartbeat at an interval of its own, which it tells. Who misses two of them takes the other
end for dead, or who misses one, asks for more, and gets none at once. One that loses some is worth less than
a detour, and gets well again only slowly: a tunnel that loses packets shall not be left and taken again all
the time.

Who is only late, because one of the two machines has no time for its beats, is given more of it: what follows
from each false alarm is work for all, and the reason for more beats to be late.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

INFINITY = 65535
"""A cost or metric that means unreachable (RFC 8966)."""

LINK = 96
"""What babel adds for each link that nothing is wrong with (babeld's default)."""

LEAVING = 1 << 14
"""The cost of a tunnel that is about to end: anything else is better, but nothing is lost while there is
nothing else."""

DRAINED = 1 << 12
"""The same of all tunnels of a node that is drained or stops. It is less, so that its own packets leave one
that is about to end, too; and fifteen in a row are less than INFINITY: where many nodes are drained at once,
the only way may lead over several of them."""

MISSED = 2
"""So many missing beats in a row are silence."""

SLACK = 0.12
"""Seconds that a beat may come late: nodes wake only so often (see node.pace), and may be kept from that."""

ANSWER = 0.1
"""Seconds, and two round trips, in which who is asked for more beats, because one is missing, sends one: it
is asked twice in that time, and beside it its kernel (node.otherend)."""

LATEST = 0.5
"""The same at most for who was late lately."""

LENIENT = 20.0
"""Seconds for which beats may be as late as one that was taken for missing, and was not."""

BACK = 3
"""So many beats in a row end a silence."""

RECENT, LONG = 16, 64
"""Beats by which a loss is noticed, and by which it is found to be over."""

LOSSY, ACCIDENTS = 3, 2
"""So many lost of the RECENT ones are too many, and no more than that of the LONG ones are none of that."""

SHUNNED = 1 << 10
"""The least cost of losing many. babel asks for a newer sequence number, without which it may not take most
other ways, only where its own is worse by 512 (babeld 1.12, send_unfeasible_request), and for other ways at
all only when its own becomes worse by 288 at once."""

_ALL = (1 << LONG) - 1


class Pulse(NamedTuple):
    """What was heard of one end: when the last beat came and its number, the interval that it told, in
    seconds, whether the LONG last ones came (a bit each, the youngest is the lowest), how many have come
    since the last silence, and the cost that the losses are worth; how many seconds beats may be late, and
    until when, if that is more than usual; until when it should have answered, if it was asked for more."""

    last: float
    number: int
    interval: float
    came: int = _ALL
    streak: int = BACK
    penalty: int = 0
    slack: float = SLACK
    lenient: float = 0.0
    answer: float = inf

    def silent(self, now: float) -> bool:
        """Whether it has to be taken for dead."""
        return now >= self.deadline

    @property
    def deadline(self) -> float:
        """When it has to be taken for dead if nothing comes. On a line that is known to lose some, and is
        shunned already, silence takes longer."""
        return min(self.last + (MISSED + bool(self.penalty)) * self.interval + self.slack, self.answer)

    @property
    def overdue(self) -> float:
        """When the next beat is missing if nothing comes."""
        return self.last + self.interval + self.slack

    @property
    def suspect(self) -> bool:
        """Whether one has just been missing, which may be the first of many."""
        return self.came & 0b11 == 0b01 and not self.penalty

    def cost(self, now: float) -> int:
        """What hearing it badly adds to the cost of the tunnel."""
        if self.silent(now) or self.streak < BACK:
            return INFINITY
        return self.penalty


def first(number: int, interval: float, now: float) -> Pulse:
    """Somebody is heard who was not known."""
    return Pulse(now, number, interval)


def heard(pulse: Pulse, number: int, interval: float, now: float) -> Pulse:
    """The same, heard again. One that comes late, after a younger one, changes nothing."""
    step, silent = (number - pulse.number) % 256, pulse.silent(now)
    if not silent and (step == 0 or step > 128):
        return pulse
    came = pulse.came
    # When it was silent for longer, somebody has begun to count anew, or the line was cut.
    if 0 < step <= (MISSED + 1 if silent else RECENT):
        came = (came << step | 1) & _ALL
    streak = 1 if silent else min(BACK, pulse.streak + 1)
    slack, lenient = (pulse.slack, pulse.lenient) if now < pulse.lenient else (SLACK, 0.0)
    if silent and step == 1:
        slack, lenient = max(slack, min(LATEST, now - pulse.last - pulse.interval)), now + LENIENT
    return Pulse(now, number, interval, came, streak, _penalty(came, pulse.penalty), slack, lenient)


def awaited(pulse: Pulse, round_trip: float, now: float) -> Pulse:
    """The same, now that a beat is missing and more are asked for: it takes so many seconds to hear of it at
    least, or infinitely many where nobody knows."""
    return pulse if pulse.penalty else pulse._replace(answer=now + ANSWER + 2 * round_trip)


def heard_next(pulse: Pulse, number: int, now: float) -> Pulse | None:
    """The same for who is well, if that is the next beat, in time, with the same interval; None where more
    has to be thought of."""
    _, before, interval, came, streak, penalty, slack, lenient, _ = pulse
    if penalty or streak < BACK or number != (before + 1) % 256 or now >= pulse.overdue:
        return None
    came = (came << 1 | 1) & _ALL
    if now < lenient:
        return Pulse(now, number, interval, came, streak, 0, slack, lenient)
    return Pulse(now, number, interval, came, streak)


def _penalty(came: int, before: int) -> int:
    """The cost of losing so many: a lot, and one in twenty is worth a link more."""
    if came == _ALL:
        return 0
    recent = RECENT - (came & ((1 << RECENT) - 1)).bit_count()
    if recent >= LOSSY:
        return max(before, SHUNNED + 20 * LINK * recent // RECENT)
    return before if LONG - came.bit_count() > ACCIDENTS else 0
