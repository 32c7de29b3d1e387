"""What a registry's database takes over from a later state of itself. Inside the caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vifibnet.store import reachable
from vifibnet.store.revocations import version
from vifibnet.store.space import take

_CERTIFICATE = "serial, bits, pem, subject, key_hash, issued, not_after"


@dataclass(frozen=True)
class Taken:
    """How many nodes and revocations were taken over; ``lost`` nodes could not be, for their prefix is
    somebody else's in the backup."""

    nodes: int
    revocations: int
    lost: int


def take_over(old: sqlite3.Connection, new: sqlite3.Connection) -> Taken:
    """Take over from ``old``, the later state of the same version, what must not be forgotten in ``new``."""
    nodes = lost = 0
    for row in old.execute(
        "SELECT bits, serial, email, joined, expires, last_seen, released FROM prefix"
        " WHERE serial IS NOT NULL ORDER BY bits"
    ):
        certificates = [
            certificate
            for certificate in old.execute(
                f"SELECT {_CERTIFICATE} FROM certificate WHERE bits = ?",  # noqa: S608
                row[:1],
            )
            if not new.execute("SELECT 1 FROM certificate WHERE serial = ?", certificate[:1]).fetchone()
        ]
        joined = _holder(new, row[0])
        if joined is None and take(new, row[0]):
            nodes += 1
        elif joined != row[3]:
            lost += 1
            continue
        _update(new, row, certificates)
    _tokens(old, new)
    new.executemany(
        "INSERT OR REPLACE INTO lost (id, until, room) VALUES (?, ?, ?)",
        old.execute("SELECT id, until, room FROM lost"),
    )
    return Taken(nodes, _revocations(old, new), lost)


def _holder(db: sqlite3.Connection, bits: str) -> float | None:
    """When whoever has the prefix joined; None if nobody has it."""
    row = db.execute("SELECT joined FROM prefix WHERE bits = ? AND serial IS NOT NULL", (bits,)).fetchone()
    return row[0] if row else None


def _update(db: sqlite3.Connection, row: Sequence[Any], certificates: Sequence[Sequence[Any]]) -> None:
    bits, serial, email, joined, expires, last_seen, released = row
    db.execute(
        "UPDATE prefix SET serial = ?, email = ?, joined = ?, expires = ?, last_seen = ?, released = ?"
        " WHERE bits = ?",
        (serial, email, joined, expires, last_seen, released, bits),
    )
    db.executemany(f"INSERT INTO certificate ({_CERTIFICATE}) VALUES (?, ?, ?, ?, ?, ?, ?)", certificates)  # noqa: S608
    if released is not None:
        reachable.remove(db, bits)


def _revocations(old: sqlite3.Connection, new: sqlite3.Connection) -> int:
    """Every revocation, with a number of its own if that is taken."""
    count = 0
    for number, serial, *rest in old.execute(
        "SELECT number, serial, bits, revoked, not_after, reason, spares FROM revocation ORDER BY number"
    ):
        if new.execute("SELECT 1 FROM revocation WHERE serial = ?", (serial,)).fetchone():
            continue
        taken = new.execute("SELECT 1 FROM revocation WHERE number = ?", (number,)).fetchone()
        new.execute(
            "INSERT INTO revocation (number, serial, bits, revoked, not_after, reason, spares)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (version(new) + 1 if taken else number, serial, *rest),
        )
        count += 1
    return count


def _tokens(old: sqlite3.Connection, new: sqlite3.Connection) -> None:
    """Tokens that were made or used since."""
    new.executemany(
        "INSERT INTO token (hash, kind, email, prefix_length, created, expires, serial)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (hash) DO UPDATE SET serial = coalesce(excluded.serial, serial)",
        old.execute("SELECT hash, kind, email, prefix_length, created, expires, serial FROM token"),
    )
