"""Putting a backup in the place of the registry's database, while no registry runs.

What the database that is replaced knows and the backup does not is taken over as far as safety asks for it:
nodes that joined since, so that nobody else gets their prefix; revocations; tokens that were used.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from vifibnet.errors import BadInput
from vifibnet.files import sync
from vifibnet.store.audit import record
from vifibnet.store.database import back_up, open_database, transaction
from vifibnet.store.lock import DatabaseLock
from vifibnet.store.pem import SQL_FUNCTIONS
from vifibnet.store.registry import APPLICATION_ID
from vifibnet.store.takeover import Taken, take_over

_COMPANIONS = ("-wal", "-shm", "-journal")


@dataclass(frozen=True)
class Restored:
    """What came of it: ``kept`` is where the former database is now, if there was one.

    ``taken`` is what was taken over from that, None where it could not be read.
    """

    nodes: int
    kept: Path | None
    taken: Taken | None


def restore_database(backup: Path, target: Path, by: str, now: float) -> Restored:
    """Put ``backup`` in the place of ``target``, which is kept under another name. Raises BadInput.

    Until the end nothing has happened; then all of it has.
    """
    if not backup.is_file():
        raise BadInput(backup, "there is no such file", "give what vifibnet backup wrote")
    with contextlib.ExitStack() as stack:
        there = os.path.lexists(target)
        if there:
            stack.callback(DatabaseLock(target, str(target)).release)
        try:
            temporary = stack.enter_context(_copy_of(backup, target))
            taken = _take_over(temporary, target, backup) if there else None
            nodes = _finish(temporary, backup, by, now, taken is None)
            return Restored(nodes, _replace(target, temporary, now), taken)
        except sqlite3.Error as error:
            raise BadInput(backup, f"cannot be used ({error})", "give another backup") from error
        except OSError as error:
            problem = f"cannot be written ({error.strerror})"
            raise BadInput(target, problem, "be the user that the registry runs as, or root") from None


@contextlib.contextmanager
def _copy_of(backup: Path, target: Path) -> Iterator[Path]:
    """A sound copy beside the target, of today's version; gone at the end in any case."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with contextlib.closing(sqlite3.connect(f"{backup.absolute().as_uri()}?mode=ro", uri=True)) as source:
            try:
                (owner,) = source.execute("PRAGMA application_id").fetchone()
                (verdict,) = source.execute("PRAGMA quick_check(1)").fetchone()
            except sqlite3.DatabaseError as error:
                owner, verdict = None, str(error)
            if owner != APPLICATION_ID:
                raise BadInput(
                    backup, "is not a vifibnet registry database", "give what vifibnet backup wrote"
                )
            if verdict != "ok":
                raise BadInput(backup, f"is damaged ({verdict})", "give another backup")
            back_up(source, temporary)
        open_database(
            temporary, "registry", application_id=APPLICATION_ID, what=str(backup), functions=SQL_FUNCTIONS
        ).close()
        yield temporary
    finally:
        for left in list(temporary.parent.iterdir()):
            if left.name.startswith(temporary.name):
                left.unlink()


def _take_over(temporary: Path, target: Path, backup: Path) -> Taken | None:
    """Complete the copy from the database that is replaced; None if that cannot be read."""
    with (
        # Only to be read: SQLite would tidy up what lies beside a damaged one.
        contextlib.closing(sqlite3.connect(f"{target.as_uri()}?mode=ro", uri=True)) as old,
        contextlib.closing(_open(temporary)) as new,
    ):
        try:
            (owner,) = old.execute("PRAGMA application_id").fetchone()
            same = _network(old) == _network(new)
            versions = {db.execute("PRAGMA user_version").fetchone() for db in (old, new)}
            readable = owner == APPLICATION_ID and len(versions) == 1
            readable = readable and old.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
        except sqlite3.DatabaseError:
            return None
        if not readable:
            return None
        if not same:
            raise BadInput(backup, f"belongs to another network than {target}", "give this network's backup")
        with transaction(new):
            return take_over(old, new)


def _network(db: sqlite3.Connection) -> object:
    return db.execute("SELECT serial FROM network").fetchone()


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA foreign_keys = ON")
    return db


def _finish(temporary: Path, backup: Path, by: str, now: float, blind: bool) -> int:
    """Note what was done, and make one file of it that is on the disk; how many nodes there are.

    ``blind``: nobody knows who joined since the backup was made, and has which prefix.
    """
    with contextlib.closing(_open(temporary)) as db:
        with transaction(db):
            # Whatever the nodes have got since, this is newer.
            db.execute("UPDATE parameter_version SET number = max(number + 1, ?)", (int(now),))
            record(db, now, "restored", backup.name, by)
            if blind:
                db.execute("INSERT OR IGNORE INTO lost (id) VALUES (1)")
        (nodes,) = db.execute(
            "SELECT count(*) FROM prefix WHERE serial IS NOT NULL AND released IS NULL"
        ).fetchone()
        db.execute("PRAGMA journal_mode = DELETE").fetchone()
    sync(temporary)
    return int(nodes)


def _replace(target: Path, temporary: Path, now: float) -> Path | None:
    """Give the new file its name and the old one another; at every moment there is one of them."""
    kept = None
    if os.path.lexists(target):
        stamp = f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"
        kept = target.with_name(f"{target.name}.replaced-{stamp}")
        before = target.stat()
        os.chown(temporary, before.st_uid, before.st_gid)
        os.link(target, kept)
        # SQLite would take them for the new file's.
        for companion in _COMPANIONS:
            path = Path(f"{target}{companion}")
            if path.exists() and path.stat().st_size and companion != "-shm":
                path.rename(f"{kept}{companion}")
            else:
                path.unlink(missing_ok=True)
    temporary.rename(target)
    sync(target.parent)
    return kept
