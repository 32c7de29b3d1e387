"""What nodes say of each other's endpoints, and how much of it is believed.

Everything has an age: how long ago the peer that it is about was known to be reached there, because it said
so itself or a tunnel to it came up. Whoever passes it on adds the time that he has known it, so that old news
does not get younger on its way, whatever the clocks of those on it show."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint

MAX_AGE = 3650 * 24 * 3600.0
"""Seconds; what claims to be older is taken to be as old as this."""


@dataclass(frozen=True, slots=True)
class News:
    """A peer's endpoints, best first, as they were ``age`` seconds ago."""

    peer: Prefix
    endpoints: tuple[Endpoint, ...]
    age: float


@dataclass(frozen=True, slots=True)
class Believed:
    """What we take for true: at the time ``when`` the peer was reached at these endpoints."""

    peer: Prefix
    endpoints: tuple[Endpoint, ...]
    when: float


@dataclass(frozen=True, slots=True)
class Judge:
    """What belief depends on.

    ``own`` are we; ``dates`` says when what we know of a peer was last known to be right, for all of whom we
    know anything; ``connected`` are the peers that we have a tunnel with; ``revoked`` those whom nobody is to
    reach; ``room`` for so many more of whom we know nothing.
    """

    own: Prefix
    now: float
    dates: Mapping[Prefix, float]
    connected: Container[Prefix] = frozenset()
    revoked: Container[Prefix] = frozenset()
    room: int = 0


def believe(teller: Prefix, said: Iterable[News], judge: Judge) -> list[Believed]:
    """What to keep of what ``teller`` has said, each peer at most once.

    Of itself a peer knows best, always. Of others it is believed only what is newer than what we know;
    nothing where we know better by a tunnel that stands; and nothing ever makes us forget anybody."""
    freshest: dict[Prefix, News] = {}
    for each in said:
        if each.peer == judge.own or each.peer in judge.revoked or not each.endpoints:
            continue
        if each.peer not in freshest or each.age < freshest[each.peer].age:
            freshest[each.peer] = each
    room = judge.room
    believed = []
    for each in freshest.values():
        first_hand = each.peer == teller
        when = judge.now if first_hand else judge.now - min(max(each.age, 0.0), MAX_AGE)
        date = judge.dates.get(each.peer)
        if not first_hand and not _is_news(each, when, date, judge):
            continue
        if date is None and not first_hand:
            if room <= 0:
                continue
            room -= 1
        believed.append(Believed(each.peer, each.endpoints, when))
    return believed


def _is_news(each: News, when: float, date: float | None, judge: Judge) -> bool:
    if each.peer in judge.connected:
        return False
    # A date to come was written by a clock that was wrong.
    return date is None or date > judge.now or when > date
