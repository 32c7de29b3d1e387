"""Clients that call as fast as they are answered, all in one thread: the same for all servers.

Requests are ready-made bytes and answers are only searched for their end, so that what is measured is the
server.
"""

from __future__ import annotations

import re
import selectors
import socket
import ssl
import time
import xmlrpc.client
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import quantiles
from typing import cast

from twisted.protocols.amp import AmpBox

from vifibnet.wire.amp import ALPN

WARMING_UP = 0.5
"""Seconds of calls that do not count."""

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_BODY = xmlrpc.client.dumps((), "getBootstrapPeer").encode()

GET = b"GET /getBootstrapPeer HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POST = (
    b"POST /RPC2 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/xml\r\nUser-Agent: bench\r\n"
    b"Content-Length: %d\r\n\r\n" % len(_BODY)
) + _BODY
AMP = AmpBox({b"_command": b"GetBootstrapPeer", b"_ask": b"1"}).serialize()


def http_end(data: bytes) -> bool:
    """Whether this is a whole answer. Raises AssertionError unless it is a good one."""
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return False
    length = _LENGTH.search(data, 0, head + 2)
    assert length is not None
    if len(data) < head + 4 + int(length[1]):
        return False
    assert data.startswith(b"HTTP/1.1 200"), data
    assert b"192.0.2.1" in data, data
    return True


def amp_end(data: bytes) -> bool:
    """Whether this is a whole box. Raises AssertionError unless it is a good answer."""
    at = 0
    while len(data) >= at + 2:
        length = int.from_bytes(data[at : at + 2], "big")
        at += 2 + length
        # The end of the box stands where a key would.
        if length == 0:
            assert data.startswith(b"\x00\x07_answer"), data
            return True
    return False


@dataclass(frozen=True)
class Way:
    """How to call: bytes, and how to know that the answer is complete."""

    request: bytes
    end: Callable[[bytes], bool]
    tls: bool = False
    amp: bool = False

    def connect(self, home: Path, port: int) -> socket.socket:
        """One connection."""
        raw = socket.create_connection(("127.0.0.1", port), 30)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _context(home, self.amp).wrap_socket(raw) if self.tls else raw


@cache
def _context(home: Path, amp: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(home / "ca.crt")
    if amp:
        context.load_cert_chain(home / "nodes.crt", home / "node.key")
        context.set_alpn_protocols([ALPN.decode()])
    return context


@dataclass(frozen=True)
class Speed:
    """Calls per second; the time that all but one in a hundred took, in ms; the server's CPU seconds each."""

    calls: float
    p99: float
    cpu: float = 0.0


def call(way: Way, home: Path, port: int, clients: int, seconds: float) -> Speed:
    """Call on so many connections for so long, after some warming up."""
    connections = [way.connect(home, port) for _ in range(clients)]
    selector = selectors.DefaultSelector()
    pending: dict[socket.socket, bytes] = {}
    sent: dict[socket.socket, float] = {}
    for connection in connections:
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)
    took: list[float] = []
    begin = time.perf_counter() + WARMING_UP
    end = begin + seconds
    for connection in connections:
        pending[connection], sent[connection] = b"", time.perf_counter()
        connection.send(way.request)
    now = 0.0
    while now < end:
        ready = selector.select(5)
        assert ready, "the server is silent"
        for key, _ in ready:
            connection = cast(socket.socket, key.fileobj)
            try:
                data = connection.recv(65536)
            except (ssl.SSLWantReadError, BlockingIOError):
                continue
            if not data:
                # So many requests per connection: a client dials again.
                selector.unregister(connection)
                connection.close()
                pending.pop(connection)
                connection = way.connect(home, port)
                connection.setblocking(False)
                selector.register(connection, selectors.EVENT_READ)
            pending[connection] = pending.get(connection, b"") + data if data else b""
            if data and not way.end(pending[connection]):
                continue
            now = time.perf_counter()
            if data and now > begin:
                took.append(now - sent[connection])
            pending[connection], sent[connection] = b"", now
            connection.send(way.request)
    for connection in connections:
        connection.close()
    return Speed(len(took) / seconds, quantiles(took, n=100)[98] * 1000)
