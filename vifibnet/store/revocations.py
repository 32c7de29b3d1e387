"""Certificates that no longer count although they have not expired."""

from __future__ import annotations

import sqlite3


def revoke(db: sqlite3.Connection, serial: int, now: float, reason: str = "") -> bool:
    """Record, inside the caller's transaction, that a certificate of ours counts no longer.

    False if we issued no such certificate, or it was revoked before.
    """
    return bool(
        db.execute(
            "INSERT INTO revocation (number, serial, bits, revoked, not_after, reason)"
            " SELECT ?1, serial, bits, ?2, not_after, ?3 FROM certificate WHERE serial = ?4"
            " AND NOT EXISTS (SELECT 1 FROM revocation WHERE serial = ?4)",
            (next_number(db, now), now, reason, str(serial)),
        ).rowcount
    )


def next_number(db: sqlite3.Connection, now: float) -> int:
    """The number of the next revocation: the time, unless that is not greater than the last number."""
    return max(version(db) + 1, int(now))


def version(db: sqlite3.Connection) -> int:
    """The revocation list's version: the number of the last revocation, 0 before the first."""
    (number,) = db.execute("SELECT max(number) FROM revocation").fetchone()
    return number or 0
