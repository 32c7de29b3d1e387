"""Which tunnels to drop and which to open: a pure function of what was observed, time and chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Protocol

from vifibnet.model.addresses import Prefix

FIRST_RETRY = 1.0
"""Seconds, on average, before a peer that failed once is tried again."""

LAST_RETRY = 600.0
"""Seconds, on average, that a peer is left alone at most, however often it failed."""


class RandomSource(Protocol):
    """The part of random.Random that a decision needs."""

    def random(self) -> float:
        """A number from 0 up to, not including, 1."""


@dataclass(frozen=True)
class Tunnel:
    """One openvpn client of ours, from its start until its process has ended.

    ``since`` is when it came up (or was started, while it is not up); ``routes`` counts the routes that
    babeld has installed over it; ``traffic`` is in bytes, both ways together, since it came up; ``stopping``
    tells that it was told to end.
    """

    tap: str
    peer: Prefix
    up: bool
    since: float
    routes: int = 0
    traffic: int = 0
    stopping: bool = False


@dataclass(frozen=True)
class Peer:
    """Somebody whom we could connect to, but not before ``next_try``; ``failures`` in a row until now."""

    prefix: Prefix
    next_try: float = 0.0
    failures: int = 0


@dataclass(frozen=True)
class Situation:
    """Everything that the decision depends on. Times are in seconds on one clock; ``settle`` is a duration.

    ``served`` are the peers that are connected to us, ``lan`` those reached without a tunnel, ``revoked``
    those that must not be reached; ``died`` counts the tunnels that ended by themselves since the last
    refresh; ``refresh`` says that it is time to replace the worst tunnels and not only to repair.
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
    refresh: bool
    died: int = 0
    revoked: frozenset[Prefix] = frozenset()


@dataclass(frozen=True)
class Open:
    """Connect to the peer over the tap."""

    peer: Prefix
    tap: str
    reason: str


@dataclass(frozen=True)
class Drop:
    """End the tunnel. ``rest`` asks to leave the peer alone for a while: somebody else gets a turn."""

    tap: str
    peer: Prefix
    reason: str
    rest: bool = False


def plan(situation: Situation, rng: RandomSource) -> list[Open | Drop]:
    """Decide what to do now: drops first, then opens.

    The tap of a dropped tunnel is not opened again here: it is free once its process has ended, and that
    calls for the next decision.
    """
    drops = _needless(situation)
    candidates = _candidates(situation, rng)
    slots = max(0, min(len(situation.free_taps), situation.connection_count - len(situation.tunnels)))
    if situation.refresh:
        # Every tap that is free or about to be takes one candidate; only the rest can stand for the worst.
        stopping = sum(tunnel.stopping for tunnel in situation.tunnels)
        spare = len(candidates) - slots - stopping - len(drops)
        gone = situation.died + stopping + len(drops)
        drops += _worst(situation, {drop.tap for drop in drops}, gone, spare)
    opens = [
        Open(peer.prefix, tap, "chosen at random")
        for peer, tap in zip(candidates[:slots], situation.free_taps, strict=False)
    ]
    return [*drops, *opens]


def earliest_try(situation: Situation) -> float | None:
    """When the next peer may be tried, if a tunnel is missing now and nobody can be tried yet; else None."""
    if len(situation.tunnels) >= situation.connection_count or not situation.free_taps:
        return None
    waiting = [peer.next_try for peer in _acceptable(situation) if peer.next_try > situation.now]
    return min(waiting, default=None)


def next_try(failures: int, now: float, rng: RandomSource, longest: float = LAST_RETRY) -> float:
    """When to try a peer again after ``failures`` (at least 1) in a row: exponential, with jitter of a half.

    ``longest`` bounds the wait's mean, in seconds.
    """
    mean = min(longest, FIRST_RETRY * 2.0 ** min(max(failures, 1) - 1, 32))
    return now + mean * (0.5 + rng.random())


def _needless(situation: Situation) -> list[Drop]:
    """Tunnels to peers that we reach otherwise, or that are not to be reached.

    Two nodes that connected to each other at once both see it; the one with the greater prefix drops its
    client, so that exactly one tunnel stays.
    """
    drops = []
    for tunnel in situation.tunnels:
        if tunnel.stopping:
            continue
        if tunnel.peer in situation.revoked:
            drops.append(Drop(tunnel.tap, tunnel.peer, "its certificate was revoked"))
        elif tunnel.peer in situation.lan:
            drops.append(Drop(tunnel.tap, tunnel.peer, "the peer is on our local network"))
        elif tunnel.peer in situation.served and situation.own > tunnel.peer:
            drops.append(Drop(tunnel.tap, tunnel.peer, "the peer is connected to us already"))
    return drops


def _worst(situation: Situation, dropped: set[str], gone: int, spare: int) -> list[Drop]:
    """The tunnels with the fewest routes, then the least traffic, to fulfil the refresh rate.

    No more than there are other peers to take their place (``spare``), and none that had no time to get
    routes yet; ``gone`` count as replaced already.
    """
    quota = ceil(round(situation.refresh_rate * situation.connection_count, 9))
    eligible = [
        tunnel
        for tunnel in situation.tunnels
        if tunnel.up
        and not tunnel.stopping
        and tunnel.tap not in dropped
        and situation.now - tunnel.since >= situation.settle
    ]
    eligible.sort(key=lambda tunnel: (tunnel.routes, tunnel.traffic, tunnel.since, tunnel.tap))
    return [
        Drop(tunnel.tap, tunnel.peer, f"{tunnel.routes} routes, {tunnel.traffic} bytes", rest=True)
        for tunnel in eligible[: max(0, min(quota - gone, spare))]
    ]


def _acceptable(situation: Situation) -> list[Peer]:
    """The peers that a tunnel could be opened to, sooner or later."""
    excluded = {situation.own, *situation.served, *situation.lan, *situation.revoked}
    excluded.update(tunnel.peer for tunnel in situation.tunnels)
    unique = {peer.prefix: peer for peer in situation.peers if peer.prefix not in excluded}
    return list(unique.values())


def _candidates(situation: Situation, rng: RandomSource) -> Sequence[Peer]:
    """The peers that may be tried now, in random order, those that failed us last."""
    ready = [peer for peer in _acceptable(situation) if peer.next_try <= situation.now]
    return sorted(ready, key=lambda peer: (peer.failures, rng.random()))
