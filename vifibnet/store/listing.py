"""The registry's nodes and tokens, page by page: however many there are, a page takes a few milliseconds.

A page begins at ``start``, which is "" for the first one and what the page before says for the next; the
second value returned is where the next one begins, "" after the last.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from vifibnet.model.addresses import Prefix


@dataclass(frozen=True)
class ListedNode:
    """A node, or a released prefix that is not free yet. Times are seconds since 1970."""

    prefix: Prefix
    serial: int
    subject: str
    email: str | None
    joined: float
    expires: float
    released: float | None
    revoked: float | None
    seen: float | None
    endpoints: str


@dataclass(frozen=True)
class ListedToken:
    """A token that has not expired; ``used`` by whom."""

    kind: str
    email: str | None
    prefix_length: int | None
    created: float
    expires: float
    used: Prefix | None


@dataclass(frozen=True)
class Counts:
    """How many nodes there are, tokens that have not expired, nodes that can be reached."""

    nodes: int
    tokens: int
    declared: int


def counts(db: sqlite3.Connection, now: float, declared_since: float) -> Counts:
    """Count, in indexes alone: some 20 ms for 100,000 of each."""
    given, released, tokens, declared = db.execute(
        "SELECT (SELECT count(*) FROM prefix WHERE serial IS NOT NULL AND expires > 0),"
        " (SELECT count(*) FROM prefix WHERE released IS NOT NULL AND expires > 0),"
        " (SELECT count(*) FROM token WHERE expires > ?), (SELECT count(*) FROM peer WHERE declared > ?)",
        (now, declared_since),
    ).fetchone()
    return Counts(given - released, tokens, declared)


def nodes(
    db: sqlite3.Connection, start: str, count: int, declared_since: float
) -> tuple[list[ListedNode], str]:
    """Up to ``count`` nodes by prefix, with the endpoints that they declared since some time."""
    rows = db.execute(
        "SELECT prefix.bits, prefix.serial, subject, email, joined, certificate.not_after, released, revoked,"
        " last_seen, iif(declared > ?, endpoints, '') FROM prefix INDEXED BY prefix_given"
        " JOIN certificate USING (serial) LEFT JOIN peer ON peer.bits = prefix.bits"
        " LEFT JOIN revocation ON revocation.serial = prefix.serial"
        " WHERE prefix.serial IS NOT NULL AND prefix.bits >= ? ORDER BY prefix.bits LIMIT ?",
        (declared_since, start, count + 1),
    ).fetchall()
    following = rows[count][0] if len(rows) > count else ""
    return [
        ListedNode(Prefix.from_bits(r[0]), int(r[1]), r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9] or "")
        for r in rows[:count]
    ], following


def tokens(db: sqlite3.Connection, start: str, count: int, now: float) -> tuple[list[ListedToken], str]:
    """Up to ``count`` tokens, the oldest first."""
    created, _, digest = start.partition(" ")
    rows = db.execute(
        "SELECT token.created, hash, kind, email, prefix_length, expires, certificate.bits"
        " FROM token INDEXED BY token_created LEFT JOIN certificate USING (serial)"
        " WHERE (created, hash) >= (?, ?) AND expires > ? ORDER BY created, hash LIMIT ?",
        (float(created or 0), bytes.fromhex(digest), now, count + 1),
    ).fetchall()
    following = f"{rows[count][0]!r} {rows[count][1].hex()}" if len(rows) > count else ""
    return [
        ListedToken(kind, email, length, made, ends, Prefix.from_bits(bits) if bits is not None else None)
        for made, _, kind, email, length, ends, bits in rows[:count]
    ], following
