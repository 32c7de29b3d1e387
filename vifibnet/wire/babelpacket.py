"""Babel packets (RFC 8966) of our own, with their UDP and IPv6 headers around them.

What node.prompter says to our own babeld in a neighbour's name: "this is what it costs me to hear you", "here
I am", "tell me of these", "have you got this", and what makes it forget that it heard somebody. And what
neighbours ask for, which node.hurry wants to know.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address, IPv6Network
from typing import NamedTuple

from vifibnet.wire.babeld import PORT

_MAGIC, _BABEL_VERSION = 42, 2
_PAD1, _ACK_REQUEST, _HELLO, _IHU, _REQUEST, _SEQNO_REQUEST = 0, 2, 4, 5, 9, 10
_WILDCARD, _IPV6 = 0, 2
_NOBODY = bytes(8)
_AT_MOST = 36
_ROOM, _MORE, _WORTH = 96, 16, 500
"""babeld has room for a sixteenth of an MTU of answers, or for some more than there are destinations; a
thousand questions are not worth it."""

_UNICAST = 0x8000
_UDP = 17
_BEFORE = {_REQUEST: 2, _SEQNO_REQUEST: 14}
"""Bytes before the prefix in what asks for something."""

_BODY = 8 + 4
"""Where the first TLV of a datagram begins: behind the headers of UDP and of babel."""

FAR = 0x4000
"""A hello whose number is so much greater than the last one's says that all in between are missing."""


def ihu(cost: int, interval: float) -> bytes:
    """A packet that says "I heard you" (section 4.6.6): the sender's cost for what we send, and within how
    many seconds it says so again."""
    return _packet(_ihu(cost, interval))


def introduction(cost: int, interval: float, hello: float, number: int) -> bytes:
    """The same, from somebody whom babeld shall take for reachable at once, and who wants to know all routes.

    babeld (1.12, neighbour.c, two_three) demands two hellos out of three for that. Unicast ones (section
    4.6.5) have a history of their own; ``number`` is that of the first of two. babeld forgets them after 2.7
    times ``hello`` seconds: by then the neighbour's own hellos must have come.

    It forgets a whole neighbour that has sent no other hellos, or only some between the regular ones, which
    announce no more (check_neighbours): with one that does, their history begins; the neighbour's own next
    one begins it anew.
    """
    hellos = [_hello(0, number, hello)]
    hellos += [_hello(_UNICAST, number + more, hello) for more in range(2)]
    return _packet(*hellos, _ihu(cost, interval), struct.pack("!BBBB", _REQUEST, 2, _WILDCARD, 0))


def questions(prefixes: Iterable[IPv6Network], among: int | None = None) -> Iterator[bytes]:
    """Packets that ask for routes to these, to be answered within 0.1 s and to all on the interface; at once
    if it is known ``among`` how many destinations that babeld has.

    babeld takes a hello interval to answer a request for a route, or for all, and does not answer one for all
    in the ten after it has told all. But it hurries (handle_request) when somebody asks for a newer sequence
    number (section 4.6.11) than the route's, or has another router in mind: here it is none. And it does not
    wait when there are more answers than it has room for (buffer_update), though all are the same.
    """
    waiting = [_question(prefix) for prefix in prefixes]
    room = 0 if among is None or among > _WORTH else max(_ROOM, among + _MORE)
    waiting *= -(-room // len(waiting)) if waiting and len(waiting) < room else 1
    for start in range(0, len(waiting), _AT_MOST):
        yield _packet(*waiting[start : start + _AT_MOST])


def _question(prefix: IPv6Network) -> bytes:
    """One hop to go: nobody else is asked."""
    address = prefix.network_address.packed[: (prefix.prefixlen + 7) // 8]
    head = struct.pack("!BBBBHBB", _SEQNO_REQUEST, 14 + len(address), _IPV6, prefix.prefixlen, 0, 1, 0)
    return head + _NOBODY + address


def silence(number: int) -> bytes:
    """Hellos after which babeld takes somebody that it heard for one that it has just begun to hear, which is
    not enough (see introduction): so many are missing before them that it counts anew.

    Where the history of the multicast ones ends is not known: the second of two far numbers is far from that
    in any case. ``number`` is what the next unicast one would have. An interval of 0 says that no more are
    announced, and leaves alone what was.
    """
    flags = ((0, 0), (0, FAR), (_UNICAST, number + FAR))
    return _packet(*(_hello(flag, each, 0) for flag, each in flags))


def patience(number: int) -> bytes:
    """A unicast hello that announces the next one for as late as can be said, eleven minutes.

    Whoever has sent none misses one, to babeld, each time that it looks (1.12, check_neighbours), which is
    after one and a half hello intervals; it then goes through all routes of that neighbour and tells each of
    them anew on its control socket. ``number`` is what the next unicast hello would have; this one is too far
    from those before to count together with them, and alone it is not enough (see introduction).
    """
    return _packet(_hello(_UNICAST, number + FAR, 655.35))


def errand() -> bytes:
    """A packet that is to be acknowledged at once (section 4.6.3): with the answer, babeld sends whatever
    else it has for who asks. What it forwards to somebody, it would keep for a quarter of a hello interval
    (1.12, jitter)."""
    return _packet(struct.pack("!BBHHH", _ACK_REQUEST, 6, 0, 0, 0))


def asking(length: int) -> tuple[tuple[int, int, int, int], ...]:
    """The packet filter that accepts datagrams (with their UDP headers) to a babeld whose first TLV asks for
    a newer sequence number, and does not end there, or whose last one does, or asks for a route, for a prefix
    of this length. (Those to which babeld has nothing to add consist of nothing else, or it adds them to what
    it announces.)"""
    newer, route = 14 + (length + 7) // 8, 2 + (length + 7) // 8
    return (
        (0x28, 0, 0, 2),  # load the port
        (0x15, 0, 15, PORT),
        (0x30, 0, 0, _BODY),  # load the first type
        (0x15, 0, 2, _SEQNO_REQUEST),
        (0x30, 0, 0, _BODY + 6),  # load its hop count
        (0x25, 10, 11, 1),
        (0x28, 0, 0, 4),  # load the length
        (0x14, 0, 0, 2 + route),
        (0x07, 0, 0, 0),  # that is where the last TLV would begin
        (0x48, 0, 0, 0),  # load its type and length
        (0x15, 5, 0, _REQUEST << 8 | route),
        (0x87, 0, 0, 0),  # or there
        (0x14, 0, 0, newer - route),
        (0x07, 0, 0, 0),
        (0x48, 0, 0, 0),
        (0x15, 0, 1, _SEQNO_REQUEST << 8 | newer),
        (0x06, 0, 0, 0xFFFF),  # accept
        (0x06, 0, 0, 0),  # refuse
    )


class Wanted(NamedTuple):
    """A route to this prefix is wanted; a ``newer`` one, for which somebody else may have to be asked, or
    whatever is known."""

    prefix: IPv6Network
    newer: bool


def asked(data: bytes) -> Iterator[Wanted]:
    """What the datagram (with its UDP header) asks for."""
    end, at = len(data), _BODY
    while at + 2 <= end:
        kind, length = data[at], data[at + 1]
        if kind == _PAD1:
            at += 1
            continue
        body = data[at + 2 : at + 2 + length]
        at += 2 + length
        start = _BEFORE.get(kind, len(body) + 1)
        if at > end or len(body) < start or body[0] != _IPV6 or body[1] > 128:
            continue
        if kind == _SEQNO_REQUEST and (body[4] <= 1 or body[5] != 0):
            continue
        address = body[start : start + (body[1] + 7) // 8]
        if len(address) * 8 >= body[1]:
            prefix = IPv6Network((address.ljust(16, b"\0"), body[1]), strict=False)
            yield Wanted(prefix, kind == _SEQNO_REQUEST)


def _packet(*tlvs: bytes) -> bytes:
    body = b"".join(tlvs)
    return struct.pack("!BBH", _MAGIC, _BABEL_VERSION, len(body)) + body


def _hello(flags: int, number: int, interval: float) -> bytes:
    hundredths = _hundredths(interval) if interval else 0
    return struct.pack("!BBHHH", _HELLO, 6, flags, number & 0xFFFF, hundredths)


def _ihu(cost: int, interval: float) -> bytes:
    return struct.pack("!BBBBHH", _IHU, 6, _WILDCARD, 0, cost, _hundredths(interval))


def _hundredths(seconds: float) -> int:
    return min(max(1, round(100 * seconds)), 0xFFFF)


def datagram(source: IPv6Address, target: IPv6Address, payload: bytes) -> bytes:
    """The payload between two babelds, as an IPv6 packet (RFC 8200) with one hop to go."""
    length = 8 + len(payload)
    addresses = source.packed + target.packed
    pseudo = addresses + struct.pack("!II", length, _UDP)
    ports = struct.pack("!HHH", PORT, PORT, length)
    check = _checksum(pseudo + ports + b"\0\0" + payload)
    header = struct.pack("!IHBB", 6 << 28, length, _UDP, 1) + addresses
    return header + ports + struct.pack("!H", check or 0xFFFF) + payload


def _checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
