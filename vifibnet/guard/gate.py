"""Who may come in now, who waits, and who is sent away."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from vifibnet.guard.limits import Limits, descriptors, neighbourhood

log = Logger()


class Gate:
    """Counts connections and handshakes, and stops accepting while there are enough of them.

    A handshake costs a millisecond: after a restart thousands of nodes come at once. Those who wait in the
    kernel's queue, or whose first packet the kernel drops when that is full, cost us nothing, and all whom
    we accept are answered before they lose patience and come again.
    """

    def __init__(self, clock: IReactorTime, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._most = descriptors() if limits.connections is None else limits.connections
        self._from: dict[str, int] = {}
        self._total = 0
        self._shaking = 0
        self._ports: list[Any] = []
        self.closed = False
        """Whether those who come now have to wait."""

    def watch(self, port: Any) -> None:
        """Stop accepting from this listening port (of TCP) while there are enough."""
        self._ports.append(port)
        if self.closed:
            port.stopReading()
        self._adjust()

    def release(self) -> None:
        """Let the ports alone from now on."""
        self._ports.clear()

    def admits(self, host: str) -> bool:
        """Whether one more may come from this address."""
        key = neighbourhood(host)
        count = self._from.get(key, 0)
        if count < self._limits.connections_per_address:
            return True
        # Once when the limit is reached, not at each attempt.
        log.debug("refused a connection from {source}: it has {count}", source=key, count=count)
        return False

    def enter(self, host: str) -> Visit:
        """A connection was made; its handshake begins."""
        key = neighbourhood(host)
        count = self._from[key] = self._from.get(key, 0) + 1
        if count == self._limits.connections_per_address:
            log.warn("{source} has {count} connections and gets no more", source=key, count=count)
        self._total += 1
        self._shaking += 1
        visit = Visit(self, key)
        visit.turn = self._clock.callLater(self._limits.handshake_turn, visit.overdue)
        self._adjust()
        return visit

    def shaken(self) -> None:
        """A handshake no longer counts."""
        self._shaking -= 1
        self._adjust()

    def left(self, key: str) -> None:
        """A connection ended."""
        self._total -= 1
        self._from[key] -= 1
        if not self._from[key]:
            del self._from[key]
        self._adjust()

    def __len__(self) -> int:
        """How many are in."""
        return self._total

    def _adjust(self) -> None:
        room = min(self._limits.handshakes - self._shaking, self._most - self._total)
        closed = room <= 0
        for port in self._ports:
            # How many a port accepts in one go.
            port.numberAccepts = max(1, room)
            if closed and not self.closed:
                port.stopReading()
            elif self.closed and not closed:
                port.startReading()
        self.closed = closed


class Visit:
    """One connection, as the gate sees it."""

    __slots__ = ("_gate", "_key", "turn")

    def __init__(self, gate: Gate, key: str) -> None:
        self._gate = gate
        self._key = key
        self.turn: IDelayedCall | None = None

    def shaken(self) -> None:
        """The handshake ended, this way or that."""
        if self.turn is not None:
            self.turn.cancel()
            self.overdue()

    def overdue(self) -> None:
        """The handshake does not count any more."""
        self.turn = None
        self._gate.shaken()

    def left(self) -> None:
        """The connection ended."""
        self.shaken()
        self._gate.left(self._key)
