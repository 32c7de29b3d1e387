"""Where nodes can be reached, in the registry's database: a random choice among them costs n look-ups.

All functions but ``sample`` work inside the caller's transaction.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from itertools import islice

from vifibnet.model.addresses import Prefix

_ANY = (
    "SELECT bits, endpoints, declared FROM peer"
    " WHERE slot = 1 + CAST(? * (SELECT max(slot) FROM peer) AS INTEGER)"
)
"""The peer at a random fraction of all slots, 0 to 1."""

_Row = tuple[str, str, float]
"""A peer's bits, its endpoints, and when it declared itself."""


def put(db: sqlite3.Connection, prefix: Prefix, endpoints: str, now: float) -> None:
    """A node can be reached at these endpoints."""
    db.execute(
        "INSERT INTO peer (slot, bits, endpoints, declared) VALUES (?, ?, ?, ?) ON CONFLICT (bits)"
        " DO UPDATE SET endpoints = excluded.endpoints, declared = excluded.declared",
        (_slots(db) + 1, prefix.bits, endpoints, now),
    )


def remove(db: sqlite3.Connection, bits: str) -> None:
    """A node can no longer be reached, if it could."""
    _forget(db, db.execute("SELECT slot FROM peer WHERE bits = ?", (bits,)).fetchall())


def remove_older(db: sqlite3.Connection, when: float, limit: int) -> int:
    """Remove up to ``limit`` of those who declared themselves at ``when`` or before; how many went."""
    silent = db.execute("SELECT slot FROM peer WHERE declared <= ? LIMIT ?", (when, limit)).fetchall()
    _forget(db, silent)
    return len(silent)


def sample(
    db: sqlite3.Connection, rng: random.Random, count: int, exclude: Collection[Prefix], since: float
) -> list[tuple[Prefix, str]]:
    """Up to ``count`` in random order of those who declared themselves after ``since``, with endpoints."""
    unwanted = {prefix.bits for prefix in exclude}
    # Some of those drawn may be unwanted or too old.
    wanted = (
        (Prefix.from_bits(bits), endpoints)
        for bits, endpoints, declared in _candidates(db, rng, count, count + len(unwanted) + 8)
        if bits not in unwanted and declared > since
    )
    return list(islice(wanted, max(0, count)))


def _candidates(db: sqlite3.Connection, rng: random.Random, count: int, most: int) -> Iterator[_Row]:
    """Up to so many in random order, looked up as they are asked for; only a bad guess may come twice."""
    if count == 1:
        # What most ask for is seldom more than one query; a bad guess makes nobody else more likely.
        yield from db.execute(_ANY, (rng.random(),)).fetchall()
    slots = _slots(db)
    for slot in _draw(rng, slots, min(slots, most)):
        yield db.execute("SELECT bits, endpoints, declared FROM peer WHERE slot = ?", (slot,)).fetchone()


def _draw(rng: random.Random, slots: int, most: int) -> Iterator[int]:
    """Up to so many slots in random order, each once; one alone costs no more than it has to."""
    if 2 * most > slots:
        yield from rng.sample(range(1, slots + 1), most)
        return
    drawn: set[int] = set()
    while len(drawn) < most:
        slot = 1 + int(rng.random() * slots)
        if slot not in drawn:
            drawn.add(slot)
            yield slot


def _slots(db: sqlite3.Connection) -> int:
    """How many peers there are: the last slot."""
    (last,) = db.execute("SELECT max(slot) FROM peer").fetchone()
    return last or 0


def _forget(db: sqlite3.Connection, slots: Sequence[tuple[int]]) -> None:
    """Remove peers, highest slot first, each time moving the last peer into the gap."""
    for (slot,) in sorted(slots, reverse=True):
        last = _slots(db)
        db.execute("DELETE FROM peer WHERE slot = ?", (slot,))
        if slot != last:
            db.execute("UPDATE peer SET slot = ? WHERE slot = ?", (slot, last))
