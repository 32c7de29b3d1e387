"""Routes over a new tunnel as soon as it is up, instead of at the next periodic update.

A babeld asks its neighbours for all routes when an interface of its own comes up. At the other end of a new
tunnel, on a server's tap that has been up for long, nobody asks: the newcomer's routes are heard of when they
are announced anyway, within a minute at the default hello interval. So we ask in babeld's place. The answer
to a request holds the cost that the neighbour sees and, in babeld, an additional hello: both ends agree on
the link's cost within a few round trips and at most one hello interval.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from ipaddress import IPv6Network
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from vifibnet.wire.babel import PORT, route_request
from vifibnet.wire.babeld import INFINITY, Neighbour

TRIES = 20
"""How often one neighbour is asked: from its appearance until the cost of the link is known."""

SOONEST, LATEST = 0.1, 1.0
"""Seconds between two questions: a fifth of the hello interval, within these bounds."""

Key = tuple[str, str]
"""An interface and a neighbour's address on it."""


def send(neighbour: Neighbour, packet: bytes) -> None:
    """Send it from the link-local address that our babeld has on the interface, too: the answer goes there.

    One that is lost costs nothing.
    """
    with suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        scope = socket.if_nametoindex(neighbour.interface)
        sender.sendto(packet, (neighbour.address, PORT, 0, scope))


class Nudge:
    """Asks new neighbours for their routes, at their appearance and when the cost of the link is known, and
    in between for that cost."""

    def __init__(
        self,
        reactor: Any,
        hello: float,
        neighbours: Callable[[], Iterable[Neighbour]],
        subnets: Callable[[], Sequence[IPv6Network]],
        send: Callable[[Neighbour, bytes], None],
    ) -> None:
        """``hello`` is babel's hello interval in seconds; ``neighbours`` tells those there are now, and
        ``subnets`` what is worth asking for, the most important first."""
        self._reactor = reactor
        self._interval = min(max(hello / 5, SOONEST), LATEST)
        self._neighbours = neighbours
        self._subnets = subnets
        self._send = send
        self._left: dict[Key, int] = {}
        self._known: set[Key] = set()
        self._call: IDelayedCall | None = None

    def look(self) -> None:
        """The neighbours have changed: ask those that are new, or known at last."""
        here = self._here()
        known = {key for key, each in here.items() if each.cost < INFINITY}
        asked = [each for key, each in here.items() if key not in self._left or key in known - self._known]
        if asked:
            packet = route_request(self._subnets())
            for each in asked:
                self._send(each, packet)
        self._left = {key: self._left.get(key, TRIES) for key in here}
        self._known = known
        self._go_on()

    def stop(self) -> None:
        """Ask nobody any more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _here(self) -> dict[Key, Neighbour]:
        return {(each.interface, each.address): each for each in self._neighbours()}

    def _unknown(self) -> dict[Key, Neighbour]:
        """Those that may be asked again and whose cost is not known yet."""
        here = self._here().items()
        return {key: each for key, each in here if each.cost >= INFINITY and self._left.get(key, 0)}

    def _go_on(self) -> None:
        if self._call is None and self._unknown():
            self._call = self._reactor.callLater(self._interval, self._tick)

    def _tick(self) -> None:
        self._call = None
        for key, each in self._unknown().items():
            self._left[key] -= 1
            self._send(each, route_request())
        self._go_on()
