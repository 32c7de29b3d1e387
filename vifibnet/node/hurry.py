"""Having babeld ask at once for routes that are lost, and tell at once of those that others ask for.

Where no other way is safe, babel asks the destination for a newer sequence number, from one node to the next
(RFC 8966, section 3.8.2). babeld (1.12) does so when a neighbour has told that it has a way, for which that
takes up to a hello interval. The request it keeps for a quarter of a hello interval, in case there is more to
be said, and so does each that forwards it. The answer is kept for a tenth of a second by each that passes it
on, and for a hello interval where the way was lost, too. Meanwhile nobody knows a way.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from heapq import heappop, heappush
from ipaddress import IPv6Address, IPv6Network
from itertools import count, islice
from math import inf
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from vifibnet.model.liveness import INFINITY
from vifibnet.model.ways import Offer, Way
from vifibnet.node.ear import Ear, interface
from vifibnet.node.packetfilter import attach
from vifibnet.node.prompter import Prompter
from vifibnet.wire.babeld import Neighbour, Xroute
from vifibnet.wire.babelpacket import Wanted, asked, asking

PAUSE = 0.01
"""Seconds between two times that something is said: whatever others ask, that is not more often."""

AGAIN = (0.1, 0.02, 0.05, 0.15, 0.2, 0.3)
"""Seconds after a loss at which babeld is hurried again: the others answer within some 0.15, and then it asks
for a newer sequence number."""

ANSWERS = (0.01, 0.03, 0.06, 0.1, 0.15)
"""Seconds after a request at which babeld is asked itself: it may have passed on one for a newer sequence
number."""

NEAREST = 3
"""So many of those who still offer a way to what is lost are asked about it."""

KNOWN, MANY = 1000, 200
"""Of so many lost destinations it is remembered that they are, and so many are asked for, and told of, at
once; of more babel tells by itself."""

FEW = 4
"""Whoever has more neighbours mostly has other ways, and answers to all of them at once are work just when
there is much else to do: it hurries once, and tells what it is asked for a tenth of a second later."""

_LONGEST = 2048


class Babel(Protocol):
    """What is known of our babeld."""

    @property
    def neighbours(self) -> Collection[Neighbour]:
        """Whom it hears."""

    @property
    def xroutes(self) -> Collection[Xroute]:
        """What it announces itself."""

    def offers(self, prefix: IPv6Network) -> Collection[Offer]:
        """The ways to a destination."""

    def count(self) -> int:
        """How many destinations there are."""

    def is_tunnel(self, interface: str) -> bool:
        """Whether that is one of our taps."""


def open_socket() -> socket.socket:
    """A socket that gets the UDP datagrams, with their headers, that come to any of our IPv6 addresses and
    groups, besides those who listen there (raw(7), ipv6(7)): not what is forwarded. Raises OSError."""
    return socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_UDP)


class _Requests(Ear):
    """Hears what neighbours' babelds ask ours for."""

    def __init__(
        self, reactor: Any, opened: socket.socket, on_request: Callable[[Way, Wanted], None]
    ) -> None:
        super().__init__(reactor, opened, _LONGEST)
        self._on_request = on_request

    def heard(self, data: bytes, sender: Any) -> None:
        """One datagram."""
        came_by = interface(sender)
        if came_by is not None:
            for wanted in asked(data):
                self._on_request(Way(sender[0].partition("%")[0], came_by), wanted)


class Hurry(Service):
    """Hurries babeld when it has lost the way to a destination, or is asked for one: whomever it asks then,
    it asks at once, and those who may know one answer at once; when it has one again, all neighbours hear
    that at once.

    ``on_trouble``, which may be set, is called when babel, or a neighbour's, has lost a way.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        own: IPv6Address | None,
        length: int,
        babel: Babel,
        make_prompter: Callable[[IPv6Address], Prompter] = Prompter,
        make_socket: Callable[[], socket.socket] = open_socket,
    ) -> None:
        """``own``: our link-local address on all taps; without one nobody is hurried. ``length``: that of the
        prefixes of most."""
        self._reactor = reactor
        self._own = own
        self._length = length
        self._babel = babel
        self._make_prompter = make_prompter
        self._make_socket = make_socket
        self.on_trouble: Callable[[], None] = lambda: None
        self._prompter: Prompter | None = None
        self._requests: _Requests | None = None
        # What is not taken any more, perhaps for a moment only; what is lost; what was asked for, and when.
        self._losing: dict[IPv6Network, None] = {}
        self._lost: dict[IPv6Network, None] = {}
        self._asked: dict[tuple[str, Wanted], float] = {}
        # For whom babeld has something; what it shall tell on which taps, and in whose name we ask it there;
        # what is to be done later.
        self._ways: dict[Way, None] = {}
        self._news: dict[str, tuple[str, dict[IPv6Network, None]]] = {}
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._next: IDelayedCall | None = None
        self._last = -inf

    def startService(self) -> None:
        """Begin. Without the sockets, babeld takes its time."""
        super().startService()
        if self._own is None:
            return
        try:
            opened = self._make_socket()
            self._requests = _Requests(self._reactor, opened, self._note_request)
            attach(opened, asking(self._length))
            self._prompter = self._make_prompter(self._own)
        except OSError as error:
            self.log.warn("lost routes are asked for slowly: {problem}", problem=error.strerror)
            self._close()
            return
        self._requests.startReading()

    def stopService(self) -> None:
        """End."""
        super().stopService()
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._close()

    def _close(self) -> None:
        if self._requests is not None:
            self._requests.close()
        if self._prompter is not None:
            self._prompter.close()
        self._requests = self._prompter = None
        self._losing, self._lost, self._asked, self._ways, self._news, self._later = {}, {}, {}, {}, {}, []

    # -- what happens ------------------------------------------------------------------------------------

    def misses(self, prefix: IPv6Network) -> bool:
        """Whether there is no way at the moment: then any news of it count."""
        return prefix in self._lost or prefix in self._losing

    def note(self, prefix: IPv6Network, *, lost: bool) -> None:
        """Something about the ways there has changed: if babel takes none, it asks for a better one.
        ``lost``: it has just given up the one that it took."""
        if self._prompter is None:
            return
        if self._is_taken(prefix):
            if prefix in self._lost:
                del self._lost[prefix]
                self._tell_all(prefix)
        else:
            if lost:
                self._losing[prefix] = None
            self._hurry(prefix)
        self._plan()

    def _note_request(self, who: Way, wanted: Wanted) -> None:
        """A neighbour asks: babel tells what it knows, or asks others."""
        if not self._babel.is_tunnel(who.interface):
            return
        self.on_trouble()
        if wanted.newer:
            # babeld may hear of it later than we do.
            self._do((0.0, PAUSE), partial(self._hurry, wanted.prefix))
        key, now = (who.interface, wanted), self._reactor.seconds()
        if now >= self._asked.get(key, -inf) + max(ANSWERS):
            self._asked.pop(key, None)
            self._asked[key] = now
            if len(self._asked) > KNOWN:
                del self._asked[next(iter(self._asked))]
            delays = self._few(ANSWERS) if wanted.newer else ANSWERS[:1]
            self._do(delays, partial(self._answer, who, wanted.prefix))
        self._plan()

    def _is_taken(self, prefix: IPv6Network) -> bool:
        return any(offer.installed for offer in self._babel.offers(prefix))

    def _note_losses(self) -> None:
        """What babel has not replaced at once is lost."""
        losing, self._losing = self._losing, {}
        lost = [prefix for prefix in losing if not self._is_taken(prefix)]
        again = self._few(AGAIN) if lost else ()
        for prefix in lost:
            self._lost[prefix] = None
            if len(self._lost) > KNOWN:
                del self._lost[next(iter(self._lost))]
            self._do(again, partial(self._hurry, prefix))
        if lost:
            self.on_trouble()
            self._inquire(lost[:MANY])

    # -- what follows ------------------------------------------------------------------------------------

    def _do(self, delays: Iterable[float], action: Callable[[], None]) -> None:
        """Do it after each of these."""
        now = self._reactor.seconds()
        for delay in delays:
            if len(self._later) < KNOWN:
                heappush(self._later, (now + delay, next(self._order), action))

    def _few(self, delays: tuple[float, ...]) -> tuple[float, ...]:
        """All of these, or the first one alone."""
        return delays if self._has_few_neighbours() else delays[:1]

    def _has_few_neighbours(self) -> bool:
        return len(list(self._near())) <= FEW

    def _near(self) -> Iterator[Way]:
        """The neighbours on our taps that hear us and are heard."""
        for each in self._babel.neighbours:
            if each.cost < INFINITY and self._babel.is_tunnel(each.interface):
                yield Way(each.address, each.interface)

    def _plan(self) -> None:
        """Say what there is to say, or wait until there will be, and not too soon after the last time."""
        now = self._reactor.seconds()
        if self._losing or self._ways or self._news:
            due = now
        elif self._later:
            due = self._later[0][0]
        else:
            return
        wait = max(due, self._last + PAUSE, now) - now
        if self._next is None:
            self._next = self._reactor.callLater(wait, self._say)
        elif now + wait < self._next.getTime():
            self._next.reset(wait)

    def _hurry(self, prefix: IPv6Network) -> None:
        """Those who offer a way get at once what babeld has for them."""
        self._ways.update(dict.fromkeys(self._nearest(prefix)))

    def _nearest(self, prefix: IPv6Network) -> list[Way]:
        """Those on our taps; what goes to others is signed."""
        offers = (each for each in self._babel.offers(prefix) if self._babel.is_tunnel(each.way.interface))
        return [offer.way for offer in sorted(offers, key=lambda offer: offer.metric)[:NEAREST]]

    def _answer(self, who: Way, prefix: IPv6Network) -> None:
        """Who has asked hears what babel has, if anything."""
        if self._is_taken(prefix) or any(each.prefix == prefix for each in self._babel.xroutes):
            self._tell(who, prefix)

    def _tell_all(self, prefix: IPv6Network) -> None:
        """All on each tap hear what one of them has asked for."""
        for each in self._near():
            self._tell(each, prefix)

    def _tell(self, who: Way, prefix: IPv6Network) -> None:
        """babeld tells everybody on a tap if one of them asks."""
        self._news.setdefault(who.interface, (who.via, {}))[1][prefix] = None

    def _say(self) -> None:
        self._next, self._last = None, self._reactor.seconds()
        self._note_losses()
        while self._later and self._later[0][0] <= self._last:
            heappop(self._later)[2]()
        ways, self._ways, news, self._news = self._ways, {}, self._news, {}
        if self._prompter is None:
            return
        for way in ways:
            self._prompter.hurry(way.interface, IPv6Address(way.via))
        among = self._babel.count() if news and self._has_few_neighbours() else None
        for tap, (via, prefixes) in news.items():
            self._prompter.ask(tap, IPv6Address(via), list(islice(prefixes, MANY)), among=among)
        self._plan()

    def _inquire(self, lost: Iterable[IPv6Network]) -> None:
        """Have those who offer a way tell of it again."""
        inquired: dict[Way, list[IPv6Network]] = {}
        for prefix in lost:
            for way in self._nearest(prefix):
                inquired.setdefault(way, []).append(prefix)
        for way, prefixes in inquired.items():
            if self._prompter is not None:
                self._prompter.inquire(way.interface, IPv6Address(way.via), prefixes)
