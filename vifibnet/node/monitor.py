"""A connection to babeld's control socket: all that it has, then every change that says something new.

Most of what babeld says is no news. Whenever the round-trip time to a neighbour has changed, and with every
update, it tells all routes of that neighbour anew, each with a write of its own: hundreds of lines a second
where there are forty neighbours. So they are read some at a time, and what differs only a little from what
was said before is passed over.
"""

from __future__ import annotations

from math import inf
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from vifibnet.model.liveness import INFINITY
from vifibnet.node.ticks import until_tick
from vifibnet.node.told import Told
from vifibnet.wire import babeld as wire

PAUSE = 0.1
"""Seconds at most between two reads of what babeld says of itself. It waits a tenth of a second for who does
not read (babeld 1.12, write_timeout), and hangs up then."""

FEW = 2000
"""As long as babeld has no more than so many things to tell of, to be told all again costs little; and it
seldom says more in a moment than what the kernel keeps for us. Then who listens says alone how long that may
wait."""

MUCH = 16384
"""Bytes at once after which there is no pause: there may be more to come than what the kernel keeps for us
meanwhile, some 280 lines."""

LITTLE = 8
"""A metric that differs by less is the same, our own and the neighbour's: a twelfth of what the best link
costs."""

SLIGHT, EIGHTH = 2.0, 8
"""A round-trip time that differs by fewer milliseconds, or by less than an eighth, is the same. What it costs
is told apart."""

NEIGHBOUR = b"neighbour "
"""What words about a neighbour begin with."""

Figures = tuple[float, ...]
"""A route's metric and the one that the neighbour announces, or a neighbour's round-trip time."""


class Listener(Protocol):
    """Who wants to hear of it."""

    def known(self, link: Monitor, told: Told) -> None:
        """That is all that babeld has; changes follow."""

    def changed(self, change: wire.Change) -> None:
        """One thing is new, other than before, or gone."""

    def lost(self, link: Monitor) -> None:
        """The connection has ended."""

    def patience(self) -> float:
        """For how many seconds changes may wait; 0 when they are to be told at once."""


class Monitor(TwistedProtocol):
    """Reads what babeld says, and asks it."""

    log = Logger()

    def __init__(self, reactor: Any, listener: Listener) -> None:
        self._reactor = reactor
        self._listener = listener
        self._asked: list[Deferred[wire.Reply]] = []
        self._replies = 0
        self._dump = Told()
        # What was said last: the words but for verb and figures, by what they are about; the figures, by
        # these words.
        self._words: dict[bytes, bytes] = {}
        self._figures: dict[bytes, Figures] = {}
        # The lines that have said the same again, and will once more; by these words.
        self._repeats: set[bytes] = set()
        self._repeated: dict[bytes, bytes] = {}
        self._begun = b""
        self._much = False
        self._pause: IDelayedCall | None = None

    def ask(self, line: str) -> Deferred[wire.Reply]:
        """Say one line; fires with the answer, or fails with ConnectionError."""
        answer: Deferred[wire.Reply] = Deferred()
        self._asked.append(answer)
        self._transport.write(f"{line}\n".encode())
        self.hasten()
        return answer

    def hasten(self) -> None:
        """Read on at once."""
        if self._pause is not None:
            self._pause.cancel()
            self._read_on()

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Take what has come; let more come together before the next look."""
        self._much = len(data) >= MUCH
        *lines, self._begun = (self._begun + data).split(b"\n")
        for line in lines:
            if line not in self._repeats:
                self._take(line)
        if self._pause is None and self._is_patient():
            self._transport.pauseProducing()
            self._rest()

    def _is_patient(self) -> bool:
        busy = self._replies < 2 or self._asked or self._much or self._transport.disconnecting
        return not busy and self._listener.patience() > 0

    def _rest(self) -> None:
        longest = inf if len(self._words) <= FEW else PAUSE
        pause = until_tick(self._reactor.seconds(), min(longest, self._listener.patience()))
        self._pause = self._reactor.callLater(pause, self._look)

    def _look(self) -> None:
        """Read what there is, if that will do. The reactor, which would take two turns and two calls of the
        kernel for it, is told only when something else is to be done, or the connection has ended."""
        self._pause = None
        try:
            if not (self._is_patient() and self._transport.doRead() is None and self._is_patient()):
                self._read_on()
            elif self._pause is None:
                self._rest()
        except Exception:
            # Nobody would read on. Whoever connects anew is told everything.
            self.log.failure("what babeld says cannot be dealt with")
            self._transport.abortConnection()

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

    def _take(self, line: bytes) -> None:
        verb, _, rest = line.partition(b" ")
        words, figures = _without_figures(rest)
        if verb == b"change" and _is_same(words, figures, before := self._figures.get(words)):
            if figures == before:
                self._repeats.add(line)
                self._repeated[words] = line
            return
        self._remember(verb, words, figures)
        event = wire.parse_monitor(line.decode(errors="replace"))
        if isinstance(event, wire.Reply):
            self._replies += 1
            if self._replies == 1:
                self._transport.write(b"monitor\n")
            elif self._replies == 2:
                self._listener.known(self, self._dump)
            elif self._asked:
                self._asked.pop(0).callback(event)
        elif event is not None and self._replies < 2:
            self._dump.put(event.item)
        elif event is not None:
            self._listener.changed(event)

    def _remember(self, verb: bytes, words: bytes, figures: Figures) -> None:
        """What it says last of a thing is what it may repeat."""
        if verb not in (b"add", b"change", b"flush"):
            return
        about = b" ".join(words.split(b" ", 2)[:2])
        old = self._words.pop(about, b"")
        self._figures.pop(old, None)
        self._repeats.discard(self._repeated.pop(old, b""))
        if verb != b"flush":
            self._words[about] = words
            self._figures[words] = figures


def _without_figures(words: bytes) -> tuple[bytes, Figures]:
    """The words but for the figures, and these."""
    try:
        if words.startswith(NEIGHBOUR):
            head, found, tail = words.partition(b" rtt ")
            figure, _, tail = tail.partition(b" ")
            return (head + b" " + tail, (float(figure),)) if found else (words, ())
        head, found, tail = words.partition(b" metric ")
        metric, _, tail = tail.partition(b" refmetric ")
        announced, _, tail = tail.partition(b" ")
        return (head + b" " + tail, (float(metric), float(announced))) if found else (words, ())
    except ValueError:
        return words, ()


def _is_same(words: bytes, figures: Figures, before: Figures | None) -> bool:
    """Whether it may count as the same."""
    if before is None or figures == before:
        return figures == before
    if words.startswith(NEIGHBOUR):
        return abs(figures[0] - before[0]) < max(SLIGHT, before[0] / EIGHTH)
    return all(map(_is_close, figures, before))


def _is_close(one: float, other: float) -> bool:
    """Whether two metrics are the same. It always matters whether something can be reached at all, and
    whether it is the neighbour itself."""
    return one == other or (abs(one - other) < LITTLE and {one, other}.isdisjoint((0, INFINITY)))
