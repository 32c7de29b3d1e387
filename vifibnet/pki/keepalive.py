"""TCP connections that are silent for days, and an end to those whose other side is gone."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.interfaces import ITCPTransport

KEEPALIVE = {
    socket.TCP_KEEPIDLE: 60,
    socket.TCP_KEEPINTVL: 20,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 120_000,
}
"""An other side that vanished is noticed within two minutes (tcp(7); the last is in milliseconds).

Keepalive alone is not enough: while anything that we sent is not acknowledged, e.g. a push to a node that is
gone, the kernel sends no probes but retransmits for a quarter of an hour, unless the user timeout says
otherwise. Both cost a process nothing. Pings of our own would wake the registry for each of its thousands of
connections, and tell no more about a machine or a way that is gone; only for processes that hang there are
some, a few in an hour.
"""


def keep_alive(transport: Any) -> None:
    """Have the kernel watch a connection, which may have TLS on it; one that is no TCP is left alone."""
    if not ITCPTransport.providedBy(transport):
        return
    transport.setTcpKeepAlive(True)
    # TLS names itself where TCP names its socket.
    below: Any = getattr(transport, "transport", transport)
    handle = below.getHandle()
    for option, value in KEEPALIVE.items():
        handle.setsockopt(socket.IPPROTO_TCP, option, value)
