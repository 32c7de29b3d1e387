"""The ways that packets take when babel has no route any more: beside each of its own the kernel has others,
of less weight, that stay for a while when babel's has gone.

*The best other way.* A neighbour whose own way does not lead back over us can take the packets at once, while
babel would have to ask the destination first (an alternate; RFC 5286). All that it takes to find one is what
the neighbours announce: their own distances.

*The same way.* A babeld that is started again is heard by its neighbours as one that has forgotten
everything: all of them give up all routes over it until they have heard two hellos, although every tunnel
is up and every kernel on the way forwards. If all went other ways at once, two of them might choose each
other. So the old way is the better one as long as it is not known to be cut, unless the alternate is safe
even then.

*A lossy way.* Until babel has another one, for which it may have to ask, too, the alternate goes before it
for a moment, also where babel has none: now and then the neighbour on the lossy one, which knows nothing of
losses, makes babel believe for some milliseconds that nothing is wrong. The way that babel takes in its place
then goes before it as well.

*Any other way.* Where there is no alternate, babel has the destination asked for a newer sequence number,
which takes a second. But it has told all neighbours at once that it has lost the way. Who went that way, over
us, has said since that it has lost it, too, or goes another one: who still offers one does not go over us.
(Of a lossy way babel is told, for a moment, that it is dead, so that this is known of it, too.)
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from ipaddress import IPv6Network
from typing import NamedTuple, Protocol

SLACK = 32
"""By how much a distance has to be less than another to be believed so: a third of a tunnel's least cost.

The cost of a tunnel follows its round-trip time, each end measures its own, babel keeps small changes to
itself until its next full update (babeld 1.12, send_triggered_update), and we pass over smaller ones
(node.monitor)."""


class Way(NamedTuple):
    """The next hop of a route: ``via`` this link-local address on this interface."""

    via: str
    interface: str


PATIENCE = 0.2
"""Seconds in which the neighbours hear that babel has given a destination up, and say what follows from that
for them (babeld 1.12 delays urgent updates by a tenth of a second)."""


AHEAD = 2.0
"""Seconds for which an alternate goes before babel's own way, which has just been found to lose many packets.
babel has found another one by then, or there is none that is better."""

ASTRAY = 0.1
"""Seconds for which what babel took instead goes before a lossy way that babel comes back to: mostly that is
over by then, and nobody has heard of it yet and come to us for it."""


class Health(Enum):
    """What is known about a neighbour on a way by others than babel."""

    UNKNOWN = "nothing"
    FINE = "it is there and forwards"
    LOSSY = "it forwards, but loses many packets"
    LEAVING = "it forwards, but not for long"
    DEAD = "it is not there any more"


BAD = (Health.DEAD, Health.LOSSY)
"""What any other way is better than."""


class Place(NamedTuple):
    """A kept way's place in the kernel: of those after babel's own, ``rank`` 0 is what packets take first;
    the last rank goes before it."""

    prefix: IPv6Network
    rank: int


@dataclass(frozen=True, slots=True)
class Offer:
    """A neighbour's way to a destination: ``metric`` is our distance over it, ``refmetric`` its own.
    ``installed`` is the one that babel has chosen. All are finite."""

    way: Way
    metric: int
    refmetric: int
    installed: bool = False


class Around(Protocol):
    """What is known of the neighbours."""

    def health(self, way: Way) -> Health:
        """What is known about the neighbour there."""

    def back(self, offer: Offer) -> int:
        """The distance from the one that offers to us."""

    def between(self, one: Way, other: Way) -> int | None:
        """The distance from one neighbour to another; None when nobody knows."""


class Kind(IntEnum):
    """How much an alternate is worth: the less, the more. All are loop-free when the link to the next hop is
    all that is cut, as seen by the two at its ends."""

    AVOIDING = 0
    """It leads past the next hop: none of those on it miss that one."""

    DOWNSTREAM = 1
    """It is nearer than we are. However many choose such ones at once, there is no loop."""

    LOOP_FREE = 2
    """It does not lead back over us; but one that misses the same next hop may have chosen us."""


@dataclass(frozen=True)
class Kept:
    """What the kernel keeps for a destination: ``ways``, the best first, as long as babel has it, or
    ``until`` then.

    ``own`` is babel's next hop or, where it has none, the last; ``metric`` our distance over it (None: babel
    never had one) while it was well, ``refmetric`` its own; ``lost`` is since when it has none. ``shunned``
    is when it was found to be lossy, ``astray`` when babel came back to it although it is; ``avoided`` the
    lossy one that was babel's last; ``ahead`` what is taken first.
    """

    own: Way
    metric: int | None
    refmetric: int
    ways: tuple[Way, ...]
    until: float | None = None
    lost: float | None = None
    shunned: float | None = None
    astray: float | None = None
    avoided: Way | None = None
    ahead: Way | None = None


def keep(
    before: Kept | None,
    offers: Collection[Offer],
    direct: Way | None,
    around: Around,
    *,
    learning: bool,
    now: float,
    until: float,
) -> Kept | None:
    """What to keep for a destination from now on; None for nothing.

    ``before`` is the last answer, ``offers`` what babel has, ``direct`` the way to the destination if it is
    at the other end of a tunnel of ours, whatever babel knows; ``learning`` says that babel has just begun
    and will have more. What is given up now is kept ``until`` then.
    """
    own = next((offer for offer in offers if offer.installed), None)
    if own is not None:
        goal = Kept(own.way, own.metric, own.refmetric, ())
    elif direct is not None and around.health(direct) is not Health.DEAD:
        goal = Kept(direct, None if before is None else before.metric, 0, (), lost=_lost(before, now))
    elif before is None:
        return None
    else:
        until = until if before.until is None else before.until
        if until <= now:
            return None
        goal = Kept(before.own, before.metric, before.refmetric, (), until, _lost(before, now))
    goal = _avoid(_shun(goal, before, around, now), before, around)
    had = () if before is None else before.ways
    ways = _ways(goal, offers, around, had, installed=own is not None, learning=learning)
    if goal.lost is not None and now >= goal.lost + PATIENCE and around.health(ways[0]) in BAD:
        ways = _any(goal, offers, around, had) or ways
    first = None if before is None else before.ahead
    return replace(goal, ways=ways, ahead=_ahead(goal, first, ways, offers, around, now))


def _lost(before: Kept | None, now: float) -> float:
    """Since when babel has no way, if it has none now."""
    return now if before is None or before.lost is None else before.lost


def _shun(goal: Kept, before: Kept | None, around: Around, now: float) -> Kept:
    """Note that babel's way, or its last, is lossy. What it costs since says nothing about where others' ways
    lead."""
    if before is None or around.health(goal.own) is not Health.LOSSY:
        return goal
    if before.own != goal.own:
        return goal if before.ahead is None else replace(goal, shunned=now, astray=now)
    if before.until is not None and before.shunned is None:
        return goal
    metric = min((each for each in (goal.metric, before.metric) if each is not None), default=None)
    shunned = now if before.shunned is None else before.shunned
    return replace(goal, metric=metric, shunned=shunned, astray=before.astray)


def _avoid(goal: Kept, before: Kept | None, around: Around) -> Kept:
    """Note the lossy way to which babel may come back for a moment. It may be taken for dead meanwhile."""
    avoided = None if before is None else before.avoided
    if goal.shunned is not None:
        avoided = goal.own
    return replace(goal, avoided=avoided) if avoided and around.health(avoided) in BAD else goal


def _ahead(
    goal: Kept,
    had: Way | None,
    ways: tuple[Way, ...],
    offers: Collection[Offer],
    around: Around,
    now: float,
) -> Way | None:
    """What is taken before babel's own way, if that is lossy: what babel had taken instead (``had``), or an
    alternate, each for a while. If another one is lossy, babel's own."""
    healths = {offer.way: around.health(offer.way) for offer in offers}
    fine = {way for way, health in healths.items() if health in (Health.FINE, Health.UNKNOWN)}
    # babel tells first what it takes no more, and then what instead.
    since = goal.lost if had == goal.own else goal.astray
    if since is not None and now < since + ASTRAY and had in fine:
        return had
    if goal.shunned is not None:
        return ways[0] if now < goal.shunned + AHEAD and ways[0] != goal.own else None
    lossy = Health.LOSSY in healths.values() or goal.avoided is not None
    return goal.own if lossy and goal.until is None and goal.own in fine else None


def _any(goal: Kept, offers: Collection[Offer], around: Around, had: tuple[Way, ...]) -> tuple[Way, ...]:
    """The best of all that neighbours still offer; the one that is taken already if it is about as good."""
    offered = {offer.way: offer.metric for offer in offers if _can_be_taken(offer.way, goal, around)}
    if around.health(goal.own) is Health.LOSSY:
        # For another one of its kind it is not worth leaving.
        offered = {way: metric for way, metric in offered.items() if around.health(way) is not Health.LOSSY}
    if not offered:
        return ()
    best = min(offered, key=lambda way: (offered[way], way))
    same = [way for way in had if way in offered and offered[way] <= offered[best] + SLACK]
    return (same[0] if same else best,)


def _can_be_taken(way: Way, goal: Kept, around: Around) -> bool:
    return way != goal.own and around.health(way) not in (Health.LEAVING, Health.DEAD)


def _ways(
    goal: Kept,
    offers: Collection[Offer],
    around: Around,
    had: tuple[Way, ...],
    *,
    installed: bool,
    learning: bool,
) -> tuple[Way, ...]:
    if not installed:
        alive = tuple(way for way in had if around.health(way) is not Health.DEAD)
        if learning and alive:
            return tuple(way for way in alive if around.health(way) is not Health.LOSSY) or alive
    health = around.health(goal.own)
    found = _alternates(goal, offers, around)
    if not found:
        # Even where it is taken for dead: nothing else is known, and that may be a mistake.
        return (goal.own,)
    # What it was chosen for may be gone by now, with the next hop.
    if not installed and len(had) == 1 and had[0] in found:
        return had
    best = min(found, key=lambda way: found[way])
    for way in had:
        # A little less is no reason to tell the kernel.
        if way in found and found[way][:2] == found[best][:2] and found[way][2] <= found[best][2] + SLACK:
            best = way
    kind = found[best][0]
    if health in (Health.DEAD, Health.LOSSY, Health.UNKNOWN) or kind is not Kind.LOOP_FREE:
        return (best,)
    return (goal.own, best)


def _alternates(goal: Kept, offers: Collection[Offer], around: Around) -> dict[Way, tuple[Kind, bool, int]]:
    """The other ways that can be taken, and their worth: kind, whether on the same interface, metric."""
    if goal.metric is None:
        return {}
    found = {}
    for offer in offers:
        way, distance = offer.way, offer.refmetric + SLACK
        if not _can_be_taken(way, goal, around):
            continue
        if distance >= goal.metric + around.back(offer):
            continue
        past = around.between(way, goal.own)
        if past is not None and distance < past + goal.refmetric:
            kind = Kind.AVOIDING
        else:
            kind = Kind.DOWNSTREAM if distance < goal.metric else Kind.LOOP_FREE
        found[way] = (kind, way.interface == goal.own.interface, offer.metric)
    return found
