"""What a port bears: how many, how fast, how large, how slow."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Network

from twisted.internet.interfaces import IReactorTime

from vifibnet.model.addresses import normal_address

SPARE_DESCRIPTORS = 64
"""File descriptors that connections leave to the database, the log, the mails and the operator."""

_SWEEP = 1024
"""From how many addresses on those that have nothing to remember are forgotten."""


@dataclass(frozen=True)
class Limits:
    """The bounds; seconds and bytes. The defaults are the registry's: a network of thousands, many of them
    behind one NAT, fits into them."""

    handshakes: int = 64
    """TLS handshakes under way, give or take one batch; who comes then waits in the kernel's queue."""
    handshake_turn: float = 1.0
    """A handshake that takes longer no longer keeps others waiting."""
    handshake_timeout: float = 15.0
    connections: int | None = None
    """In all; None: as many as there are file descriptors. More wait in the kernel's queue."""
    connections_per_address: int = 1000
    """Per IPv4 address or IPv6 /64; more are closed at once."""
    connections_per_certificate: int = 4
    """Over AMP; one more closes the oldest, which a node that dials again has given up."""
    calls_per_second: float = 500.0
    """Per IPv4 address or IPv6 /64, after a burst; what comes faster is answered later."""
    calls_burst: float = 2000.0
    requests_per_connection: int = 1000
    """Over HTTP, whose clients dial again without further ado."""
    request_time: float = 30.0
    """From the first to the last byte of an HTTP request."""
    box: int = 64 * 1024
    """Bytes of an AMP box."""
    stalled: float = 30.0
    """Within this time who does not read must take what waits for it."""
    silence: float = 600.0
    """A node that says nothing over AMP for so long, up to twice that, is asked whether it is there: the
    kernel's own probes tell of a machine and a way that are gone, but not of a process that hangs."""
    answer: float = 60.0
    """Within this time it has to answer."""
    stranger: float = 60.0
    """So long may a connection last whose certificate counts for nothing, or for its renewal only."""


class Rate:
    """How fast calls come from each address: those above the rate are told to wait, never refused."""

    def __init__(self, clock: IReactorTime, per_second: float, burst: float) -> None:
        self._clock = clock
        self._per_second = per_second
        self._burst = burst
        self._levels: dict[str, tuple[float, float]] = {}
        self._sweep_at = _SWEEP

    def take(self, source: str) -> float:
        """Count one call; the seconds that its caller should be kept waiting."""
        now = self._clock.seconds()
        key = neighbourhood(source)
        level, at = self._levels.get(key, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._per_second) - 1
        self._levels[key] = (level, now)
        if len(self._levels) > self._sweep_at:
            self._sweep(now)
        return max(0.0, -level / self._per_second)

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._levels)

    def _sweep(self, now: float) -> None:
        """Forget whose burst is whole again; seldom enough to cost nothing."""
        self._levels = {
            key: (level, at)
            for key, (level, at) in self._levels.items()
            if level + (now - at) * self._per_second < self._burst
        }
        self._sweep_at = max(_SWEEP, 2 * len(self._levels))


@lru_cache(maxsize=4096)
def neighbourhood(host: str) -> str:
    """What is counted as one address: an IPv4 address, or the /64 of an IPv6 one, which is one customer's."""
    address = normal_address(host)
    if address is None or address.version == 4:
        return str(address or host)
    return str(IPv6Network((address, 64), strict=False))


def descriptors() -> int:
    """How many connections the file descriptors of this process are enough for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, soft - SPARE_DESCRIPTORS)


def raise_descriptors() -> None:
    """Take as many file descriptors as we may: distributions give 1,024 and allow many more."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
