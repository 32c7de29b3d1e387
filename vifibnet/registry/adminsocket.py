"""The registry's unix socket for the operator: mode 0600, and nobody but its owner and root is answered."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from vifibnet.errors import BadInput
from vifibnet.owners import may_command, peer_uid
from vifibnet.registry.admin import AdminFace
from vifibnet.registry.administration import Administration

log = Logger()

SOCKET_NAME_MAX = 107 - len("/proc/self/fd/99999/")
"""How many bytes the socket's name in its directory may have: the kernel takes 107 in all (unix(7))."""


class AdminSocket:
    """The socket, from when somebody listens until nobody is connected any more."""

    def __init__(self, reactor: Any, path: Path, option: str) -> None:
        """``option`` names it in errors."""
        self._reactor = reactor
        self._path = path
        self._option = option
        self._directory = -1
        self._port: IListeningPort | None = None
        self._doors: set[_Door] = set()

    def listen(self, administration: Administration) -> None:
        """Begin to answer. Raises BadInput."""
        try:
            self._directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            # So that the directory's name may be of any length.
            place = Path(f"/proc/self/fd/{self._directory}/{self._path.name}")
            self._remove_stale(place)
            before = os.umask(0o177)
            try:
                factory = _Doors(administration, self._doors)
                self._port = self._reactor.listenUNIX(str(place), factory, mode=0o600)
            finally:
                os.umask(before)
        except Exception as error:
            if isinstance(error, BadInput):
                raise
            cause = getattr(error, "socketError", error)
            problem = f"cannot listen ({getattr(cause, 'strerror', None) or cause})"
            raise BadInput(self._option, problem, "give a path in a directory where it may be made") from None

    def _remove_stale(self, place: Path) -> None:
        """Remove what a registry left that was killed. Raises BadInput where somebody is alive."""
        try:
            is_socket = stat.S_ISSOCK(place.lstat().st_mode)
        except FileNotFoundError:
            return
        if not is_socket:
            raise BadInput(self._option, "is there and is no socket", "give another path or remove it")
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(place))
            except ConnectionRefusedError:
                place.unlink()
            else:
                raise BadInput(self._option, "is another registry's", "stop that one or give another path")

    async def close(self) -> None:
        """Stop listening and end what is connected."""
        if self._port is not None:
            port, self._port = self._port, None
            await maybeDeferred(port.stopListening)
        for door in list(self._doors):
            door.abort()
        if self._directory >= 0:
            with suppress(OSError):
                os.close(self._directory)
            self._directory = -1


class _Doors(Factory):
    """Makes one for each who connects."""

    noisy = False

    def __init__(self, administration: Administration, doors: set[_Door]) -> None:
        self._administration = administration
        self._doors = doors

    def buildProtocol(self, addr: IAddress | None) -> _Door:  # noqa: N802
        """For one connection."""
        return _Door(self._administration, self._doors)


class _Door(Protocol):
    """Sees who it is before anything is said."""

    def __init__(self, administration: Administration, doors: set[_Door]) -> None:
        self._administration = administration
        self._doors = doors
        self._face: AdminFace | None = None

    def connectionMade(self) -> None:  # noqa: N802
        """Let the owner and root pass."""
        transport: Any = self.transport
        uid = peer_uid(transport.getHandle())
        if not may_command(uid):
            log.warn("refused uid {uid} at the admin socket", uid=uid)
            self.abort()
            return
        self._doors.add(self)
        self._face = AdminFace(self._administration, f"uid {uid}")
        self._face.makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Pass on."""
        if self._face is not None:
            self._face.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Forget it."""
        self._doors.discard(self)
        if self._face is not None:
            self._face.connectionLost(reason)

    def abort(self) -> None:
        """End it now."""
        transport: Any = self.transport
        transport.abortConnection()
