"""Which tunnels to drop and which to open: a pure function of what was observed, time and chance.

When places at others' servers are scarce, every node goes on giving up its worst tunnel at each refresh, and
tries to get another one the later, the more links it has: so the places pass from those that have many to
those that have few, also to newcomers, without a word between them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from heapq import nsmallest
from itertools import islice
from math import ceil, inf
from typing import Protocol

from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.silence import dead, doubtful, next_doubt

FIRST_RETRY = 1.0
"""Seconds, on average, before a peer that failed or refused once is tried again."""

LAST_RETRY = 600.0
"""Seconds, on average, that a peer is left alone at most, however often it failed."""

FULL_RETRY = 60.0
"""The same of a peer that had no place for us: there may be one at any time."""

SCARCE = 2.0
"""Refresh intervals after its last refusal for which a node takes places to be scarce."""

HASTE = 16
"""How much more often than when all is calm a node refreshes at first, and when most tunnels are lost."""


class RandomSource(Protocol):
    """The part of random.Random that a decision needs."""

    def random(self) -> float:
        """A number from 0 up to, not including, 1."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """One openvpn client of ours, from its start until its process has ended.

    ``since`` is when it came up (or was started, while it is not up); ``routes`` counts the routes that
    babeld has installed over it; ``traffic`` is in bytes, both ways together, since it came up; ``rtt`` in
    milliseconds; ``failures`` of the peer before, in a row; ``stopping`` tells that it was told to end.
    ``silent`` is since when nothing is heard over it, although it is up; None if something is. ``needed`` is
    when it was emptied to be dropped, and found to be the only way to somewhere.
    """

    tap: str
    peer: Prefix
    up: bool
    since: float
    routes: int = 0
    traffic: int = 0
    rtt: float | None = None
    failures: int = 0
    stopping: bool = False
    silent: float | None = None
    needed: float = -inf


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody whom we could connect to, but not before ``next_try``.

    ``failures`` in a row until now, and ``refusals`` in a row because it was full; ``stale`` when nobody has
    named it for long; ``last_success`` is when a tunnel to it last came up.
    """

    prefix: Prefix
    next_try: float = 0.0
    failures: int = 0
    refusals: int = 0
    stale: bool = False
    last_success: float | None = None
    endpoints: tuple[Endpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that the decision depends on. Times are in seconds on one clock; ``settle`` and ``interval``
    (between two refreshes when all is calm) are durations.

    ``served`` are the peers that are connected to us, ``lan`` those reached without a tunnel, ``revoked``
    those that must not be reached; ``peers`` has everybody once; ``destinations`` as the function of that
    name makes them; ``died`` counts the tunnels that ended by themselves since the last refresh; ``refused``
    is when a peer last had no place for us; ``refresh`` says that it is time to replace the worst tunnels
    and not only to repair. ``woken`` is when the machine last woke from a sleep.
    """

    own: Prefix
    now: float
    tunnels: tuple[Tunnel, ...]
    served: frozenset[Prefix]
    lan: frozenset[Prefix]
    peers: tuple[Peer, ...]
    free_taps: tuple[str, ...]
    connection_count: int
    refresh_rate: float
    settle: float
    interval: float
    refresh: bool
    died: int = 0
    refused: float | None = None
    revoked: frozenset[Prefix] = frozenset()
    destinations: frozenset[frozenset[str]] = frozenset()
    woken: float = -inf


@dataclass(frozen=True, slots=True)
class Open:
    """Connect to the peer over the tap."""

    peer: Prefix
    tap: str
    reason: str


@dataclass(frozen=True, slots=True)
class Drop:
    """End the tunnel. ``rest`` asks to leave the peer alone for a while: somebody else gets a turn; ``dead``
    says that nothing goes over it any more."""

    tap: str
    peer: Prefix
    reason: str
    rest: bool = False
    dead: bool = False


def plan(situation: Situation, rng: RandomSource) -> list[Open | Drop]:
    """Decide what to do now: drops first, then opens.

    The tap of a dropped tunnel is not opened again here: it is free once its process has ended, and that
    calls for the next decision.
    """
    drops = _revoked(situation)
    drops += _harmless(situation, drops, _needless(situation))
    drops += _surplus(situation, drops)
    drops += _dead(situation, drops)
    slots = min(len(situation.free_taps), _missing(situation))
    room = min(slots, _allowed(situation)) if slots > 0 else 0
    ready: list[Peer] = []
    if room or situation.refresh:
        ready = [peer for peer in _acceptable(situation) if peer.next_try <= situation.now]
    if situation.refresh:
        drops += _worst(situation, drops, len(ready) - max(0, slots))
    chosen = _best(situation, ready, room, rng)
    opens = [
        Open(peer.prefix, tap, _why(peer, len(ready)))
        for peer, tap in zip(chosen, situation.free_taps, strict=False)
    ]
    return [*drops, *opens]


def destinations(routes: Iterable[tuple[Hashable, str]]) -> frozenset[frozenset[str]]:
    """Over which interfaces each destination is reached; destinations with the same ones count once.

    ``routes`` are all that lead somewhere, installed or not: a destination and an interface each.
    """
    ways: dict[Hashable, set[str]] = {}
    for destination, interface in routes:
        ways.setdefault(destination, set()).add(interface)
    return frozenset(map(frozenset, ways.values()))


def next_look(situation: Situation) -> float | None:
    """When to decide again if nothing happens before: somebody may be tried then who may not now, or what
    could not be dropped may go. None when there is nothing to wait for but the next refresh."""
    whens = []
    if any(_needless(situation)) or any(_surplus(situation, [])):
        whens.append(situation.now + situation.settle)
    hurry = _many_silent(situation)
    doubts = (
        next_doubt(tunnel, situation.woken, situation.now, hurry=hurry)
        for tunnel in situation.tunnels
        if not tunnel.stopping
    )
    whens += [doubt for doubt in doubts if doubt is not None]
    if _missing(situation) > 0 and situation.free_taps:
        first = min((peer.next_try for peer in _acceptable(situation)), default=None)
        if first is not None:
            whens.append(max(first, _patient_until(situation)))
    return min((when for when in whens if when > situation.now), default=None)


def next_try(failures: int, now: float, rng: RandomSource, longest: float = LAST_RETRY) -> float:
    """When to try a peer again after ``failures`` (at least 1) in a row: exponential, with jitter of a half.

    ``longest`` bounds the wait's mean, in seconds.
    """
    mean = min(longest, FIRST_RETRY * 2.0 ** min(max(failures, 1) - 1, 32))
    return now + mean * (0.5 + rng.random())


def next_refresh(now: float, unrest: float, interval: float, rng: RandomSource) -> float:
    """When to refresh after ``now``: the longer nothing has happened, the later, up to ``interval``.

    ``unrest`` is when the node was started or had lost most of its tunnels. A jitter of a quarter keeps
    nodes apart that were started together.
    """
    wait = min(interval, max(interval / HASTE, now - unrest))
    return now + wait * (0.75 + rng.random() / 2)


# -- drops -------------------------------------------------------------------------------------------


def _revoked(situation: Situation) -> list[Drop]:
    """Whatever goes over them."""
    return [
        Drop(tunnel.tap, tunnel.peer, "its certificate was revoked")
        for tunnel in situation.tunnels
        if tunnel.peer in situation.revoked and not tunnel.stopping
    ]


def _harmless(situation: Situation, drops: Iterable[Drop], proposals: Iterable[Drop]) -> Iterator[Drop]:
    """The proposals after which, one after the other, every destination is still reached by another way, as
    far as the neighbours' word is good: what they announce may lead back over us. Whoever empties a tunnel
    finds that out; for an interval it is not tried again, and others get their turn."""
    gone = {tunnel.tap for tunnel in situation.tunnels if tunnel.stopping}
    gone.update(drop.tap for drop in drops)
    needed = {each.tap for each in situation.tunnels if situation.now < each.needed + situation.interval}
    for proposal in proposals:
        if proposal.tap in needed:
            continue
        gone.add(proposal.tap)
        if any(proposal.tap in ways and ways <= gone for ways in situation.destinations):
            gone.remove(proposal.tap)
        else:
            yield proposal


def _needless(situation: Situation) -> Iterator[Drop]:
    """Tunnels to peers that we reach otherwise.

    Two nodes that connected to each other at once both see it; the one with the greater prefix drops its
    client, so that exactly one tunnel stays.
    """
    for tunnel in situation.tunnels:
        if tunnel.stopping or tunnel.peer in situation.revoked:
            continue
        if tunnel.peer in situation.lan:
            yield Drop(tunnel.tap, tunnel.peer, "the peer is on our local network")
        elif tunnel.peer in situation.served and situation.own > tunnel.peer:
            yield Drop(tunnel.tap, tunnel.peer, "the peer is connected to us already")


def _surplus(situation: Situation, drops: list[Drop]) -> Iterator[Drop]:
    """What is there beyond the count, which may be smaller than before: what is not up, then the worst. The
    best one stays in any case."""
    if _missing(situation) >= 0:
        return
    dropped = {drop.tap for drop in drops}
    there = [each for each in _reliable(situation) if not (each.stopping or each.tap in dropped)]
    there.sort(key=lambda tunnel: (tunnel.up, *_worth(tunnel, situation.now)))
    reason = f"no more than {situation.connection_count} are wanted"
    excess = max(0, len(there) - situation.connection_count)
    proposals = (Drop(each.tap, each.peer, reason) for each in there[:-1])
    yield from islice(_harmless(situation, drops, proposals), excess)


def _missing(situation: Situation) -> int:
    """How many tunnels there are too few; less than 0 for too many. Those that are doubted do not count."""
    return situation.connection_count - len(_reliable(situation))


def _reliable(situation: Situation) -> list[Tunnel]:
    """Those that are up, or will be soon, as far as anybody knows."""
    woken, now, hurry = situation.woken, situation.now, _many_silent(situation)
    return [each for each in situation.tunnels if not doubtful(each, woken, now, hurry=hurry)]


def _many_silent(situation: Situation) -> bool:
    """Whether that are half of those that are wanted, or more."""
    silent = sum(each.up and not each.stopping and each.silent is not None for each in situation.tunnels)
    return 0 < situation.connection_count <= 2 * silent


def _dead(situation: Situation, drops: Iterable[Drop]) -> Iterator[Drop]:
    """Tunnels that nothing is heard over."""
    dropped = {drop.tap for drop in drops}
    there = [each for each in situation.tunnels if each.up and not each.stopping and each.tap not in dropped]
    silent = sorted((each.silent, each.tap, each) for each in there if each.silent is not None)
    for left, (since, tap, tunnel) in zip(range(len(there) - 1, -1, -1), silent, strict=False):
        if dead(tunnel, situation.woken, situation.now, last=not left):
            yield Drop(tap, tunnel.peer, f"silent for {situation.now - since:.1f} s", dead=True)


def _worst(situation: Situation, drops: list[Drop], spare: int) -> Iterator[Drop]:
    """The tunnels with the fewest routes, then the least traffic, to fulfil the refresh rate.

    Those that were found to be needed come last, the latest at the very end. Never the last one, nor one
    that had no time to get routes yet. What ended by itself counts as replaced already. There must be other
    peers to take the place (``spare`` are left when those tunnels are opened that are missing) unless places
    are scarce: then the place itself is what somebody needs.
    """
    dropped = {drop.tap for drop in drops}
    stopping = sum(tunnel.stopping for tunnel in situation.tunnels)
    gone = stopping + len(drops)
    quota = ceil(round(situation.refresh_rate * situation.connection_count, 9)) - situation.died - gone
    up = [each for each in situation.tunnels if each.up and not each.stopping and each.tap not in dropped]
    most = min(quota, len(up) - 1, len(up) if _scarce(situation) else spare - gone)
    settled = [tunnel for tunnel in up if situation.now - tunnel.since >= situation.settle]
    settled.sort(key=lambda tunnel: (tunnel.needed, *_worth(tunnel, situation.now)))
    proposals = (Drop(each.tap, each.peer, _quality(each), rest=True) for each in settled)
    return islice(_harmless(situation, drops, proposals), max(0, most))


def _worth(tunnel: Tunnel, now: float) -> tuple[int, float, int, float, float, str]:
    """The worse a tunnel, the less: few routes, then little traffic, then an uncertain and a long way."""
    rate = tunnel.traffic / max(1.0, now - tunnel.since)
    return tunnel.routes, rate, -tunnel.failures, -(tunnel.rtt or 0.0), tunnel.since, tunnel.tap


def _quality(tunnel: Tunnel) -> str:
    rtt = "" if tunnel.rtt is None else f", {tunnel.rtt:.0f} ms"
    return f"the worst: {tunnel.routes} routes, {tunnel.traffic} bytes{rtt}"


# -- opens -------------------------------------------------------------------------------------------


def _scarce(situation: Situation) -> bool:
    return situation.refused is not None and situation.now - situation.refused < SCARCE * situation.interval


def _patient_until(situation: Situation) -> float:
    """Before this nothing is opened: a refusal makes those wait longer that need a place less.

    A node without any link waits for nobody; one with half of its count, or served peers instead, for a
    whole refresh interval.
    """
    if situation.refused is None or not _scarce(situation):
        return situation.now
    links = len(situation.served) + sum(tunnel.up and not tunnel.stopping for tunnel in situation.tunnels)
    need = min(1.0, links / max(1, situation.connection_count))
    return situation.refused + need**2 * situation.interval


def _allowed(situation: Situation) -> int:
    """How many tunnels may be opened at once: while places are scarce one after the other, if we have any."""
    if situation.now < _patient_until(situation):
        return 0
    if not _scarce(situation) or not any(tunnel.up for tunnel in situation.tunnels):
        return situation.connection_count
    return 0 if any(not tunnel.up and not tunnel.stopping for tunnel in situation.tunnels) else 1


def _acceptable(situation: Situation) -> list[Peer]:
    """The peers that a tunnel could be opened to, sooner or later."""
    excluded = {situation.own, *situation.served, *situation.lan, *situation.revoked}
    excluded.update(tunnel.peer for tunnel in situation.tunnels)
    return [peer for peer in situation.peers if peer.prefix not in excluded]


def _best(situation: Situation, ready: list[Peer], count: int, rng: RandomSource) -> list[Peer]:
    """So many of the peers, at random, but last those that failed or refused us, and before these those at an
    address where we have a tunnel to already: what is there may fail together."""
    if not count:
        return []
    connected = {tunnel.peer for tunnel in situation.tunnels}
    used = {end.address for peer in situation.peers if peer.prefix in connected for end in peer.endpoints}

    def key(peer: Peer) -> tuple[bool, int, bool, float]:
        shared = any(end.address in used for end in peer.endpoints)
        return peer.stale, _doubt(peer, situation.now), shared, rng.random()

    return nsmallest(count, ready, key=key)


def _doubt(peer: Peer, now: float) -> int:
    """The more, the less likely a tunnel comes up; what failed is forgiven with time, so that everybody who
    came back gets a turn."""
    doubt = peer.failures + peer.refusals
    if doubt:
        doubt = max(0, doubt + (peer.last_success is None) - int((now - peer.next_try) / LAST_RETRY))
    return doubt


def _why(peer: Peer, ready: int) -> str:
    said = f"chosen among {ready} peers"
    if peer.failures:
        said += f", after {peer.failures} failures"
    if peer.refusals:
        said += f", after {peer.refusals} refusals"
    return said
