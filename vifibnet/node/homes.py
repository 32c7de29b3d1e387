"""The machine's addresses: whether there is a new one, and whether somebody may ask at one and be answered
from another.

When a new one takes the place of an old one, our openvpn clients' packets come from there. The servers at the
other ends accept that, but learn it from the next packet only.

An openvpn server on all addresses can be told to answer from the one that was asked, but pays for that with
each packet. So only those are told that run where it makes a difference; and when an address comes that does
make one, those that run already are started anew.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Any, NamedTuple, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from vifibnet.errors import CommandFailed
from vifibnet.model.homes import several
from vifibnet.node.drain import Leaving
from vifibnet.node.ear import Ear

SETTLE = 2.0
"""Seconds from news to a look at all addresses: a new one often comes just before the old one goes."""

Addresses = Callable[[], Awaitable[Iterable[Sequence[IPv4Address | IPv6Address]]]]
"""Tells the global addresses of each interface. Raises CommandFailed."""

_GROUPS = 0x10 | 0x100  # linux/rtnetlink.h: RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_NEW = 20  # linux/rtnetlink.h: RTM_NEWADDR
_GLOBAL, _TENTATIVE = 0, 0x40  # linux/rtnetlink.h: RT_SCOPE_UNIVERSE; linux/if_addr.h: IFA_F_TENTATIVE
_ADDRESS = 1  # linux/if_addr.h: IFA_ADDRESS
_HEAD = struct.Struct("=4xH10xBxBBI")  # linux/netlink.h, linux/if_addr.h: a nlmsghdr, an ifaddrmsg
_ATTRIBUTE = struct.Struct("=HH")  # linux/rtnetlink.h: struct rtattr, its length included
_LONGEST = 1 << 16


class Server(Protocol):
    """What an openvpn server is to us."""

    def rehome(self, taps: Leaving) -> Deferred[None]:
        """There are several addresses now."""


def open_netlink() -> socket.socket:
    """A socket that hears of each address that comes or goes (rtnetlink(7)). Raises OSError."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    try:
        opened.bind((0, _GROUPS))
    except BaseException:
        opened.close()
        raise
    return opened


class _Message(NamedTuple):
    """What the kernel tells of an address: whether it is there, which one on which interface, and whether it
    is still ``tentative`` (an IPv6 one is not used before nobody else has it)."""

    there: bool
    scope: int
    which: tuple[int, bytes]
    tentative: bool


def _parse(data: bytes) -> _Message | None:
    """The message; None if it is cut off."""
    if len(data) < _HEAD.size:
        return None
    kind, _, flags, scope, index = _HEAD.unpack_from(data)
    address, at = b"", _HEAD.size
    while at + _ATTRIBUTE.size <= len(data):
        length, attribute = _ATTRIBUTE.unpack_from(data, at)
        if attribute == _ADDRESS:
            address = data[at + _ATTRIBUTE.size : at + length]
        at += max(_ATTRIBUTE.size, (length + 3) & ~3)
    return _Message(kind == _NEW, scope, (index, address), bool(flags & _TENTATIVE))


class _News(Ear):
    """Calls when a global address has come or gone, with None when that may be; link-local ones do so with
    every tunnel."""

    def __init__(
        self, reactor: Any, opened: socket.socket, on_news: Callable[[_Message | None], None]
    ) -> None:
        super().__init__(reactor, opened, _LONGEST)
        self._on_news = on_news

    def heard(self, data: bytes, sender: Any) -> None:
        """One message."""
        message = _parse(data)
        if message is None or message.scope == _GLOBAL:
            self._on_news(message)

    def missed(self) -> None:
        """There were too many at once."""
        self._on_news(None)


class Homes(Service):
    """Watches the machine's addresses while it runs.

    ``several`` is whether there is more than one of a family; while that is not known, it is assumed.
    ``on_moved``, which may be set, is called when one has come that may be used from now on.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        network: IPv6Network,
        addresses: Addresses,
        make_socket: Callable[[], socket.socket] = open_netlink,
    ) -> None:
        """``network`` is ours."""
        self.several = True
        self._reactor = reactor
        self._network = network
        self._addresses = addresses
        self.on_moved: Callable[[], None] = lambda: None
        # Those that we were told of, and whether they were tentative then.
        self._told: dict[tuple[int, bytes], bool] = {}
        self._servers: Iterable[Server] = ()
        self._taps: Leaving | None = None
        self._make_socket = make_socket
        self._news: _News | None = None
        self._later: IDelayedCall | None = None

    async def begin(self, servers: Iterable[Server], taps: Leaving) -> None:
        """Start; return when ``several`` is known. Where nobody tells of changes it stays assumed.

        From then on ``servers`` are told when there are several where there were not."""
        self.startService()
        self._servers, self._taps = servers, taps
        try:
            self._news = _News(self._reactor, self._make_socket(), self._changed)
        except OSError as error:
            self.log.warn("new addresses of this machine will not be noticed: {error}", error=str(error))
            return
        self._news.startReading()
        await self._look()

    def stopService(self) -> None:
        """Watch no more."""
        super().stopService()
        if self._news is not None:
            self._news.close()
            self._news = None
        if self._later is not None and self._later.active():
            self._later.cancel()

    def _changed(self, message: _Message | None) -> None:
        before = None if message is None else self._told.pop(message.which, None)
        if message is not None and message.there:
            self._told[message.which] = message.tentative
        # Those that we know are told again whenever they are granted for longer.
        if message is None or (message.there and message.tentative != before):
            self.on_moved()
        if self._later is None or not self._later.active():
            self._later = self._reactor.callLater(SETTLE, self._due)

    def _due(self) -> None:
        done = Deferred.fromCoroutine(self._look())
        done.addErrback(lambda failure: self.log.failure("the machine's addresses are unknown", failure))

    async def _look(self) -> None:
        try:
            now = several(await self._addresses(), self._network)
        except CommandFailed as error:
            self.log.warn("the machine's addresses are unknown: {error}", error=str(error))
            now = True
        before, self.several = self.several, now
        if now and not before and self.running and self._taps is not None:
            self.log.info("this machine can be asked at several addresses now")
            for server in self._servers:
                done = server.rehome(self._taps)
                done.addErrback(lambda failure: self.log.failure("a server is not started anew", failure))
