"""Questions to the network that only packets can answer: who reaches whom, by what way, with what outage."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from vifibnet.lab import pinger
from vifibnet.lab.children import Child, Reactor, run, together

SMALL = 56
"""Bytes of payload in an ordinary ping."""


def _ignore(address: str, size: int, when: float) -> None:
    """Nobody wants to know at once."""


Inside = Callable[[Sequence[str]], list[str]]
"""Makes a command line one that runs on a certain host."""


def full_size(mtu: int) -> int:
    """The payload of a ping that fills a packet of ``mtu`` bytes: IPv6 and ICMPv6 headers take 48."""
    return mtu - 48


async def answers(
    reactor: Reactor,
    inside: Inside,
    addresses: Iterable[str],
    *,
    sizes: Sequence[int] = (SMALL,),
    interval: float = 0.1,
    timeout: float = 60.0,
    on_answer: Callable[[str, int, float], None] = _ignore,
) -> dict[tuple[str, int], float]:
    """Ping addresses from one host until each has answered in each size, or the time is up.

    Returns when each answered (seconds since the epoch), by address and size; what is missing never did.
    """
    found: dict[tuple[str, int], float] = {}
    wanted = list(addresses)
    if not wanted:
        return found

    def line(text: str) -> None:
        address, size, when = text.split()
        found[address, int(size)] = float(when)
        on_answer(address, int(size), float(when))

    command = [sys.executable, "-I", "-S", str(Path(pinger.__file__)), f"--interval={interval}"]
    command += [f"--seconds={timeout}", f"--sizes={','.join(map(str, sizes))}", *wanted]
    child = Child(reactor, inside(command), line)
    child.start()
    try:
        await child.ended().addTimeout(timeout + 5, reactor, lambda *_: -1)
    finally:
        await child.stop()
    return found


@dataclass(frozen=True)
class Outage:
    """What a ping met: the longest time without an answer (seconds), and how many of its packets got none."""

    seconds: float
    sent: int
    lost: int


def outage(arrivals: Mapping[int, float], interval: float) -> Outage:
    """Judge a ping by the arrival times of its answers, by sequence number; without any it is infinite.

    The gap between two answers is ``interval`` when nothing is wrong, so that much is no outage.
    """
    if not arrivals:
        return Outage(float("inf"), 0, 0)
    times = sorted(arrivals.values())
    sent = max(arrivals) - min(arrivals) + 1
    longest = max((later - earlier for earlier, later in pairwise(times)), default=interval)
    return Outage(max(0.0, longest - interval), sent, sent - len(arrivals))


_ANSWER = re.compile(r"\[(\d+\.\d+)\] \d+ bytes from \S+?:? .*icmp_seq=(\d+) .*time=([\d.]+) ms")


@dataclass
class Watch:
    """``ping -D`` going on between two hosts: when the answers came, by sequence number."""

    child: Child
    interval: float
    arrivals: dict[int, float] = field(default_factory=dict)
    last_ms: float = 0.0

    @classmethod
    def start(cls, reactor: Reactor, inside: Inside, address: str, interval: float = 0.05) -> Watch:
        """Begin to ping."""
        command = ["ping", "-6", "-n", "-D", "-i", f"{interval:g}", "-s", str(SMALL), address]
        watch = cls(Child(reactor, inside(command)), interval)
        watch.child.on_line = watch._line
        watch.child.start()
        return watch

    def _line(self, text: str) -> None:
        if match := _ANSWER.match(text):
            self.arrivals.setdefault(int(match[2]), float(match[1]))
            self.last_ms = float(match[3])

    @property
    def last(self) -> float:
        """When the last answer came; 0.0 when none has."""
        return max(self.arrivals.values(), default=0.0)

    async def stop(self) -> Outage:
        """Stop and judge."""
        await self.child.stop()
        return outage(self.arrivals, self.interval)


async def trace(reactor: Reactor, inside: Inside, address: str, longest: int = 8) -> list[str]:
    """The addresses of the routers between a host and an address, and the address itself, in order.

    One ping per distance, all at once. What did not answer is ``?``; empty when the address did not.
    """

    async def at(hops: int) -> tuple[bool, str]:
        command = ["ping", "-6", "-n", "-c", "1", "-W", "1", "-t", str(hops), address]
        said = (await run(reactor, inside(command), check=False)).output
        match = re.search(r"^(?:From|\d+ bytes from) ([0-9a-f:]+?):? .*(Time exceeded|time=)", said, re.M)
        return (match[2] == "time=", match[1]) if match else (False, "?")

    way = await together(at(hops) for hops in range(1, longest + 1))
    arrived = [answered for answered, _ in way]
    return [where for _, where in way[: arrived.index(True) + 1]] if True in arrived else []
