"""The life of a child process as a table, when it is tried again, and what is worth saying of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

from vifibnet.model.tunnels import RandomSource

FIRST_DELAY = 0.2
"""Seconds between the end of a run and the next try, at most; twice as many after each short run more."""

LONGEST_DELAY = 60.0

LONG_ENOUGH = 3.0
"""A program that ran for so many seconds is started again as soon as if it had never failed."""

WELL_AFTER = 60.0
"""A program that failed is well again when it has run for so many seconds: one that fails every half minute
is not, and is not reported every half minute either."""

COMPLAINTS = 3
"""How many different reasons are reported of a program that fails again and again."""


class State(StrEnum):
    """Where a child is; only in ``RUNNING``, ``STOPPING`` and ``REPLACING`` there may be a process, and never
    two."""

    STOPPED = "stopped"
    """Nothing runs, and nothing shall."""
    PREPARING = "preparing"
    """What has to be done before a start is being done."""
    RUNNING = "running"
    BACKING_OFF = "backing off"
    """It has failed; the next try is due at a certain moment."""
    STOPPING = "stopping"
    """It was told to end, or what precedes its start is ending; nothing follows."""
    REPLACING = "replacing"
    """The same, but it is started again at once."""


class Event(StrEnum):
    """What happens to it. The first three are what others want; the rest happens."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    SPAWNED = "spawned"
    """There is a process."""
    ENDED = "ended"
    """There is none any more, or a try has ended without one."""
    DUE = "due"
    """The time to back off is over."""


WANTED = frozenset({Event.START, Event.STOP, Event.RESTART})
"""These may come at any time; what the table does not have changes nothing."""

TABLE: Mapping[tuple[State, Event], State] = MappingProxyType(
    {
        (State.STOPPED, Event.START): State.PREPARING,
        (State.PREPARING, Event.SPAWNED): State.RUNNING,
        (State.PREPARING, Event.ENDED): State.BACKING_OFF,
        (State.PREPARING, Event.RESTART): State.REPLACING,
        (State.PREPARING, Event.STOP): State.STOPPING,
        (State.RUNNING, Event.ENDED): State.BACKING_OFF,
        (State.RUNNING, Event.RESTART): State.REPLACING,
        (State.RUNNING, Event.STOP): State.STOPPING,
        (State.BACKING_OFF, Event.DUE): State.PREPARING,
        (State.BACKING_OFF, Event.RESTART): State.PREPARING,
        (State.BACKING_OFF, Event.STOP): State.STOPPED,
        (State.STOPPING, Event.ENDED): State.STOPPED,
        (State.STOPPING, Event.START): State.REPLACING,
        (State.REPLACING, Event.ENDED): State.PREPARING,
        (State.REPLACING, Event.STOP): State.STOPPING,
    }
)
"""All that can follow."""


def after(state: State, event: Event) -> State:
    """The state that follows. Raises KeyError for what cannot happen in this one."""
    if event in WANTED:
        return TABLE.get((state, event), state)
    return TABLE[state, event]


def delay(short: int, alive: float, rng: RandomSource) -> float:
    """Seconds until the next try, after so many runs in a row that were too ``short``.

    The seconds that the last of them was ``alive`` count as waited. Half of the rest is left to chance.
    """
    longest: float = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(max(short, 1) - 1, 16))
    return max(longest - alive, min(longest, FIRST_DELAY)) * (0.5 + 0.5 * rng.random())


@dataclass(frozen=True)
class History:
    """What a child has behind it: ``restarts`` that nobody wanted since its supervisor was made; ``failures``
    in a row since it was last well, the first of them at ``since``, of which the last ``short`` ones came too
    soon; the last ``complaint``, from when on (``complained``); and which were ``told``."""

    restarts: int = 0
    failures: int = 0
    short: int = 0
    since: float = 0.0
    complaint: str = ""
    complained: float | None = None
    told: frozenset[str] = field(default_factory=frozenset)

    def failed(self, now: float, alive: float, complaint: str) -> History:
        """It has ended unasked, or could not be started, after so many seconds."""
        return History(
            restarts=self.restarts + 1,
            failures=self.failures + 1,
            short=1 if alive >= LONG_ENOUGH else self.short + 1,
            since=self.since if self.failures else now,
            complaint=complaint,
            complained=now,
            told=self.told | {complaint} if self.is_news(complaint) else self.told,
        )

    def is_news(self, complaint: str) -> bool:
        """Whether the operator should hear of this: once of each reason, and of a few only."""
        return complaint not in self.told and len(self.told) < COMPLAINTS

    def well(self) -> History:
        """It has run for long enough, or starts afresh: what it does next is news."""
        return replace(self, failures=0, short=0, since=0.0, told=frozenset())
