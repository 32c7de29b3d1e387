"""One node per state directory, and one per network namespace."""

from __future__ import annotations

from pathlib import Path

SOCKET_PATH_MAX = 107
"""How long a unix socket's path may be, in bytes (unix(7))."""


def check_state_path(state: Path) -> None:
    """Raise BadInput naming --state where the names of our unix sockets would not fit behind it."""
    raise NotImplementedError


class Lock:
    """Held from its making until release or the process's death, however it dies."""

    def __init__(self, state: Path) -> None:
        """Take the lock. Raises BadInput when another node has the directory or the namespace."""
        raise NotImplementedError

    def release(self) -> None:
        """Let others have it."""
        raise NotImplementedError
