"""SQLite files: whose they are, which version they have, how they are upgraded, and transactions."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from vifibnet.errors import BadInput, StorageFailed

log = Logger()

IN_MEMORY = (":memory:", ":memory")
"""Names of a temporary database; the second is the manual's."""

BUSY_TIMEOUT = 5.0
"""Seconds to wait for another process that is writing, e.g. somebody's sqlite3 shell."""

_SCHEMA_FILE = re.compile(r"(?P<name>[a-z]+)-(?P<version>[1-9][0-9]*)\.sql")


def open_database(
    path: Path | str,
    name: str,
    *,
    application_id: int,
    create: bool = True,
    what: str | None = None,
    schema: Traversable | None = None,
    functions: Mapping[str, Callable[[str], Any]] | None = None,
) -> sqlite3.Connection:
    """Open the database ``name`` in a file, made if absent (and ``create``), upgraded if old.

    ``schema/<name>-<n>.sql`` is version n; ``schema/<name>-<n>-to-<n+1>.sql`` upgrades to it, after a copy
    of the file was put beside it as ``<file>.version-<n>``, in one transaction: a failure leaves the
    database as it was. ``functions`` of one text are there for it to call by name.
    ``application_id`` (SQLite's, 31 bits) tells our files from others'.

    Raises BadInput beginning with ``what`` (the file, unless given) where the file is absent, not ours,
    newer than this program or cannot be written.
    """
    schema = schema or files("vifibnet.store") / "schema"
    opening = _Opening(str(path), name, application_id, what or str(path), schema, functions or {})
    with opening.errors():
        return opening.open(create)


@contextlib.contextmanager
def transaction(db: sqlite3.Connection, *, durable: bool = False) -> Iterator[None]:
    """All of what is done inside, or nothing of it, also when the process or the machine dies.

    What a transaction that is not ``durable`` did may be forgotten when the power fails soon after; a
    durable one, and all before it, is on the disk when this returns (a few ms on a slow one).
    """
    if durable:
        db.execute("PRAGMA synchronous = FULL")
    try:
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            # A failed COMMIT may have rolled back by itself.
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
    finally:
        if durable:
            db.execute("PRAGMA synchronous = NORMAL")


@contextlib.contextmanager
def changing(db: sqlite3.Connection, *, durable: bool = False) -> Iterator[None]:
    """A transaction that raises StorageFailed, having changed nothing, when the disk is full or the like."""
    try:
        with transaction(db, durable=durable):
            yield
    except sqlite3.OperationalError as error:
        log.error("the database cannot be changed: {problem}", problem=str(error))
        raise StorageFailed(problem=str(error)) from error


def bind_network(db: sqlite3.Connection, serial: int, what: str) -> None:
    """Tie a database to a network (its CA's serial number). Raises BadInput if it belongs to another."""
    with transaction(db):
        db.execute("INSERT OR IGNORE INTO network (id, serial) VALUES (1, ?)", (f"{serial:#x}",))
        (found,) = db.execute("SELECT serial FROM network WHERE id = 1").fetchone()
    if int(found, 16) != serial:
        raise BadInput(what, f"belongs to another network (serial {found})", "give this network's file")


@dataclass(frozen=True)
class _Opening:
    """One attempt to open a file."""

    path: str
    name: str
    application_id: int
    what: str
    schema: Traversable
    functions: Mapping[str, Callable[[str], Any]]

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what SQLite and the system say into one sentence."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
                raise self.foreign() from None
            raise BadInput(
                self.what, f"cannot be used ({error})", "give a file in a directory where you may write"
            ) from error
        except OSError as error:
            raise BadInput(
                self.what,
                f"cannot be opened ({error.strerror})",
                "give a file in a directory where you may write",
            ) from None

    def foreign(self) -> BadInput:
        return BadInput(
            self.what, f"is not a vifibnet {self.name} database", "give the right file or a new name"
        )

    def open(self, create: bool) -> sqlite3.Connection:
        db = self.connect(create)
        try:
            self.prepare(db, create)
        except BaseException:
            db.close()
            raise
        return db

    def connect(self, create: bool) -> sqlite3.Connection:
        if self.path in IN_MEMORY:
            return self.settings(sqlite3.connect(":memory:", isolation_level=None))
        # SQLite would make it readable for everybody, and its -wal and -shm take the file's mode.
        flags = os.O_RDWR | (os.O_CREAT if create else 0)
        os.close(os.open(self.path, flags, 0o600))
        return self.settings(sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_TIMEOUT))

    @staticmethod
    def settings(db: sqlite3.Connection) -> sqlite3.Connection:
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA synchronous = NORMAL")
        return db

    def prepare(self, db: sqlite3.Connection, create: bool) -> None:
        """Make it ours and of the newest version."""
        newest = max(int(m["version"]) for m in self.schema_files() if m["name"] == self.name)
        # Before anything is changed: a foreign file is not even switched to WAL.
        version = self.version(db)
        if version is None and not create:
            raise self.foreign()
        if version is not None and version > newest:
            raise BadInput(
                self.what, f"has version {version}, newer than this program's {newest}", "upgrade vifibnet"
            )
        db.execute("PRAGMA journal_mode = WAL").fetchone()
        if version is None:
            with transaction(db, durable=True):
                # Another process may have been faster.
                if self.version(db) is None:
                    self.run(db, f"{self.name}-{newest}.sql", newest)
        elif version < newest:
            self.upgrade(db, version, newest)
        else:
            # Finds out now, not at the first certificate, that the file cannot be written.
            with transaction(db):
                pass

    def version(self, db: sqlite3.Connection) -> int | None:
        """The file's version, None for an empty one. Raises BadInput for somebody else's."""
        (owner,) = db.execute("PRAGMA application_id").fetchone()
        if owner == self.application_id:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            return int(version)
        if owner == 0 and db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None:
            return None
        raise self.foreign()

    def upgrade(self, db: sqlite3.Connection, version: int, newest: int) -> None:
        """Run the numbered upgrades from ``version`` on, all or none, after a copy was made."""
        copy = None if self.path in IN_MEMORY else Path(f"{self.path}.version-{version}")
        if copy is not None:
            back_up(db, copy)
        for name, function in self.functions.items():
            db.create_function(name, 1, function, deterministic=True)
        log.info("upgrading {path} from version {old} to {new}", path=self.path, old=version, new=newest)
        try:
            with transaction(db, durable=True):
                for old in range(self.version(db) or version, newest):
                    self.run(db, f"{self.name}-{old}-to-{old + 1}.sql", old + 1)
        except sqlite3.Error as error:
            raise BadInput(
                self.what,
                f"could not be upgraded from version {version} to {newest} ({error})",
                f"it is as it was, and so is its copy {copy}; report this with the message",
            ) from error

    def run(self, db: sqlite3.Connection, script: str, version: int) -> None:
        """Run a schema file inside the caller's transaction, and note the version."""
        for statement in statements((self.schema / script).read_text("utf-8")):
            db.execute(statement)
        db.execute(f"PRAGMA application_id = {self.application_id}")
        db.execute(f"PRAGMA user_version = {version}")

    def schema_files(self) -> Iterator[re.Match[str]]:
        for entry in self.schema.iterdir():
            if match := _SCHEMA_FILE.fullmatch(entry.name):
                yield match


def back_up(db: sqlite3.Connection, path: Path) -> None:
    """Copy the whole database into a file that appears when it is complete; takes long for a big one."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with contextlib.closing(sqlite3.connect(temporary)) as target:
        db.backup(target)
    temporary.replace(path)


def statements(script: str) -> Iterator[str]:
    """The single statements of an SQL script; executescript would commit the transaction it runs in."""
    statement = ""
    *pieces, rest = script.split(";")
    for piece in pieces:
        statement += piece + ";"
        # Not where the semicolon belongs to a text, a comment or a trigger.
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    statement += rest
    if re.sub(r"--[^\n]*", "", statement).strip():
        raise ValueError(f"a statement without an end: {statement[:80]!r}")
