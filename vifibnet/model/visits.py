"""Which neighbours to call, when, and what to ask them: a pure function of what is known, time and chance.

Neighbours are the nodes that we have a tunnel with (or share a LAN with). Every one of them is told where we
can be reached, at once when that has changed, and again now and then. A few of them are asked: for peers,
when the registry cannot be; and for peers that we have tried in vain, whether these are somewhere else now.
"""

from __future__ import annotations

from dataclasses import dataclass

from vifibnet.model.addresses import Prefix
from vifibnet.model.tunnels import RandomSource

ASKED = 3
"""How many neighbours are asked at a time: one may know nothing, and one may lie."""

MAX_WANTED = 16
"""Of how many peers a neighbour is asked for the endpoints in one call."""

TELL_AGAIN = 900.0
"""Seconds, on average, until a neighbour is told again where we are."""

SOON = 1.0
"""Seconds in which all neighbours are told of a change, or a new one of us: both ends of a tunnel come at the
same time, and who is called first need not call."""

FIRST_REST, LAST_REST = 1.0, 600.0
"""Seconds, on average, for which a neighbour is left alone that did not answer: at first, and at most."""

FIRST_ASK = 5.0
"""Seconds between two questions for peers while tunnels are missing; twice as many after each answer that
told nothing new."""

FIRST_DOUBT, LAST_DOUBT = 30.0, 3600.0
"""Seconds between two questions for the same peer, at first and at most."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Somebody whom we can call. ``due`` is when to tell him where we are; he ``rests`` until then; he may be
    ``busy`` with a call of ours."""

    peer: Prefix
    due: float
    rests: float = 0.0
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Affairs:
    """What the calls depend on: ``ask_at`` is when to ask for peers, None for not at all; ``doubtful`` are
    the peers whose endpoints are to be asked for, those that wait longest first; ``lines`` is how many more
    calls may be made at once."""

    now: float
    neighbours: tuple[Neighbour, ...]
    lines: int
    ask_at: float | None = None
    doubtful: tuple[Prefix, ...] = ()


@dataclass(frozen=True, slots=True)
class Visit:
    """Call a neighbour, tell him where we are, and ask for ``count`` peers at random and for the endpoints of
    the ``wanted`` ones."""

    peer: Prefix
    count: int = 0
    wanted: tuple[Prefix, ...] = ()


def visits(affairs: Affairs, rng: RandomSource, count: int) -> list[Visit]:
    """Whom to call now; who is asked for peers is asked for ``count``."""
    free = [each for each in affairs.neighbours if not each.busy and each.rests <= affairs.now]
    free.sort(key=lambda each: (each.due, rng.random()))
    asking = affairs.ask_at is not None and affairs.ask_at <= affairs.now
    wanted = _wanted(affairs)
    asked: set[Prefix] = set()
    if asking or wanted:
        order = sorted(free, key=lambda _: rng.random())
        asked = {each.peer for each in order[: min(ASKED, affairs.lines)]}
    chosen = [each for each in free if each.peer in asked]
    chosen += [each for each in free if each.due <= affairs.now and each.peer not in asked]
    return [
        Visit(each.peer, count if asking else 0, wanted) if each.peer in asked else Visit(each.peer)
        for each in chosen[: affairs.lines]
    ]


def _wanted(affairs: Affairs) -> tuple[Prefix, ...]:
    """Whom to ask for. Neighbours say themselves where they are."""
    near = {each.peer for each in affairs.neighbours}
    return tuple(each for each in affairs.doubtful if each not in near)[:MAX_WANTED]


def next_visit(affairs: Affairs) -> float | None:
    """When to think again if nothing happens before; None when there is nobody to call. (The end of a call is
    something that happens.)"""
    whens = []
    for each in affairs.neighbours:
        if not each.busy:
            reasons = [each.due, *([affairs.ask_at] if affairs.ask_at is not None else ())]
            reasons += [affairs.now] if _wanted(affairs) else []
            whens.append(max(each.rests, min(reasons)))
    return min(whens, default=None)


def tell_again(now: float, rng: RandomSource) -> float:
    """When to tell a neighbour again where we are."""
    return now + TELL_AGAIN * (0.75 + rng.random() / 2)


def backoff(now: float, times: int, first: float, longest: float, rng: RandomSource) -> float:
    """When to do something again that was done ``times`` (at least 1) in vain: ever later, with jitter."""
    mean = min(longest, first * 2.0 ** min(max(times, 1) - 1, 32))
    return now + mean * (0.75 + rng.random() / 2)
