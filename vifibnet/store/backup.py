"""Copies of the registry's database while it is used, and putting one back."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from vifibnet.errors import BadInput
from vifibnet.files import sync


@dataclass(frozen=True)
class Copied:
    """A copy: how many bytes, how many nodes."""

    size: int
    nodes: int


def copy_database(source: str, target: Path) -> Copied:
    """Copy the database in a file (absolute path) that others may be writing to into a new file.

    It is copied as it is at one moment. Made for a thread: it takes seconds for a big one, on a connection
    of its own, and nobody has to wait for it. The file (mode 0600) appears when all of it is on the disk.
    Raises BadInput.
    """
    if not source:
        raise BadInput("--db", "a database in memory cannot be copied", "keep it in a file")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if os.path.lexists(target):
            raise BadInput(target, "exists already", "move it away or give another path")
        os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        with (
            contextlib.closing(sqlite3.connect(f"{Path(source).as_uri()}?mode=ro", uri=True)) as old,
            contextlib.closing(sqlite3.connect(temporary)) as new,
        ):
            old.backup(new)
            # One file, which can be read where nothing can be written.
            new.execute("PRAGMA journal_mode = DELETE").fetchone()
            (nodes,) = new.execute(
                "SELECT count(*) FROM prefix WHERE serial IS NOT NULL AND released IS NULL"
            ).fetchone()
        return Copied(_appear(temporary, target), int(nodes))
    except sqlite3.Error as error:
        raise BadInput(target, f"cannot be written ({error})", "give a file where there is room") from error
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
        raise BadInput(target, problem, "give a file in a directory that the registry may write") from None
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(OSError):
                Path(f"{temporary}{suffix}").unlink()


def _appear(temporary: Path, target: Path) -> int:
    """Put a complete file in its place, on the disk; its size."""
    sync(temporary)
    temporary.rename(target)
    sync(target.parent)
    return target.stat().st_size
