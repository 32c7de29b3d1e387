"""Where we come from, in the eyes of the peers that our tunnels lead to.

A server knows the address of everybody it serves. It says so to all nodes on its tap (multicast to ff02::1),
and each picks out what is said of itself. Only what comes in over the tap of a tunnel of ours counts: at its
other end is the one peer whose certificate we have checked.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from twisted.application.service import Service
from twisted.internet.abstract import FileDescriptor
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from vifibnet.model.addresses import Prefix
from vifibnet.wire.hearsay import MAX_LENGTH, PORT, format_seen, parse_seen

REPEAT = 60.0
"""Seconds between two tellings of the same: the first may come before the other end listens."""

SOON = 1.0
"""Seconds from a peer's coming to the first telling: its tap must be up."""

AT_ONCE = 20
"""How many datagrams are read before others get their turn."""

Telling = tuple[str, Prefix, str]
"""Over which tap, to whom, and the address that it comes from."""


class Hearsay(Service):
    """Tells served peers where they come from, and hears it from those that serve us."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        own: Prefix,
        served: Callable[[], Iterable[Telling]],
        tunnels: Callable[[], Mapping[str, Prefix]],
        on_change: Callable[[], None],
        make_socket: Callable[[], socket.socket] | None = None,
    ) -> None:
        """``served`` tells who is to be told what, ``tunnels`` the peer behind each tap whose tunnel is up.
        ``on_change`` is called when ``address`` may be another."""
        self._reactor = reactor
        self._own = own
        self._served = served
        self._tunnels = tunnels
        self._on_change = on_change
        self._make_socket = make_socket or open_socket
        self._heard: dict[str, tuple[Prefix, str]] = {}
        self._reader: _Reader | None = None
        self._soon: Any = None
        self._loop = LoopingCall(self.tell)
        self._loop.clock = reactor

    @property
    def address(self) -> str | None:
        """Where most of the peers that we are connected to see us; None when none has told."""
        tunnels = self._tunnels()
        said = Counter(address for tap, (peer, address) in self._heard.items() if tunnels.get(tap) == peer)
        return said.most_common(1)[0][0] if said else None

    def startService(self) -> None:
        """Listen, and tell again and again. Without the port we only tell nobody anything."""
        super().startService()
        try:
            self._reader = _Reader(self._reactor, self._make_socket(), self._datagram)
        except OSError as error:
            self.log.warn(
                "UDP port {port} cannot be used ({problem}): peers cannot tell us where they see us",
                port=PORT,
                problem=error.strerror,
            )
            return
        self._reader.startReading()
        self._loop.start(REPEAT, now=False)

    def stopService(self) -> None:
        """Neither tell nor listen any more."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        if self._soon is not None and self._soon.active():
            self._soon.cancel()
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def served_changed(self) -> None:
        """Somebody has come: tell soon."""
        if self._reader is not None and not (self._soon is not None and self._soon.active()):
            self._soon = self._reactor.callLater(SOON, self.tell)

    def tell(self) -> None:
        """Tell everybody we serve; what is lost is told again."""
        if self._reader is not None:
            for tap, peer, address in self._served():
                self._reader.send(tap, format_seen(peer, address))

    def _datagram(self, data: bytes, tap: str) -> None:
        """Somebody has told something; over which tap is what makes it credible."""
        said, peer = parse_seen(data), self._tunnels().get(tap)
        if said is None or said[0] != self._own or peer is None:
            return
        heard = peer, str(said[1])
        if self._heard.get(tap) != heard:
            self._heard[tap] = heard
            self.log.debug("{peer} sees us at {address}", peer=str(peer), address=heard[1])
            self._on_change()


def open_socket() -> socket.socket:
    """A socket on our port of all IPv6 addresses. Raises OSError."""
    opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        opened.bind(("::", PORT))
    except BaseException:
        opened.close()
        raise
    return opened


class _Reader(FileDescriptor):
    """Datagrams with the interface they came in by, which Twisted's own UDP ports do not tell."""

    def __init__(
        self, reactor: Any, opened: socket.socket, on_datagram: Callable[[bytes, str], None]
    ) -> None:
        super().__init__(reactor)
        self._socket = opened
        self._on_datagram = on_datagram

    def fileno(self) -> int:
        """For the reactor."""
        return self._socket.fileno()

    def doRead(self) -> None:
        """Read what there is; only link-local senders say by which interface they came."""
        for _ in range(AT_ONCE):
            try:
                data, (_, _, _, scope) = self._socket.recvfrom(MAX_LENGTH + 1)
            except OSError:
                return
            with suppress(OSError):
                self._on_datagram(data, socket.if_indextoname(scope))

    def send(self, interface: str, data: bytes) -> None:
        """Send to all nodes on an interface; one that is down costs nothing."""
        with suppress(OSError):
            self._socket.sendto(data, ("ff02::1", PORT, 0, socket.if_nametoindex(interface)))

    def close(self) -> None:
        """Stop reading, close the socket."""
        self.stopReading()
        self._socket.close()
