"""One end of a TCP connection: sends or receives as fast as the other end lets it.

Run as a script, with the standard library only: ``python -I -S streamer.py receive ADDRESS PORT`` prints
``listening`` when it can be connected to, takes one connection, and at its end prints ``received BYTES
SECONDS SHA256``. With ``--skip`` the first so many seconds are left out of bytes and seconds. ``python -I -S
streamer.py send FROM ADDRESS PORT`` connects from that address, sends for ``--seconds``, or so many
``--bytes``, and prints ``sent BYTES SHA256``. SHA256 is that of the content with ``--check``, else ``-``:
it takes time that a measurement needs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import socket
import sys
import time

PIECE = 1 << 18
"""Bytes given to the system, or taken from it, at a time."""

BUFFER = 4 << 20
"""Bytes that each end's socket may hold."""

PATIENCE = 20.0
"""Seconds without any progress after which it gives up, with a traceback and exit status 1."""


def receive(args: argparse.Namespace) -> None:
    """Take one connection to its end."""
    with socket.socket(socket.AF_INET6 if ":" in args.address else socket.AF_INET) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.settimeout(PATIENCE)
        server.bind((args.address, args.port))
        server.listen(1)
        print("listening", flush=True)
        connection, _ = server.accept()
    with connection:
        connection.settimeout(PATIENCE)
        piece = bytearray(PIECE)
        content = hashlib.sha256()
        count = 0
        begin = last = time.monotonic()
        counts = begin + args.skip
        while number := connection.recv_into(piece):
            last = time.monotonic()
            if args.check:
                content.update(memoryview(piece)[:number])
            if last < counts:
                begin = last
            else:
                count += number
    print("received", count, f"{last - begin:.6f}", content.hexdigest() if args.check else "-", flush=True)


def send(args: argparse.Namespace) -> None:
    """Connect, and send until it is enough."""
    family = socket.AF_INET6 if ":" in args.address else socket.AF_INET
    with socket.socket(family) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        connection.settimeout(PATIENCE)
        connection.bind((args.source, 0))
        connection.connect((args.address, args.port))
        piece = memoryview(os.urandom(PIECE))
        content = hashlib.sha256()
        count = 0
        end = time.monotonic() + args.seconds
        while count < args.bytes if args.bytes else time.monotonic() < end:
            now = piece[: args.bytes - count] if args.bytes else piece
            connection.sendall(now)
            count += len(now)
            if args.check:
                content.update(now)
                # Nothing that comes twice or in another order may look right.
                piece = memoryview(os.urandom(PIECE))
        connection.shutdown(socket.SHUT_WR)
        # The other end closes when it has read it all: nothing of it may be lost by our leaving.
        connection.recv(1)
    print("sent", count, content.hexdigest() if args.check else "-", flush=True)


def main() -> int:
    """Be one end."""
    parser = argparse.ArgumentParser()
    roles = parser.add_subparsers(required=True)
    receiver = roles.add_parser("receive")
    receiver.set_defaults(act=receive)
    receiver.add_argument("--skip", type=float, default=0.0)
    sender = roles.add_parser("send")
    sender.set_defaults(act=send)
    sender.add_argument("--seconds", type=float, default=5.0)
    sender.add_argument("--bytes", type=int, default=0)
    sender.add_argument("source")
    for role in (receiver, sender):
        role.add_argument("--check", action="store_true")
        role.add_argument("address")
        role.add_argument("port", type=int)
    args = parser.parse_args()
    args.act(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
