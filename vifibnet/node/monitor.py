"""A connection to babeld's control socket: all that it has, then every change that says something new.

Most of what babeld says is no news. Whenever the round-trip time to a neighbour has changed, and with every
update, it tells all routes of that neighbour anew, each with a write of its own: hundreds of lines a second
where there are forty neighbours. So they are read some at a time, and what differs only a little from what
was said before is passed over.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from vifibnet.model.liveness import INFINITY
from vifibnet.node.ticks import until_tick
from vifibnet.node.told import Told
from vifibnet.wire import babeld as wire

PAUSE = 0.05
"""Seconds between two reads of what babeld says of itself, as between two looks of the heartbeats. It waits a
tenth of a second for who does not read (babeld 1.12, write_timeout), and hangs up then."""

LITTLE = 8
"""A metric that differs by less is the same: a twelfth of what the best link costs."""


class Listener(Protocol):
    """Who wants to hear of it."""

    def known(self, link: Monitor, told: Told) -> None:
        """That is all that babeld has; changes follow."""

    def changed(self, change: wire.Change) -> None:
        """One thing is new, other than before, or gone."""

    def lost(self, link: Monitor) -> None:
        """The connection has ended."""

    def patient(self) -> bool:
        """Whether changes need not be told at once."""


class Monitor(LineOnlyReceiver):
    """Reads what babeld says, and asks it."""

    delimiter = b"\n"

    def __init__(self, reactor: Any, listener: Listener) -> None:
        self._reactor = reactor
        self._listener = listener
        self._asked: list[Deferred[wire.Reply]] = []
        self._replies = 0
        self._dump = Told()
        # What was said last: the words but for verb and metric, by what they are about; the metric by these.
        self._words: dict[bytes, bytes] = {}
        self._metrics: dict[bytes, int] = {}
        self._pause: IDelayedCall | None = None

    def ask(self, line: str) -> Deferred[wire.Reply]:
        """Say one line; fires with the answer, or fails with ConnectionError."""
        answer: Deferred[wire.Reply] = Deferred()
        self._asked.append(answer)
        self.sendLine(line.encode())
        if self._pause is not None:
            self._pause.cancel()
            self._read_on()
        return answer

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Take what has come; let more come together before the next look."""
        super().dataReceived(data)
        busy = self._replies < 2 or self._asked or self._pause or self._transport.disconnecting
        if not busy and self._listener.patient():
            self._transport.pauseProducing()
            self._pause = self._reactor.callLater(until_tick(self._reactor.seconds(), PAUSE), self._read_on)

    def _read_on(self) -> None:
        self._pause = None
        if not self._transport.disconnecting:
            self._transport.resumeProducing()

    @property
    def _transport(self) -> Any:
        return self.transport

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Nobody will answer any more."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._listener.lost(self)
        asked, self._asked = self._asked, []
        for answer in asked:
            answer.errback(ConnectionError("babeld is gone"))

    def lineReceived(self, line: bytes) -> None:  # noqa: N802
        """One of thousands."""
        verb, _, rest = line.partition(b" ")
        words, metric = _without_metric(rest)
        if verb == b"change" and _is_same(metric, self._metrics.get(words)):
            return
        self._remember(verb, words, metric)
        event = wire.parse_monitor(line.decode(errors="replace"))
        if isinstance(event, wire.Reply):
            self._replies += 1
            if self._replies == 1:
                self.sendLine(b"monitor")
            elif self._replies == 2:
                self._listener.known(self, self._dump)
            elif self._asked:
                self._asked.pop(0).callback(event)
        elif event is not None and self._replies < 2:
            self._dump.put(event.item)
        elif event is not None:
            self._listener.changed(event)

    def _remember(self, verb: bytes, words: bytes, metric: int) -> None:
        """What it says last of a thing is what it may repeat."""
        if verb not in (b"add", b"change", b"flush"):
            return
        about = b" ".join(words.split(b" ", 2)[:2])
        self._metrics.pop(self._words.pop(about, b""), None)
        if verb != b"flush":
            self._words[about] = words
            self._metrics[words] = metric


def _without_metric(words: bytes) -> tuple[bytes, int]:
    """The words but for the metric, and that."""
    head, found, tail = words.partition(b" metric ")
    metric, _, tail = tail.partition(b" ")
    return (head + b" " + tail, int(metric)) if found and metric.isdigit() else (words, 0)


def _is_same(metric: int, before: int | None) -> bool:
    """Whether it may count as the same. Whether something can be reached at all always matters."""
    if before is None or metric == before:
        return metric == before
    return abs(metric - before) < LITTLE and INFINITY not in (metric, before)
