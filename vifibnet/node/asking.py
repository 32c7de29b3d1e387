"""Calling our neighbours: telling them where we are, and asking them where others are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from vifibnet.errors import PeerUnreachable
from vifibnet.interfaces import IPeerCaller
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.news import News
from vifibnet.model.visits import (
    FIRST_ASK,
    FIRST_DOUBT,
    FIRST_REST,
    LAST_DOUBT,
    LAST_REST,
    SOON,
    Affairs,
    Neighbour,
    Visit,
    backoff,
    next_visit,
    tell_again,
    visits,
)
from vifibnet.node.knowledge import Knowledge
from vifibnet.wire.peertalk import MAX_COUNT

LINES = 4
"""How many calls are made at once."""

REGISTRY_LOOK = 15.0
"""Seconds between two looks whether the registry still answers: as long as it does, it is asked for peers."""

MAX_DOUBTFUL = 1000
"""Of how many failed peers is remembered when they were last asked for."""


@dataclass
class _Contact:
    """What we know of a neighbour as one to call; see model.visits.Neighbour."""

    due: float
    rests: float = 0.0
    failures: int = 0
    call: Deferred[None] | None = None


@dataclass
class _Doubt:
    """A peer that failed: when it may be asked for, how often that was, and whether it is to be now."""

    when: float
    times: int = 0
    wanted: bool = False


class Asking(Service):
    """Visits neighbours as model.visits says, and has what they say believed or not."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        caller: IPeerCaller,
        knowledge: Knowledge,
        neighbours: Callable[[], frozenset[Prefix]],
        registry_answers: Callable[[], bool],
        tunnels_missing: Callable[[], bool],
        interval: float,
    ) -> None:
        """``interval`` is how often peers are asked for, in seconds, when no tunnel is missing."""
        self._reactor = reactor
        self._rng = rng
        self._caller = caller
        self._knowledge = knowledge
        self._neighbours = neighbours
        self._registry_answers = registry_answers
        self._tunnels_missing = tunnels_missing
        self._interval = interval
        self._contacts: dict[Prefix, _Contact] = {}
        self._doubts: dict[Prefix, _Doubt] = {}
        self._said: tuple[Endpoint, ...] = ()
        self._ask_at = 0.0
        self._fruitless = 0
        self._wake: IDelayedCall | None = None

    # -- the service --------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Begin with those who are there."""
        super().startService()
        self._ask_at = self._now
        self._said = self._knowledge.here()
        self._work()

    def stopService(self) -> None:
        """Call nobody any more, and hang up."""
        super().stopService()
        if self._wake is not None and self._wake.active():
            self._wake.cancel()
        for contact in self._contacts.values():
            if contact.call is not None:
                contact.call.cancel()

    # -- what happens -------------------------------------------------------------------------------------

    def look(self) -> None:
        """Neighbours may have come or gone, or we may be reached somewhere else now."""
        self._work()

    def _look_around(self) -> None:
        here, now = self._knowledge.here(), self._now
        there = self._neighbours()
        for gone in self._contacts.keys() - there:
            call = self._contacts.pop(gone).call
            if call is not None:
                call.cancel()
        if here != self._said:
            self._said = here
            for contact in self._contacts.values():
                contact.due = min(contact.due, now + SOON * self._rng.random())
                contact.rests = now if contact.failures <= 1 else contact.rests
        for new in there - self._contacts.keys():
            self._contacts[new] = _Contact(now + SOON * self._rng.random())
            # Whoever has just come may know what the others do not.
            self._ask_at = min(self._ask_at, now + SOON) if self._tunnels_missing() else self._ask_at

    def met(self, peer: Prefix) -> None:
        """A neighbour has called us and knows now where we are."""
        contact = self._contacts.get(peer)
        if contact is not None and self._said == self._knowledge.here():
            contact.due = tell_again(self._now, self._rng)

    def failed(self, peer: Prefix) -> None:
        """A tunnel to this peer did not come up, by whichever of its endpoints: it may be somewhere else."""
        doubt = self._doubts.setdefault(peer, _Doubt(self._now))
        if doubt.when > self._now or doubt.wanted:
            return
        doubt.wanted = True
        while len(self._doubts) > MAX_DOUBTFUL:
            del self._doubts[next(iter(self._doubts))]
        self._work()

    # -- deciding -----------------------------------------------------------------------------------------

    @property
    def _now(self) -> float:
        return float(self._reactor.seconds())

    def _affairs(self) -> Affairs:
        if self._ask_at <= self._now and self._registry_answers():
            self._ask_at = self._now + REGISTRY_LOOK
        neighbours = tuple(
            Neighbour(peer, each.due, each.rests, each.call is not None)
            for peer, each in self._contacts.items()
        )
        lines = LINES - sum(each.busy for each in neighbours)
        doubtful = tuple(peer for peer, doubt in self._doubts.items() if doubt.wanted)
        return Affairs(self._now, neighbours, lines, self._ask_at, doubtful)

    def _work(self) -> None:
        """Begin what is due, and wake up for what follows."""
        if not self.running:
            return
        self._look_around()
        affairs = self._affairs()
        chosen = visits(affairs, self._rng, MAX_COUNT)
        for visit in chosen:
            self._prepare(visit)
        for visit in chosen:
            self._begin(visit)
        affairs = self._affairs()
        when = next_visit(affairs) if affairs.lines > 0 else None
        if self._wake is not None and self._wake.active():
            self._wake.cancel()
        if when is not None:
            self._wake = self._reactor.callLater(max(0.0, when - self._now), self._work)

    def _prepare(self, visit: Visit) -> None:
        """Nobody else is asked the same before there was time for an answer."""
        if visit.count:
            missing = self._tunnels_missing()
            first = FIRST_ASK if missing else self._interval
            self._ask_at = backoff(self._now, 1 + self._fruitless, first, self._interval, self._rng)
        for peer in visit.wanted:
            doubt = self._doubts.get(peer)
            if doubt is not None and doubt.wanted:
                doubt.wanted = False
                doubt.times += 1
                doubt.when = backoff(self._now, doubt.times, FIRST_DOUBT, LAST_DOUBT, self._rng)

    # -- performing ---------------------------------------------------------------------------------------

    def _begin(self, visit: Visit) -> None:
        contact = self._contacts.get(visit.peer)
        if contact is None or contact.call is not None:
            # What another call has brought.
            return
        # So that a call that ends at once is not taken for one that goes on.
        contact.call = Deferred()
        call = Deferred.fromCoroutine(self._visit(visit, contact))
        if not call.called:
            contact.call = call
        call.addErrback(lambda failure: failure.trap(CancelledError))

    async def _visit(self, visit: Visit, contact: _Contact) -> None:
        own = self._knowledge.here()
        try:
            news = await self._caller.visit(visit, own)
            self._answered(visit, contact, own, news)
        except PeerUnreachable as error:
            self._turned_away(visit, contact, str(error))
        except CancelledError:
            raise
        except Exception:
            self.log.failure("a visit to {peer} failed", peer=str(visit.peer))
            self._turned_away(visit, contact, "see above")
        finally:
            contact.call = None
        # Later: what we have said and heard may change who our neighbours are.
        if self.running:
            self._reactor.callLater(0, self._work)

    def _answered(
        self, visit: Visit, contact: _Contact, own: tuple[Endpoint, ...], news: Sequence[News]
    ) -> None:
        contact.failures = 0
        contact.due = tell_again(self._now, self._rng)
        if own != self._knowledge.here():
            contact.due = self._now
        fruit = self._knowledge.hear(visit.peer, news)
        if visit.count:
            self._fruitless = 0 if fruit else self._fruitless + 1

    def _turned_away(self, visit: Visit, contact: _Contact, problem: str) -> None:
        """It was not asked, and is left alone for a while: there is a tunnel before there is a route."""
        contact.failures += 1
        contact.rests = backoff(self._now, contact.failures, FIRST_REST, LAST_REST, self._rng)
        say = self.log.debug if contact.failures != 5 else self.log.info
        say("{problem}", problem=problem)
        if visit.count:
            self._ask_at = min(self._ask_at, self._now)
        for peer in visit.wanted:
            if peer in self._doubts:
                self._doubts[peer].wanted = True
