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
from collections import deque
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


def http_end(data: bytes) -> int:
    """How long the first answer is; 0 if it is not complete. Raises AssertionError if it is no good one."""
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return 0
    length = _LENGTH.search(data, 0, head + 2)
    assert length is not None
    end = head + 4 + int(length[1])
    if len(data) < end:
        return 0
    assert data.startswith((b"HTTP/1.0 200", b"HTTP/1.1 200")), data
    assert b"192.0.2.1" in data, data
    return end


def amp_end(data: bytes) -> int:
    """How long the first box is; 0 if it is not complete. Raises AssertionError if it is no good answer."""
    at = 0
    while len(data) >= at + 2:
        length = int.from_bytes(data[at : at + 2], "big")
        at += 2 + length
        # The end of the box stands where a key would.
        if length == 0:
            assert data.startswith(b"\x00\x07_answer"), data
            return at
    return 0


@dataclass(frozen=True)
class Way:
    """How to call: bytes, and how to know where the answer ends."""

    request: bytes
    end: Callable[[bytes], int]
    tls: bool = False
    node: bool = False
    """Whether a node's certificate is shown."""
    amp: bool = False
    kept: bool = True
    """Whether the connection stays for the next call."""
    ahead: int = 1
    """How many calls are made before the first is answered."""

    def connect(self, home: Path, port: int) -> socket.socket:
        """One connection."""
        raw = socket.create_connection(("127.0.0.1", port), 30)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _context(home, self.node, self.amp).wrap_socket(raw) if self.tls else raw


@cache
def _context(home: Path, node: bool, amp: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(home / "ca.crt")
    if node:
        context.load_cert_chain(home / "nodes.crt", home / "node.key")
    if amp:
        context.set_alpn_protocols([ALPN.decode()])
    return context


@dataclass(frozen=True)
class Speed:
    """Calls per second; the time that all but one in a hundred took, in ms; the server's CPU seconds each."""

    calls: float
    p99: float
    cpu: float = 0.0


class Client:
    """One connection after the other, each with so many calls that wait for their answers."""

    def __init__(self, way: Way, home: Path, port: int, selector: selectors.BaseSelector) -> None:
        self._way, self._home, self._port, self._selector = way, home, port, selector
        self._dial()

    def _dial(self) -> None:
        now = time.perf_counter()
        self.socket = self._way.connect(self._home, self._port)
        self.socket.setblocking(False)
        self._selector.register(self.socket, selectors.EVENT_READ, self)
        self._data = b""
        self._sent = deque([now] * self._way.ahead)
        self.socket.send(self._way.request * self._way.ahead)

    def _again(self) -> None:
        self._selector.unregister(self.socket)
        self.socket.close()
        self._dial()

    def read(self, took: list[float]) -> None:
        """Take what has come, note how long each answer took, and call again as often."""
        try:
            data = self.socket.recv(65536)
        except (ssl.SSLWantReadError, BlockingIOError):
            return
        if not data:
            # So many requests per connection: a client dials again.
            self._again()
            return
        self._data += data
        now, count = time.perf_counter(), 0
        while end := self._way.end(self._data):
            self._data = self._data[end:]
            took.append(now - self._sent.popleft())
            count += 1
        if count and not self._way.kept:
            self._again()
        elif count:
            self._sent.extend([now] * count)
            self.socket.send(self._way.request * count)


def call(way: Way, home: Path, port: int, clients: int, seconds: float) -> Speed:
    """Call on so many connections for so long, after some warming up."""
    selector = selectors.DefaultSelector()
    callers = [Client(way, home, port, selector) for _ in range(clients)]
    took: list[float] = []
    for duration in (WARMING_UP, seconds):
        took.clear()
        begin = time.perf_counter()
        while time.perf_counter() < begin + duration:
            ready = selector.select(5)
            assert ready, "the server is silent"
            for key, _ in ready:
                cast(Client, key.data).read(took)
    for caller in callers:
        caller.socket.close()
    return Speed(len(took) / seconds, quantiles(took, n=100)[98] * 1000)
