"""Keeping in the kernel, beside babel's routes, the ways that packets take when babel gives one up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv6Network
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from vifibnet.errors import CommandFailed
from vifibnet.model.ways import AHEAD, ASTRAY, PATIENCE, Health, Kept, Place, Way, keep
from vifibnet.node.around import Around
from vifibnet.wire.babeld import Interface, Neighbour, Route, Xroute

SOON, LATER = 1.0, 10.0
"""Seconds after which a change is looked at that is no reason to hurry: one alternate more; another metric,
which follows the round-trip time and changes all the time."""

SLICE = 50
"""How many destinations are looked at before others get their turn."""

RANKS = 2
"""How many ways are kept for a destination at most, after babel's own."""

Put = Callable[[Mapping[Place, Way], Sequence[Place]], Awaitable[None]]
"""What changes the kernel: what to have, what no more. Kernel.keep."""

Item = Interface | Neighbour | Xroute | Route


class Ways:
    """Follows what babel tells, and tells the kernel what to keep."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        put: Put,
        known: Callable[[], bool],
        direct: Callable[[], Mapping[IPv6Network, Way]],
        health: Callable[[str, str], Health],
    ) -> None:
        """``known``: whether babel has told what it has; as long as not, all stays as it is. ``direct``: the
        ways to those at the other ends of our tunnels. ``health``: what is known about a neighbour, by
        interface and link-local address."""
        self._reactor = reactor
        self._put = put
        self._known = known
        self._direct = direct
        self.around = Around(health)
        self._hold = self._learning = 0.0
        self._kept: dict[IPv6Network, Kept] = {}
        self._now: dict[IPv6Network, None] = {}
        self._due: dict[IPv6Network, float] = {}
        self._told: dict[Place, Way] = {}
        self._untold: dict[IPv6Network, None] = {}
        self._busy = False
        self._soon: IDelayedCall | None = None
        self._later: IDelayedCall | None = None

    def started(self, hold: float, learning: float) -> None:
        """A babeld begins. What one gives up is kept for ``hold`` seconds; it has ``learning`` more for what
        the one before it knew."""
        self._hold = hold
        self._kept = {prefix: replace(kept, until=None) for prefix, kept in self._kept.items()}
        self._learning = self._reactor.seconds() + learning

    def learn(self, items: Iterable[Item]) -> None:
        """All that babel has."""
        self.around.learn(items)
        self.look()

    def note(self, item: Item, *, gone: bool = False) -> None:
        """Something that babel has has come, changed or gone."""
        if isinstance(item, Route):
            known = self.around.offered(item.prefix, Way(item.via, item.interface))
            if self.around.note(item, gone=gone) and self._known():
                self._note_route(item, gone=gone, within=LATER if known else SOON)
            return
        if not (self.around.note(item, gone=gone) and self._known()):
            return
        if isinstance(item, Interface) and item.up:
            self._doubt(item.name)
        self.look()

    def look(self) -> None:
        """Anything may have changed, also tunnels and what is known about neighbours."""
        for prefixes in (self._kept, self.around.prefixes, self._direct()):
            self._now.update(dict.fromkeys(prefixes))
        self._go_on()

    def kept(self) -> Iterator[tuple[IPv6Network, str]]:
        """Each destination that has ways in the kernel, with the interfaces of these."""
        return ((place.prefix, way.interface) for place, way in self._told.items())

    def covered(self, way: Way) -> bool:
        """Whether others offer a way to everything that goes this way."""
        taken = (prefix for prefix, kept in self._kept.items() if kept.own == way)
        return all(self.around.offered_beside(prefix, way) for prefix in taken)

    def stop(self) -> None:
        """Change nothing any more."""
        for call in (self._soon, self._later):
            if call is not None:
                call.cancel()
        self._soon = self._later = None

    def _note_route(self, route: Route, *, gone: bool, within: float) -> None:
        """Look at its destination now, if packets may have to go elsewhere, or else within a while."""
        kept, way = self._kept.get(route.prefix), Way(route.via, route.interface)
        taken = route.reachable and not gone
        if (
            kept is not None
            and kept.until is None
            and kept.shunned is None
            and taken == (way == kept.own)
            and (self.around.offered(route.prefix, way) or way not in kept.ways)
        ):
            self._remind(route.prefix, self._reactor.seconds() + within)
            return
        self._now[route.prefix] = None
        self._go_on()

    def _doubt(self, interface: str) -> None:
        """One that was down has lost its routes, unless only its carrier was."""
        for place, way in self._told.items():
            if way.interface == interface:
                self._told[place] = Way("", interface)
                self._untold[place.prefix] = None

    def _go_on(self) -> None:
        if self._soon is None and self._now and self._known():
            self._soon = self._reactor.callLater(0, self._look)

    def _look(self) -> None:
        self._soon = None
        if not self._known():
            return
        self.around.ask_again()
        direct, now = self._direct(), self._reactor.seconds()
        learning, until = now < self._learning, max(now, self._learning) + self._hold
        for prefix in list(islice(self._now, SLICE)):
            del self._now[prefix]
            before = self._kept.get(prefix)
            kept = keep(
                before,
                self.around.offers(prefix),
                direct.get(prefix),
                self.around,
                learning=learning,
                now=now,
                until=until,
            )
            self._note_kept(prefix, before, kept)
        self._tell()
        self._go_on()

    def _note_kept(self, prefix: IPv6Network, before: Kept | None, kept: Kept | None) -> None:
        self._due.pop(prefix, None)
        if kept is not None:
            self._kept[prefix] = kept
            whens = [kept.until] if kept.until is not None else []
            whens += [kept.lost + PATIENCE, kept.lost + ASTRAY] if kept.lost is not None else []
            whens += [kept.shunned + AHEAD] if kept.shunned is not None else []
            whens += [kept.astray + ASTRAY] if kept.astray is not None else []
            if coming := [when for when in whens if when > self._reactor.seconds()]:
                self._remind(prefix, min(coming))
        elif before is not None:
            del self._kept[prefix]
        if _places(before) != _places(kept):
            self._untold[prefix] = None

    def _remind(self, prefix: IPv6Network, when: float) -> None:
        """Look at a destination again then, if not before."""
        when = min(when, self._due.get(prefix, when))
        self._due[prefix] = when
        if self._later is None:
            self._later = self._reactor.callLater(max(0, when - self._reactor.seconds()), self._look_again)
        elif when < self._later.getTime():
            self._later.reset(max(0, when - self._reactor.seconds()))

    def _look_again(self) -> None:
        self._later = None
        now = self._reactor.seconds()
        for prefix, when in list(self._due.items()):
            if when <= now:
                del self._due[prefix]
                self._now[prefix] = None
        if self._due:
            self._later = self._reactor.callLater(min(self._due.values()) - now, self._look_again)
        self._go_on()

    def _tell(self) -> None:
        """Tell the kernel what is new, unless it is busy: then it is told all together afterwards."""
        if self._busy:
            return
        put: dict[Place, Way] = {}
        drop: list[Place] = []
        for prefix in self._untold:
            for rank, way in enumerate(_places(self._kept.get(prefix))):
                place = Place(prefix, rank)
                if way is None:
                    drop += [place] * (self._told.pop(place, None) is not None)
                elif self._told.get(place) != way:
                    put[place] = self._told[place] = way
        self._untold = {}
        if put or drop:
            self._busy = True
            Deferred.fromCoroutine(self._change(put, drop))

    async def _change(self, put: Mapping[Place, Way], drop: Sequence[Place]) -> None:
        try:
            await self._put(put, drop)
        except CommandFailed as error:
            # An interface that has just gone has taken its routes with it.
            self.log.debug("not every way can be kept: {error}", error=str(error))
        finally:
            self._busy = False
        if self._known():
            self._tell()


def _places(kept: Kept | None) -> tuple[Way | None, ...]:
    """What is kept, by rank."""
    ways = () if kept is None else kept.ways
    return (*ways, *[None] * (RANKS - len(ways)), None if kept is None else kept.ahead)
