"""Doing at the same moments what is done some times a second.

A process that wakes costs more than what it then does. Who waits for multiples of a period, counted from the
epoch, wakes together with all others who do.
"""

from __future__ import annotations

from math import floor

_ROUNDING = 1e-3
"""What part of a period before its end counts as its end."""


def until_tick(now: float, period: float) -> float:
    """Seconds from ``now`` to the next multiple of ``period`` seconds; about a period when it is one."""
    return (floor(now / period + _ROUNDING) + 1) * period - now
