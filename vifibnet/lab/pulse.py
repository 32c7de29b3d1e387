"""A hundred pings a second between two hosts while something fails: which were lost, and for how long."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

from vifibnet.errors import VifibnetError
from vifibnet.lab import pulser
from vifibnet.lab.children import Child, Reactor
from vifibnet.lab.probe import Inside

INTERVAL = 0.01
"""Seconds between two pings."""

LATE = 1.0
"""Seconds after which an answer is none: who is answered so late has waited in vain."""


class NoPulse(VifibnetError):
    """The pings to {address} ended before they were to: {said}"""


@dataclass(frozen=True)
class Verdict:
    """What a failure cost: ``lost`` pings; ``gap`` seconds, the longest time without an answered one;
    ``until`` the end of the last such time, in seconds after the failure (0.0 when none was lost).

    When the last ping of all was lost, both are infinite.
    """

    lost: int
    gap: float
    until: float


@dataclass
class Pulse:
    """The pings from one host to one address: when the first was due, the answered ones' delays by number.

    ``count`` and ``behind`` (how late the latest was sent, in seconds) are known when it has stopped.
    """

    child: Child
    address: str
    interval: float = INTERVAL
    began: float = 0.0
    delay: dict[int, float] = field(default_factory=dict)
    count: int = 0
    behind: float = 0.0

    @classmethod
    def start(cls, reactor: Reactor, inside: Inside, address: str, interval: float = INTERVAL) -> Pulse:
        """Begin to ping."""
        command = [sys.executable, "-I", "-S", str(Path(pulser.__file__)), f"--interval={interval}", address]
        pulse = cls(Child(reactor, inside(command)), address, interval)
        pulse.child.on_line = pulse.line
        pulse.child.start()
        return pulse

    def line(self, text: str) -> None:
        """Take in what the child says."""
        first, second, third = text.split()
        if first == "begin":
            self.began = float(third)
        elif first == "end":
            self.count, self.behind = int(second), float(third)
        elif (delay := float(third) - float(second)) <= LATE:
            self.delay[int(first)] = delay

    def due(self, number: int) -> float:
        """When a ping was to be sent."""
        return self.began + number * self.interval

    def steady(self, now: float, seconds: float) -> bool:
        """Whether all pings of the last ``seconds``, but the very last, were answered."""
        if not self.began or now - seconds < self.began:
            return False
        last = math.floor((now - 0.2 - self.began) / self.interval)
        first = math.ceil((now - seconds - self.began) / self.interval)
        return all(number in self.delay for number in range(first, last))

    async def stop(self, timeout: float = 10.0) -> None:
        """Stop pinging and wait for the last answers. Raises NoPulse when the child had failed."""
        if self.child.transport is not None:
            self.child.transport.closeStdin()
        await self.child.ended().addTimeout(timeout, self.child.reactor, lambda *_: -1)
        if not self.count:
            await self.child.stop()
            raise NoPulse(address=self.address, said=self.child.errors.decode(errors="replace")[-500:])

    def holes(self) -> list[tuple[int, int]]:
        """The runs of lost pings: the first's number, and the number after the last's."""
        found: list[tuple[int, int]] = []
        for number in range(self.count):
            if number in self.delay:
                continue
            if found and found[-1][1] == number:
                found[-1] = (found[-1][0], number + 1)
            else:
                found.append((number, number + 1))
        return found

    def verdict(self, since: float) -> Verdict:
        """Judge what happened to the pings that were due from a moment on; they have stopped."""
        start = max(0, math.ceil((since - self.began) / self.interval))
        holes = [(max(first, start), end) for first, end in self.holes() if end > start]
        lost = sum(end - first for first, end in holes)
        if not holes:
            return Verdict(0, 0.0, 0.0)
        if holes[-1][1] == self.count:
            return Verdict(lost, math.inf, math.inf)
        gap = max(end - first for first, end in holes) * self.interval
        return Verdict(lost, gap, self.due(holes[-1][1]) - since)
