"""Telling our own babeld in a neighbour's name what hearing us costs that neighbour.

babeld (1.12) has no other ear for what we know of its links before it does: a change of an interface's cost
is ignored at run time, and one interface may lead to many neighbours. But it believes an IHU ("I heard you",
RFC 8966) that comes from a neighbour's address at once. A packet that is sent to one's own link-local address
on an interface arrives as if over that interface (Linux, ip6_input.c).

The tunnels have no babel keys, which would forbid this: openvpn authenticates all that comes over them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import IPv6Address, IPv6Network

from vifibnet.wire.babelpacket import FAR, datagram, errand, ihu, introduction, patience, questions, silence

HOLDS = 30.0
"""Seconds that babeld believes it, at least, when it hears nothing else."""

KNOWN = 2000
"""Of so many neighbours babeld may remember the hellos; it forgets who was not heard for five minutes."""


def open_raw() -> socket.socket:
    """A socket for IPv6 packets with a header of our own. Raises OSError."""
    return socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW)


class Prompter:
    """Says it."""

    def __init__(self, own: IPv6Address, make_socket: Callable[[], socket.socket] = open_raw) -> None:
        """``own`` is our link-local address on all taps. Raises OSError."""
        self._own = own
        self._socket = make_socket()
        # What the next unicast hello of each is numbered; who was not spoken for lately comes first.
        self._numbers: dict[tuple[str, IPv6Address], int] = {}

    def say(self, interface: str, neighbour: IPv6Address, cost: int) -> None:
        """From now on the neighbour hears us at this cost, until it says something else itself."""
        self._send(interface, neighbour, ihu(cost, HOLDS))

    def introduce(self, interface: str, neighbour: IPv6Address, cost: int, hello: float) -> None:
        """Have babeld take the neighbour for reachable at this cost without waiting for two of its hellos,
        and tell it all routes. It is believed for three times ``hello`` seconds at most: by then its own must
        have come."""
        number = self._count(interface, neighbour, 2)
        self._send(interface, neighbour, introduction(cost, HOLDS, hello, number))

    def ask(
        self,
        interface: str,
        neighbour: IPv6Address,
        prefixes: Iterable[IPv6Network],
        among: int | None = None,
    ) -> None:
        """Have babeld tell all on the interface of its routes to these within a tenth of a second; at once if
        it is known ``among`` how many it has."""
        for packet in questions(prefixes, among):
            self._send(interface, neighbour, packet)

    def inquire(self, interface: str, neighbour: IPv6Address, prefixes: Iterable[IPv6Network]) -> None:
        """Have the neighbour's babeld tell ours, and all on the interface, at once of its routes to these."""
        for packet in questions(prefixes):
            self._put(interface, neighbour, datagram(self._own, neighbour, packet))

    def forget(self, interface: str, neighbour: IPv6Address) -> None:
        """Have babeld believe no more that it hears the neighbour, which its next two hellos end."""
        number = self._count(interface, neighbour, FAR + 1)
        self._send(interface, neighbour, silence(number))

    def quieten(self, interface: str, neighbour: IPv6Address) -> None:
        """Have babeld, which hears the neighbour well, miss no unicast hellos of it for some minutes."""
        number = self._count(interface, neighbour, FAR + 1)
        self._send(interface, neighbour, patience(number))

    def hurry(self, interface: str, neighbour: IPv6Address) -> None:
        """Have babeld send this neighbour at once what it has for it."""
        self._send(interface, neighbour, errand())

    def _count(self, interface: str, neighbour: IPv6Address, step: int) -> int:
        """The number of its next hello, which those that are said now are so many after."""
        number = self._numbers.pop((interface, neighbour), 0)
        self._numbers[interface, neighbour] = (number + step) & 0xFFFF
        if len(self._numbers) > KNOWN:
            del self._numbers[next(iter(self._numbers))]
        return number

    def _send(self, interface: str, neighbour: IPv6Address, payload: bytes) -> None:
        self._put(interface, self._own, datagram(neighbour, self._own, payload))

    def _put(self, interface: str, target: IPv6Address, packet: bytes) -> None:
        # An interface that has just gone has no neighbours any more.
        with suppress(OSError):
            self._socket.sendto(packet, (str(target), 0, 0, socket.if_nametoindex(interface)))

    def close(self) -> None:
        """Say nothing any more."""
        self._socket.close()
