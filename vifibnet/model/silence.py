"""When to doubt a tunnel, and when to give it up: long before openvpn would, but not without need.

One that is doubted is still there while another is opened beside it. So the doubt may come early, and nothing
is lost where it was a mistake: then there is one tunnel too many for a while. It comes even earlier where
many are silent at once: many others may be gone, too, and this may be all that connects us to anybody.
"""

from __future__ import annotations

from typing import Protocol

SLOW = 0.7
"""Seconds after which a tunnel that is not up yet is believed to come to nothing."""

HURRIED = 0.25
"""The same where many tunnels are silent."""

DOUBT = 0.3
"""Seconds of silence after which one that was up is believed to be dead, at once where many are silent. It is
called silent only after two missing heartbeats."""

SILENCE = 1.5
"""Seconds of silence after which a tunnel is given up."""

LAST_SILENCE = 4.0
"""The same of the last one: when all are silent at once, our own line may be cut, and soon be mended."""

ANSWERS = 0.35
"""Seconds that the others have, when this machine has slept, to show that they still know us."""

GONE = 60.0
"""Seconds of silence before waking after which they have none: openvpn has given up at both ends."""


class Watched(Protocol):
    """What counts of a tunnel: whether it is ``up``, since when (or when it was started), and since when
    nothing is heard over it (None if something is)."""

    @property
    def up(self) -> bool:
        """Whether it stands."""

    @property
    def since(self) -> float:
        """When it came up or was started."""

    @property
    def silent(self) -> float | None:
        """When the silence began."""


def doubtful(tunnel: Watched, woken: float, now: float, *, hurry: bool) -> bool:
    """Whether it is not to be relied on that it is up, or soon will be. ``woken`` is when the machine last
    woke from a sleep: who was heard before that only is doubted at once. ``hurry``: many are silent."""
    if not tunnel.up:
        return now >= tunnel.since + (HURRIED if hurry else SLOW)
    return tunnel.silent is not None and (hurry or tunnel.silent <= woken or now >= tunnel.silent + DOUBT)


def dead(tunnel: Watched, woken: float, now: float, *, last: bool) -> bool:
    """Whether it is to be given up. ``last``: nobody is heard over any other."""
    if not tunnel.up or tunnel.silent is None:
        return False
    if tunnel.silent <= woken:
        return now >= woken + (ANSWERS if woken - tunnel.silent < GONE else 0.0)
    return now >= tunnel.silent + (LAST_SILENCE if last else SILENCE)


def next_doubt(tunnel: Watched, woken: float, now: float, *, hurry: bool) -> float | None:
    """When either answer may be another one, if nothing is heard until then."""
    whens = []
    if not tunnel.up:
        whens = [tunnel.since + (HURRIED if hurry else SLOW)]
    elif tunnel.silent is not None:
        whens = [tunnel.silent + patience for patience in (DOUBT, SILENCE, LAST_SILENCE)]
        whens += [woken + ANSWERS] * (tunnel.silent <= woken)
    return min((when for when in whens if when > now), default=None)
