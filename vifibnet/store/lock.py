"""One registry for one database: who else opens it to write is told so."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from vifibnet.errors import BadInput


class DatabaseLock:
    """Keeps other registries, and a restore, away from a database file for as long as we live.

    The kernel gives the lock up when the process ends, however it does. It is flock's, on the file itself,
    which does not meet the locks of SQLite (fcntl's); but closing any descriptor of the file would end
    those, so this one is kept open until the database is closed.
    """

    def __init__(self, path: Path | str, what: str) -> None:
        """Take the lock; a file that is not there is made. Raises BadInput beginning with ``what``."""
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BadInput(
                what, f"cannot be opened ({error.strerror})", "give a file in a directory where you may write"
            ) from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise BadInput(what, "is in use by a running registry", "stop that one first") from None
        except BaseException:
            os.close(self._descriptor)
            raise

    def release(self) -> None:
        """Give it up, when the database was closed."""
        os.close(self._descriptor)
