"""The frame with which two nodes show each other, several times a second, that a tunnel carries data.

A frame of our own Ethernet type and 14 bytes, little enough for every idle tunnel: an IPv6 datagram with
the same would cost half as much again. The idea is that of BFD (RFC 5880).
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import NamedTuple

from vifibnet.model.liveness import INFINITY

ETHERTYPE = 0x88B5
"""The frame's type: IEEE 802's first one for local experiments. It leaves no tunnel."""

_LAYOUT = struct.Struct("!BBHH8s")
_VERSION = 0x10
_EMPTY, _EAGER, _BUSY = 0x01, 0x02, 0x04

NOT_PLAIN = (
    (0x30, 0, 0, 0),  # load the first byte
    (0x45, 2, 0, 0x0F),  # flags: accept
    (0x28, 0, 0, 4),  # load the cost
    (0x15, 1, 0, 0),  # none: refuse
    (0x06, 0, 0, 0xFFFF),  # accept
    (0x06, 0, 0, 0),  # refuse
)
"""The packet filter that accepts beats that are not ``plain`` (code, jumps if true and if false, operand:
Linux's networking/filter.rst)."""

_LINK_LOCAL = bytes.fromhex("fe80000000000000")
_UNIT = 0.001


class Beat(NamedTuple):
    """One heartbeat: the ``sender`` (its link-local address, packed: hundreds are read in a second), the
    ``number`` of the beat (0 to 255, then 0), and the sender's ``interval`` in seconds (a thousandth to 65).

    ``cost`` is what the sender adds to the cost of this tunnel for a reason of its own: 0 if there is none,
    INFINITY when it does not hear you. ``empty``: it uses the tunnel for nothing that it could reach
    otherwise. ``eager``: it has missed a beat, and wants more for a while to see how many are lost. ``busy``:
    packets go over the tunnel, so that its end should be noticed sooner.
    """

    sender: bytes
    number: int
    interval: float
    cost: int = INFINITY
    empty: bool = False
    eager: bool = False
    busy: bool = False

    @property
    def address(self) -> IPv6Address:
        """The sender's address."""
        return IPv6Address(self.sender)

    @property
    def plain(self) -> bool:
        """Whether it says no more than that the sender is well."""
        return not (self.cost or self.empty or self.eager or self.busy)


def format_beat(beat: Beat) -> bytes:
    """The frame's content."""
    flags = ((_EMPTY, beat.empty), (_EAGER, beat.eager), (_BUSY, beat.busy))
    first = _VERSION | sum(flag for flag, said in flags if said)
    interval = min(max(1, round(beat.interval / _UNIT)), 0xFFFF)
    return _LAYOUT.pack(first, beat.number & 0xFF, interval, beat.cost, beat.sender[8:])


def plain_beats(sender: bytes, interval: float) -> list[bytes]:
    """The frames that say no more than that the sender is well, by number: most are such."""
    return [format_beat(Beat(sender, number, interval, cost=0)) for number in range(256)]


def parse_beat(data: bytes) -> Beat | None:
    """The beat; None for anything else. What a later version may add at the end is ignored."""
    if len(data) < _LAYOUT.size:
        return None
    first, number, interval, cost, suffix = _LAYOUT.unpack_from(data)
    if first & 0xF0 != _VERSION or interval == 0:
        return None
    flags = bool(first & _EMPTY), bool(first & _EAGER), bool(first & _BUSY)
    return Beat(_LINK_LOCAL + suffix, number, interval * _UNIT, cost, *flags)


def split_beat(data: bytes) -> tuple[int, bytes]:
    """The number of the beat, and the rest, which is the same for all that say the same. What is no beat has
    any number."""
    return (data[1], data[:1] + data[2:]) if len(data) > 1 else (0, data)
