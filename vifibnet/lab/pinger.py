"""Ping many addresses at once, in several sizes, until each has answered: one process per host of the lab.

Run as a script, with the standard library only, so that it starts in a few hundredths of a second:
``python -I -S pinger.py --sizes 56,1352 ADDRESS…``. It prints ``ADDRESS SIZE TIME`` for the first answer of
each (TIME in seconds since the epoch) and ends with status 0 when none is missing, with 1 at the deadline or
when its input is closed. What cannot be sent (no route yet) is a ping without an answer.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Sequence

ECHO_REQUEST, ECHO_REPLY = 128, 129  # RFC 4443
ICMP6_FILTER = 1
IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE = 23, 3
IPV6_DONTFRAG = 62


def open_socket() -> socket.socket:
    """A raw ICMPv6 socket that gets echo replies only and never fragments."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    blocked = bytearray(b"\xff" * 32)
    blocked[ECHO_REPLY // 32 * 4 : ECHO_REPLY // 32 * 4 + 4] = struct.pack(
        "=I", 0xFFFFFFFF & ~(1 << ECHO_REPLY % 32)
    )
    sock.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, bytes(blocked))
    sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE)
    sock.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, 1)
    sock.setblocking(False)
    return sock


class Pinger:
    """The pings that have no answer yet, by sequence number."""

    def __init__(self, addresses: Sequence[str], sizes: Sequence[int]) -> None:
        self.sock = open_socket()
        self.cookie = os.urandom(8)
        self.missing = dict(enumerate((address, size) for address in addresses for size in sizes))

    def send(self) -> None:
        """Ping once whoever has not answered."""
        for number, (address, size) in self.missing.items():
            header = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, os.getpid() & 0xFFFF, number)
            payload = self.cookie.ljust(size, b"\0")
            try:
                self.sock.sendto(header + payload, (address, 0))
            except OSError:
                continue

    def receive(self) -> list[tuple[str, int]]:
        """Take in the answers that have come; return which of them were the first of their kind."""
        answered: list[tuple[str, int]] = []
        while True:
            try:
                packet, sender = self.sock.recvfrom(65536)
            except OSError:
                return answered
            number = struct.unpack("!H", packet[6:8])[0]
            address, size = self.missing.get(number, ("", 0))
            if packet[8:16] == self.cookie and sender[0] == address and len(packet) == size + 8:
                del self.missing[number]
                answered.append((address, size))


def main() -> int:
    """Ping until all have answered."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--interval", type=float, default=0.1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--sizes", default="56")
    parser.add_argument("addresses", nargs="+")
    args = parser.parse_args()
    pinger = Pinger(args.addresses, [int(size) for size in args.sizes.split(",")])
    end = time.monotonic() + args.seconds
    turn = time.monotonic()
    while pinger.missing and time.monotonic() < end:
        if turn <= time.monotonic():
            pinger.send()
            turn = time.monotonic() + args.interval
        ready, _, _ = select.select([pinger.sock, sys.stdin], [], [], max(0, turn - time.monotonic()))
        now = time.time()
        for address, size in pinger.receive():
            print(address, size, f"{now:.6f}", flush=True)
        if sys.stdin in ready:
            break
    return 0 if not pinger.missing else 1


if __name__ == "__main__":
    sys.exit(main())
