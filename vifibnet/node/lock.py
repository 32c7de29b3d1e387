"""One node per state directory, and one per network namespace."""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path

from vifibnet.errors import BadInput

SOCKET_PATH_MAX = 107
"""How long a unix socket's path may be, in bytes (unix(7))."""

NAME = "\0vifibnet-node"
"""The abstract socket that one node of a network namespace has."""

_LONGEST_NAME = "vifc9999.sock"


def check_state_path(state: Path) -> None:
    """Raise BadInput naming --state where the names of our unix sockets would not fit behind it."""
    path = os.fsencode(state.absolute() / _LONGEST_NAME)
    if len(path) > SOCKET_PATH_MAX:
        longest = SOCKET_PATH_MAX - len(_LONGEST_NAME) - 1
        raise BadInput(
            f"--state {state}",
            f"the path is {len(path) - len(_LONGEST_NAME) - 1} bytes long, too long for the sockets in it",
            f"give one of at most {longest} bytes",
        )


class Lock:
    """Held from its making until release or the process's death, however it dies."""

    def __init__(self, state: Path) -> None:
        """Take the lock. Raises BadInput when another node has the directory or the namespace."""
        try:
            self._file = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            remedy = "give a directory that exists and that you may write to"
            raise BadInput(f"--state {state}", error.strerror or str(error), remedy) from None
        # An abstract socket lives in the network namespace, and dies with the process.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._take(state)
        except BaseException:
            self.release()
            raise

    def _take(self, state: Path) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._file, 20, 0).decode(errors="replace").strip()
            raise BadInput(
                f"--state {state}",
                f"another node{owner and f' (process {owner})'} uses this directory",
                "stop it, or give this one a directory of its own",
            ) from None
        try:
            self._socket.bind(NAME)
        except OSError:
            raise BadInput(
                "vifibnet-node",
                "another node runs in this network namespace",
                "stop it: a machine needs one node only",
            ) from None
        # Only for the words above; a full disk keeps nobody from starting.
        with suppress(OSError):
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Let others have it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._socket.close()
