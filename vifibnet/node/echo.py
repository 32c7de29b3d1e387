"""Asking the kernel at the other end of a tunnel whether it is there, as ping does (ICMPv6 echo, RFC 4443).

A node that has no time for its heartbeats, hangs, or has crashed and is being started again is no reason to
leave its tunnels: openvpn, babeld and its kernel's routes carry on without it, and its kernel answers.
"""

from __future__ import annotations

import secrets
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv6Address
from typing import Any

from vifibnet.node.ear import Ear, interface

_FILTER = 1
"""The types that a socket shall not get, a bit each (ICMP6_FILTER, RFC 3542)."""

_REQUEST, _REPLY = 128, 129
_HEAD = struct.Struct("!BBHHH")
_TYPES = 256


def open_echo_socket() -> socket.socket:
    """A socket that gets answers alone. Raises OSError."""
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    opened = socket.socket(socket.AF_INET6, kind, socket.IPPROTO_ICMPV6)
    refused = [0xFFFFFFFF] * (_TYPES // 32)
    refused[_REPLY // 32] &= ~(1 << _REPLY % 32)
    try:
        opened.setsockopt(socket.IPPROTO_ICMPV6, _FILTER, struct.pack("=8I", *refused))
    except OSError:
        opened.close()
        raise
    return opened


class Echo(Ear):
    """Asks, and tells who has answered."""

    def __init__(
        self,
        reactor: Any,
        on_answer: Callable[[str, IPv6Address], None],
        make_socket: Callable[[], socket.socket] = open_echo_socket,
    ) -> None:
        """``on_answer`` is called with the interface and the address. Raises OSError."""
        super().__init__(reactor, make_socket(), _HEAD.size)
        self._on_answer = on_answer
        # Others on this machine ask, too, and all hear all answers.
        self._mark = secrets.randbits(16), secrets.randbits(16)
        self.startReading()

    def ask(self, tap: str, address: IPv6Address) -> None:
        """Whoever has this link-local address there; costs nothing where there is no such interface."""
        request = _HEAD.pack(_REQUEST, 0, 0, *self._mark)
        with suppress(OSError):
            # The kernel fills in the checksum (RFC 3542).
            self._socket.sendto(request, (str(address), 0, 0, socket.if_nametoindex(tap)))

    def heard(self, data: bytes, sender: Any) -> None:
        """Somebody answers somebody."""
        if len(data) < _HEAD.size:
            return
        kind, _, _, *mark = _HEAD.unpack(data)
        tap = interface(sender)
        if kind == _REPLY and tuple(mark) == self._mark and tap is not None:
            self._on_answer(tap, IPv6Address(sender[0].partition("%")[0]))
