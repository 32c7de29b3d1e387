"""Having babeld ask at once for routes that are lost.

Where no other way is safe, babel asks the destination for a newer sequence number, from one node to the next
(RFC 8966, section 3.8.2). babeld (1.12) keeps such a request for a quarter of a hello interval, in case there
is more to be said, and so does each that forwards it; meanwhile nobody knows a way.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv6Address, IPv6Network
from math import inf
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from vifibnet.model.ways import Offer, Way
from vifibnet.node.ear import Ear, interface
from vifibnet.node.packetfilter import attach
from vifibnet.node.prompter import Prompter
from vifibnet.wire.babelpacket import asked, asking

PAUSE = 0.02
"""Seconds between two times that babeld is hurried: whatever others ask, that is not more often."""

_LONGEST = 2048


def open_socket() -> socket.socket:
    """A socket that gets the UDP datagrams, with their headers, that come to any of our IPv6 addresses and
    groups, besides those who listen there (raw(7), ipv6(7)): not what is forwarded. Raises OSError."""
    return socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_UDP)


class _Requests(Ear):
    """Hears what neighbours' babelds ask ours for."""

    def __init__(
        self, reactor: Any, opened: socket.socket, on_request: Callable[[str, IPv6Network], None]
    ) -> None:
        super().__init__(reactor, opened, _LONGEST)
        self._on_request = on_request

    def heard(self, data: bytes, sender: Any) -> None:
        """One datagram."""
        came_by = interface(sender)
        if came_by is not None:
            for prefix in asked(data):
                self._on_request(came_by, prefix)


class Hurry(Service):
    """Hurries babeld when it has lost the way to a destination, or is asked for one: whomever it asks then,
    it asks at once."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        own: IPv6Address | None,
        length: int,
        offers: Callable[[IPv6Network], Iterable[Offer]],
        is_tap: Callable[[str], bool],
        make_prompter: Callable[[IPv6Address], Prompter] = Prompter,
        make_socket: Callable[[], socket.socket] = open_socket,
    ) -> None:
        """``own``: our link-local address on all taps; without one nobody is hurried. ``length``: that of the
        prefixes of most. ``offers``: the ways to a destination; ``is_tap``: whether an interface is one."""
        self._reactor = reactor
        self._own = own
        self._length = length
        self._offers = offers
        self._is_tap = is_tap
        self._make_prompter = make_prompter
        self._make_socket = make_socket
        self._prompter: Prompter | None = None
        self._requests: _Requests | None = None
        self._ways: dict[Way, None] = {}
        self._soon: IDelayedCall | None = None
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
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        self._close()

    def _close(self) -> None:
        if self._requests is not None:
            self._requests.close()
        if self._prompter is not None:
            self._prompter.close()
        self._requests = self._prompter = None

    def note(self, prefix: IPv6Network) -> None:
        """Something about the ways there has changed: if babel takes none, it asks for a better one."""
        offers = list(self._offers(prefix))
        if not any(offer.installed for offer in offers):
            self._hurry(offers)

    def _note_request(self, interface: str, prefix: IPv6Network) -> None:
        """A neighbour asks: babel forwards that, unless it knows the answer."""
        if self._is_tap(interface):
            self._hurry(self._offers(prefix))

    def _hurry(self, offers: Iterable[Offer]) -> None:
        if self._prompter is None:
            return
        self._ways.update(dict.fromkeys(offer.way for offer in offers if self._is_tap(offer.way.interface)))
        if self._ways and self._soon is None:
            wait = max(0.0, self._last + PAUSE - self._reactor.seconds())
            self._soon = self._reactor.callLater(wait, self._say)

    def _say(self) -> None:
        self._soon, self._last = None, self._reactor.seconds()
        ways, self._ways = self._ways, {}
        if self._prompter is not None:
            for way in ways:
                self._prompter.hurry(way.interface, IPv6Address(way.via))
