"""Passing the registry's documents on between neighbours, so that a change needs no registry to arrive.

Each node tells the numbers of its documents: to whoever comes, now and then, and to all when one is new; see
wire.hearsay for who answers what. A new document itself goes to all neighbours at once, and again until they
have told its number. The documents hold secrets: they go to the other ends of our tunnels, whose certificates
were checked, and to nobody else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from vifibnet.errors import BadDocument
from vifibnet.node.documents import Documents, Keeper
from vifibnet.node.tapsocket import ALL_NODES
from vifibnet.wire.document import Kind
from vifibnet.wire.hearsay import MAX_SENT, Numbers, format_numbers, kind_of, parse_numbers

AGAIN = (0.1, 0.3, 0.6)
"""Seconds between one telling and the next, for what is lost or comes before the other end's tap is up."""

BURST, RATE = 20.0, 10.0
"""How many datagrams of a tap are looked at: so many at once, and so many a second. A signature takes some
0.1 ms to check."""

BURST_PER_PEER, RATE_PER_PEER = 4.0, 1.0
"""How many more for each peer that is served over it."""


class Send(Protocol):
    """Sends a datagram over a tap."""

    def __call__(self, interface: str, data: bytes, to: str = ALL_NODES) -> None:
        """To one link-local address, or to all that are there."""


class Gossip:
    """Tells neighbours which documents we have, and exchanges newer ones."""

    log = Logger()

    def __init__(
        self, reactor: Any, documents: Documents, taps: Callable[[], Mapping[str, int]], send: Send
    ) -> None:
        """``taps`` tells how many peers there are behind each of our taps."""
        self._reactor = reactor
        self._documents = documents
        self._taps = taps
        self._send = send
        self._running = False
        self._calls: dict[object, IDelayedCall] = {}
        self._have: dict[Kind, defaultdict[str, set[str]]] = {}
        self._budgets: dict[str, tuple[float, float]] = {}
        documents.on_new = self._new

    def start(self) -> None:
        """There is a socket to send over."""
        self._running = True
        self.somebody_came()

    def stop(self) -> None:
        """Tell nothing more."""
        self._running = False
        for call in self._calls.values():
            if call.active():
                call.cancel()

    # -- telling --------------------------------------------------------------------------------------

    def tell(self) -> None:
        """Tell everybody our numbers."""
        for tap in self._taps():
            self._send(tap, self._numbers())

    def somebody_came(self) -> None:
        """Tell our numbers soon, and some more times."""
        first, pending = AGAIN[0], self._calls.get(self)
        if pending is not None and pending.active():
            # However fast they come, the first is not told later.
            first = min(first, max(0.0, pending.getTime() - self._reactor.seconds()))
        self._later(self, (first, *AGAIN[1:]), self._tell_again)

    def _tell_again(self, pauses: Sequence[float]) -> None:
        self.tell()
        self._later(self, pauses, self._tell_again)

    def _new(self, keeper: Keeper) -> None:
        """We have a new document, whoever it is from."""
        self._have[keeper.kind] = defaultdict(set)
        if self._running:
            self._spread(keeper, AGAIN)

    def _spread(self, keeper: Keeper, pauses: Sequence[float]) -> None:
        """Send it to all who have not told that they have it."""
        have = self._have[keeper.kind]
        for tap, peers in self._taps().items():
            if len(have[tap]) < peers:
                self._send_document(keeper, tap)
        self._later(keeper.kind, pauses, partial(self._spread, keeper))

    def _later(self, what: object, pauses: Sequence[float], call: Callable[[Sequence[float]], None]) -> None:
        """Call after the first pause with the others, if there is one; only one call for each thing waits."""
        waiting = self._calls.pop(what, None)
        if waiting is not None and waiting.active():
            waiting.cancel()
        if pauses:
            self._calls[what] = self._reactor.callLater(pauses[0], call, pauses[1:])

    def _numbers(self, want: bool = False) -> bytes:
        numbers = {keeper.kind: keeper.number for keeper in self._documents.keepers}
        return format_numbers(Numbers(numbers, want))

    def _send_document(self, keeper: Keeper, tap: str, to: str = ALL_NODES) -> None:
        """Send what fits into a datagram; for the rest there is its number."""
        self._send(tap, keeper.data if len(keeper.data) <= MAX_SENT else self._numbers(), to)

    # -- hearing --------------------------------------------------------------------------------------

    def datagram(self, data: bytes, tap: str, source: str) -> None:
        """Somebody has sent something; only the other ends of our tunnels are listened to."""
        peers = self._taps().get(tap, 0)
        if not peers or not self._affordable(tap, peers):
            return
        numbers, kind = parse_numbers(data), kind_of(data)
        if numbers is not None:
            self._compare(numbers, tap, source)
        for keeper in self._documents.keepers:
            if keeper.kind == kind:
                self._receive(keeper, data, tap, source)

    def _affordable(self, tap: str, peers: int) -> bool:
        """Whether one more datagram is looked at."""
        most, now = BURST + BURST_PER_PEER * peers, self._reactor.seconds()
        left, since = self._budgets.get(tap, (most, now))
        left = min(most, left + (now - since) * (RATE + RATE_PER_PEER * peers))
        self._budgets[tap] = (left - 1 if left >= 1 else left), now
        return left >= 1

    def _compare(self, told: Numbers, tap: str, source: str) -> None:
        behind = False
        for keeper in self._documents.keepers:
            theirs = told.numbers.get(keeper.kind)
            if theirs is None:
                continue
            if theirs < keeper.number:
                if len(keeper.data) <= MAX_SENT:
                    self._send(tap, keeper.data, source)
            else:
                self._has(keeper, tap, source)
                behind |= theirs > keeper.number
        # Were this answered like what it answers, two who cannot help each other would never end.
        if behind and not told.want:
            self._send(tap, self._numbers(want=True), source)

    def _receive(self, keeper: Keeper, data: bytes, tap: str, source: str) -> None:
        """A document, or something that looks like one. Of a bad one nothing is said to who sent it: it would
        come again."""
        if data != keeper.data:
            try:
                self._documents.take(keeper, data)
            except BadDocument as error:
                self.log.debug("{tap} brings {kind}: {error}", tap=tap, kind=keeper.kind, error=str(error))
                return
        if data == keeper.data:
            self._has(keeper, tap, source)
        self._send(tap, self._numbers(), source)

    def _has(self, keeper: Keeper, tap: str, source: str) -> None:
        """Somebody has our document, or a newer one."""
        have = self._have.get(keeper.kind)
        # No more than there are peers: whoever pretends to be many gets nowhere.
        if have is not None and len(have[tap]) < self._taps().get(tap, 0):
            have[tap].add(source)
