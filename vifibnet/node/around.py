"""What babel has told, in the form in which the ways that the kernel keeps are decided."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv6Network

from vifibnet.model.liveness import INFINITY
from vifibnet.model.ways import SLACK, Health, Offer, Way
from vifibnet.wire.babeld import Interface, Neighbour, Route, Xroute

HEARD = 0xE000
"""The last three hellos in a neighbour's reach, a bit each: babeld gives up one of which it heard none."""


class Around:
    """Interfaces that are up, neighbours that are heard, and the routes that lead somewhere, by prefix.

    (It is a model.ways.Around.)
    """

    def __init__(self, health: Callable[[str, str], Health]) -> None:
        """``health``: what others know about a neighbour, by interface and link-local address."""
        self._health = health
        self._healths: dict[Way, Health] = {}
        self._up: set[str] = set()
        self._heard: set[Way] = set()
        self._offers: dict[IPv6Network, dict[Way, Offer]] = {}
        self._origins: dict[Way, IPv6Network] = {}
        self._nearest: dict[IPv6Network, int] = {}

    @property
    def prefixes(self) -> Collection[IPv6Network]:
        """All destinations."""
        return self._offers.keys()

    def offers(self, prefix: IPv6Network) -> Collection[Offer]:
        """The ways to a destination."""
        return self._offers.get(prefix, {}).values()

    def offered(self, prefix: IPv6Network, way: Way) -> bool:
        """Whether that is a way to it."""
        return way in self._offers.get(prefix, ())

    def offered_beside(self, prefix: IPv6Network, way: Way) -> bool:
        """Whether there is another way to it, over somebody who is well."""
        others = (one for one in self._offers.get(prefix, ()) if one != way)
        return any(self.health(one) in (Health.FINE, Health.UNKNOWN) for one in others)

    def learn(self, items: Iterable[Interface | Neighbour | Xroute | Route]) -> None:
        """All that there is."""
        self._up, self._heard, self._offers, self._origins, self._nearest = set(), set(), {}, {}, {}
        for item in items:
            self.note(item)

    def note(self, item: Interface | Neighbour | Xroute | Route, *, gone: bool = False) -> bool:
        """Something has come, changed or gone; whether that matters."""
        match item:
            case Interface():
                return _set(self._up, item.name, item.up and not gone)
            case Neighbour():
                heard = bool(item.reach & HEARD) and not gone
                return _set(self._heard, Way(item.address, item.interface), heard)
            case Route():
                return self._note_route(item, gone=gone)
        return False

    def ask_again(self) -> None:
        """What is known about neighbours may have changed."""
        self._healths = {}

    def health(self, way: Way) -> Health:
        """What was known when it was asked first."""
        found = self._healths.get(way)
        if found is None:
            found = self._healths[way] = self._judge(way)
        return found

    def _judge(self, way: Way) -> Health:
        """Babel is asked only about one of whom nobody else knows whether it is there."""
        told = self._health(way.interface, way.via)
        if told is Health.DEAD or told is Health.LEAVING:
            return told
        if way.interface in self._up and (told is not Health.UNKNOWN or way in self._heard):
            return Health.LOSSY if told is Health.LOSSY else Health.FINE
        return Health.UNKNOWN

    def back(self, offer: Offer) -> int:
        """The distance from the one that offers to us: as long as ours to it, which may be less than that of
        the link."""
        link = offer.metric - offer.refmetric
        origin = self._origins.get(offer.way)
        return link if origin is None else min(link, self._distance(origin))

    def _distance(self, prefix: IPv6Network) -> int:
        """How far it is at best: asked for each destination and neighbour."""
        found = self._nearest.get(prefix)
        if found is None:
            offers = self._offers.get(prefix, {}).values()
            found = self._nearest[prefix] = min((one.metric for one in offers), default=INFINITY)
        return found

    def between(self, one: Way, other: Way) -> int | None:
        """What the one announces of the other's own subnet."""
        prefix = self._origins.get(other)
        offer = None if prefix is None else self._offers.get(prefix, {}).get(one)
        return None if offer is None else offer.refmetric

    def elsewhere(self, way: Way) -> dict[Way, list[IPv6Network]]:
        """For what babel sends this way, who has the shortest other one."""
        found: dict[Way, list[IPv6Network]] = {}
        for prefix, offers in self._offers.items():
            if way in offers and offers[way].installed and len(offers) > 1:
                best = min((one for one in offers.values() if one.way != way), key=lambda one: one.metric)
                found.setdefault(best.way, []).append(prefix)
        return found

    def spares(self, interface: str) -> bool:
        """Whether all that babel sends over this interface has another way which does not lead back over us,
        as far as distances tell."""
        for offers in self._offers.values():
            own = next((one for one in offers.values() if one.installed), None)
            if own is None or own.way.interface != interface:
                continue
            others = (one for one in offers.values() if one.way.interface != interface)
            if not any(one.refmetric + SLACK < own.metric + self.back(one) for one in others):
                return False
        return True

    def unused(self, way: Way, cost: int) -> bool:
        """Whether babel sends nothing this way, which costs at least so much now, that has a better one.
        Where the cost is not that yet, babel has not heard of it."""
        for offers in self._offers.values():
            own = offers.get(way)
            if own is None or not own.installed:
                continue
            if own.metric - own.refmetric < cost or any(one.metric < own.metric for one in offers.values()):
                return False
        return True

    def _note_route(self, route: Route, *, gone: bool) -> bool:
        way = Way(route.via, route.interface)
        self._nearest.pop(route.prefix, None)
        offers = self._offers.setdefault(route.prefix, {})
        if gone or route.metric >= INFINITY:
            before = offers.pop(way, None)
            if not offers:
                del self._offers[route.prefix]
            return before is not None
        if route.refmetric == 0:
            self._origins[way] = route.prefix
        before = offers.get(way)
        offer = Offer(way, route.metric, route.refmetric, route.installed)
        offers[way] = offer
        return offer != before


def _set(names: set, name: object, there: bool) -> bool:
    """Have a name in a set or not; whether that is new."""
    if (name in names) == there:
        return False
    (names.add if there else names.discard)(name)
    return True
