"""Having our babeld believe of its neighbours what the heartbeats tell of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv6Address, IPv6Network
from itertools import islice
from math import inf

from vifibnet.model.liveness import DRAINED, INFINITY, LINK
from vifibnet.model.ways import Way
from vifibnet.node.otherend import End
from vifibnet.node.prompter import Prompter
from vifibnet.wire.babeld import Neighbour

INTRODUCED = 3.0
"""Seconds (hello intervals if these are longer) in which babeld is told of somebody who has just been heard
but whom it does not take for reachable."""

AGAIN = 0.1
"""Seconds after which that is said again if babeld is not convinced."""

ASKED, PACE = 0.25, 50
"""Seconds between two times that all behind a tap are told all our routes (many may come back one after
another), and how many routes in a second at most."""

AT_ONCE = 1000
"""So many routes newcomers are told at once; of the others they hear when babeld tells all."""

WORSE = 288
"""By so much the cost has to rise at once for babel to look for other ways."""

SEIZED = 1.0
"""Seconds for which babeld is told that a tunnel is dead which has just been found to lose many packets, if
others offer a way for all of them: babel looks for one at once then, and so do we for the kernel, which has
the lossy one meanwhile (model.ways)."""

INQUIRED = 1.0
"""Seconds between two inquiries because of the same neighbour."""

FEW = 50
"""So many destinations others are asked about at most: where there are many, so are the ways."""

QUIET = 60.0
"""Seconds after which babeld, which may be another one by then, is told again to miss no unicast hellos."""

ENOUGH = 0xC000
"""The two last hellos in a neighbour's reach, a bit each: whoever has sent these can be reached."""

STALE = 0.1
"""Seconds after waking in which beats may come that were sent long before."""


class Prompting:
    """Says what is to be said; babeld may be told otherwise by its neighbours at any time."""

    def __init__(
        self,
        prompter: Prompter,
        neighbours: Callable[[], Iterable[Neighbour]],
        routes: Callable[[], Iterable[IPv6Network]],
        elsewhere: Callable[[str, str], Mapping[Way, Sequence[IPv6Network]]],
        covered: Callable[[str, str], bool],
    ) -> None:
        """``neighbours``: babeld's; ``routes``: where it has any to, our own subnet among them;
        ``elsewhere(tap, address)``: who has the shortest other way to what goes via that one;
        ``covered(tap, address)``: whether others offer a way to all of that."""
        self._prompter = prompter
        self._neighbours = neighbours
        self._routes = routes
        self._elsewhere = elsewhere
        self._covered = covered
        self._curious: dict[str, End] = {}
        self._next: dict[str, float] = {}
        self._now = 0.0

    def prompt(self, ends: Mapping[tuple[str, bytes], End], now: float, woken: float, hello: float) -> bool:
        """Correct what babeld believes where that is wrong; whether there is nothing to watch: all ends are
        well and have been for a while.

        ``woken`` is when the machine last woke, ``hello`` babel's interval.
        """
        self._now = now
        patience = INTRODUCED * max(1.0, hello)
        fresh = {key: end for key, end in ends.items() if self._is_fresh(end, woken, patience)}
        if not (fresh or any(end.cost or end.told or not end.mutual for end in ends.values())):
            self._quieten(ends)
            return True
        for each in ends.values():
            # Of those that are no neighbours of babeld's at all.
            each.believed = INFINITY
        for neighbour in self._neighbours():
            key = (neighbour.interface, IPv6Address(neighbour.address).packed)
            end = ends.get(key)
            if fresh.pop(key, None) is not None and neighbour.cost >= INFINITY:
                self._convince(ends[key], neighbour, hello)
            elif end is not None:
                self._correct(end, neighbour)
        for end in fresh.values():
            self._introduce(end, hello)
        self._ask()
        return False

    def _is_fresh(self, end: End, woken: float, patience: float) -> bool:
        """Whether babel cannot know yet that we hear each other."""
        if woken <= end.alive < woken + STALE or self._seized(end):
            return False
        return end.mutual and end.cost < DRAINED and self._now - end.alive < patience

    def _convince(self, end: End, neighbour: Neighbour, hello: float) -> None:
        """babeld knows it, but not that it is well. Its own babeld says, until it is told of us, that it does
        not hear us."""
        if neighbour.rxcost < INFINITY and end.introduced >= end.alive:
            self._prompter.say(end.tap, end.address, max(LINK, end.cost))
            end.told = end.cost
        else:
            self._introduce(end, hello)

    def _introduce(self, end: End, hello: float) -> None:
        """babel would wait for two hellos, of which we need none to believe in the tunnel."""
        if self._now - end.introduced >= AGAIN:
            end.introduced, end.before, end.quiet = self._now, LINK, 0.0
            self._prompter.introduce(end.tap, end.address, max(LINK, end.cost), hello)
            end.told = end.cost
            self._curious[end.tap] = end

    def _ask(self) -> None:
        """Whoever has been introduced hears now what babeld would tell it some seconds later."""
        for tap, end in list(self._curious.items()):
            if self._now >= self._next.get(tap, -inf):
                routes = list(islice(self._routes(), AT_ONCE))
                self._next[tap] = self._now + max(ASKED, len(routes) / PACE)
                del self._curious[tap]
                self._prompter.ask(tap, end.address, routes)

    def _correct(self, end: End, neighbour: Neighbour) -> None:
        """What it costs the neighbour to hear us, and whether we hear it.

        A babeld that still believes to hear a neighbour goes on telling it so: where only one direction is
        cut, that one would come back to the tunnel for a moment each time.
        """
        if not end.gone and neighbour.rxcost < INFINITY <= end.mine:
            self._prompter.forget(end.tap, end.address)
        believed = end.believed = neighbour.txcost
        if believed != end.told:
            # Its own words.
            end.before = believed
        wanted = INFINITY if self._seized(end) else max(end.before, end.cost)
        if believed + WORSE <= wanted < INFINITY:
            self._inquire(end)
        if wanted != believed:
            self._prompter.say(end.tap, end.address, wanted)
        end.told = wanted if end.cost else 0

    def _seized(self, end: End) -> bool:
        if not end.lossy or self._now - end.shunned >= SEIZED:
            return False
        if end.seized != end.shunned and self._covered(end.tap, str(end.address)):
            end.seized = end.shunned
        # When babel takes it for dead, there may be no other way any more: those that led back over us.
        return end.seized == end.shunned

    def _inquire(self, end: End) -> None:
        """Others have told their ways when nobody wanted them. babel asks them again now, which they answer
        within a hello interval, and learns from the answer that it has to ask for a newer sequence number.
        (For what is lost, rather than dear, node.hurry does so.)"""
        if self._now - end.inquired < INQUIRED:
            return
        end.inquired = self._now
        left = FEW
        for way, prefixes in self._elsewhere(end.tap, str(end.address)).items():
            self._prompter.inquire(way.interface, IPv6Address(way.via), prefixes[:left])
            left -= len(prefixes[:left])

    def _quieten(self, ends: Mapping[tuple[str, bytes], End]) -> None:
        """Where all is well, spare babeld and us what it makes of hellos that nobody sends."""
        due = {key: end for key, end in ends.items() if self._now >= end.quiet}
        for neighbour in self._neighbours() if due else ():
            end = due.get((neighbour.interface, IPv6Address(neighbour.address).packed))
            if end is not None and neighbour.reach & ENOUGH == ENOUGH:
                self._prompter.quieten(end.tap, end.address)
                end.quiet = self._now + QUIET
