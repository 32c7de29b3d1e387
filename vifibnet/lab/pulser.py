"""Ping one address at a steady pace until the input is closed: what a failure costs, to a hundredth second.

Run as a script, with the standard library only: ``python -I -S pulser.py --interval 0.01 ADDRESS``. It prints
``begin 0 TIME`` (seconds since the epoch) when the first ping is due, and ``NUMBER SENT RECEIVED`` for each
answer. At the end it waits ``--grace`` seconds for the last answers and prints ``end COUNT BEHIND``: how many
pings it sent, and by how much the latest of them was behind its time. Every ping is sent, late or not: a busy
machine makes none look lost.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import struct
import sys
import time
from contextlib import suppress

ECHO_REQUEST, ECHO_REPLY = 128, 129  # RFC 4443
ICMP6_FILTER = 1
SIZE = 56


def open_socket() -> socket.socket:
    """A raw ICMPv6 socket that gets echo replies only."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    words = [0xFFFFFFFF] * 8
    words[ECHO_REPLY // 32] &= ~(1 << ECHO_REPLY % 32)
    sock.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, struct.pack("=8I", *words))
    sock.setblocking(False)
    return sock


class Pulser:
    """Sends and hears."""

    def __init__(self, address: str, interval: float) -> None:
        self.sock = open_socket()
        self.address = address
        self.interval = interval
        self.cookie = os.urandom(8)
        self.began = time.time()
        self.count = 0
        self.behind = 0.0

    @property
    def due(self) -> float:
        """When the next ping is to be sent."""
        return self.began + self.count * self.interval

    def send(self) -> None:
        """Send every ping that is due; one that cannot be sent (no route) is one without an answer."""
        while (now := time.time()) >= self.due:
            self.behind = max(self.behind, now - self.due)
            header = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, os.getpid() & 0xFFFF, self.count & 0xFFFF)
            payload = self.cookie + struct.pack("!Qd", self.count, now)
            self.count += 1
            with suppress(OSError):
                self.sock.sendto(header + payload.ljust(SIZE, b"\0"), (self.address, 0))

    def receive(self) -> None:
        """Print the answers that have come."""
        lines = []
        with suppress(OSError):
            while True:
                packet, _ = self.sock.recvfrom(65536)
                if packet[8:16] == self.cookie:
                    number, sent = struct.unpack("!Qd", packet[16:32])
                    lines.append(f"{number} {sent:.6f} {time.time():.6f}\n")
        if lines:
            sys.stdout.write("".join(lines))
            sys.stdout.flush()


def main() -> int:
    """Ping until the input is closed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--interval", type=float, default=0.01)
    parser.add_argument("--grace", type=float, default=1.0)
    parser.add_argument("address")
    args = parser.parse_args()
    with suppress(OSError):
        # It needs little and must be in time.
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    pulser = Pulser(args.address, args.interval)
    print("begin", 0, f"{pulser.began:.6f}", flush=True)
    end = float("inf")
    while (now := time.time()) < end:
        open_input = [sys.stdin] if end == float("inf") else []
        if open_input:
            pulser.send()
        wait = max(0.0, (pulser.due if open_input else end) - now)
        ready, _, _ = select.select([pulser.sock, *open_input], [], [], wait)
        pulser.receive()
        if sys.stdin in ready:
            end = time.time() + args.grace
    print("end", pulser.count, f"{pulser.behind:.6f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
