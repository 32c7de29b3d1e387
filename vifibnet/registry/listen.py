"""The sockets of the registry's port: IPv4 and IPv6 apart, so that no address comes in disguise."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from vifibnet.errors import BadInput
from vifibnet.guard.limits import raise_descriptors

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 -- a registry is there for everybody
"""What is listened on unless the operator says otherwise."""

BACKLOG = 511
"""Connections that may wait to be accepted: after a restart many nodes come at once."""

_ABSENT = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def open_sockets(port: int, interfaces: Sequence[str] = ()) -> list[socket.socket]:
    """Listen on a port of some of this machine's addresses, or of all; a missing IP version is no error.

    This process may then have as many connections as the system allows. Raises BadInput naming PORT or
    ``--interface``; then nothing stays open.
    """
    raise_descriptors()
    sockets: list[socket.socket] = []
    try:
        for interface in interfaces or EVERYWHERE:
            try:
                sockets.append(_open(port, interface))
            except OSError as error:
                if interfaces or error.errno not in _ABSENT:
                    raise _explained(error, port, interface) from None
        if not sockets:
            raise BadInput(f"PORT {port}", "this machine has neither IPv4 nor IPv6", "enable one of them")
    except BaseException:
        for opened in sockets:
            opened.close()
        raise
    return sockets


def _open(port: int, interface: str) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            interface, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_PASSIVE
        )
    except (OSError, UnicodeError):
        raise BadInput(
            f"--interface {interface}", "is no IP address", "give one of this machine's addresses"
        ) from None
    family, kind, protocol, _, address = found[0]
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.setblocking(False)
        opened.bind(address)
        opened.listen(BACKLOG)
    except BaseException:
        opened.close()
        raise
    return opened


def _explained(error: OSError, port: int, interface: str) -> BadInput:
    if error.errno in _ABSENT:
        return BadInput(
            f"--interface {interface}",
            "is no address of this machine",
            "give one that ip address shows, or none to listen on all",
        )
    if error.errno == errno.EADDRINUSE:
        return BadInput(f"PORT {port}", "is in use", "stop what listens there or give another port")
    if error.errno in (errno.EACCES, errno.EPERM):
        return BadInput(f"PORT {port}", "may not be used by this user", "give a port above 1023 or be root")
    return BadInput(f"PORT {port}", f"cannot be used ({error.strerror})", "give another port")
