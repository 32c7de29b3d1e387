"""Time that goes on at its pace when somebody sets the machine's clock.

A reactor's own is the machine's (time.time): when that is set forward, all timers fire, and nobody seems to
have been heard for long; set back, none fires until it has caught up. Machines without a battery for their
clock have it set some time after their start.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

since_boot = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
"""Seconds, those in which the machine slept among them (clock_gettime(2))."""


def steady(
    calendar: Callable[[], float] = time.time, running: Callable[[], float] = since_boot
) -> Callable[[], float]:
    """What tells Unix time as it is if nobody sets the clock from now on."""
    offset = calendar() - running()
    return lambda: offset + running()
