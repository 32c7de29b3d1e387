"""The network's address space in the registry's database: what is free, in as few pieces as possible.

All functions work inside the caller's transaction.
"""

from __future__ import annotations

import random
import sqlite3
from itertools import pairwise

from vifibnet.errors import NetworkFull
from vifibnet.model.addresses import Prefix
from vifibnet.model.allocation import split

ROOM_BITS = 8
"""How many more digits than the largest free prefix a room has, chosen at random."""


def allocate(db: sqlite3.Connection, length: int, rng: random.Random) -> Prefix:
    """Split the longest free prefix that is short enough, and leave all parts free.

    The caller gives the first part to somebody before the transaction ends. Raises NetworkFull.

    Where an earlier database is lost, whose nodes may not all have come back, what looks free may be
    somebody's, and above all the gaps between those who have. Then all new prefixes are taken from one room
    after the other, each chosen at random in the largest free prefix: the upper half as long as nobody has
    come, for prefixes are given from the lower end. Whoever comes later finds its prefix taken with a
    probability of 1 in 256 where this is not the first loss, and practically never where it is.
    """
    if db.execute("SELECT 1 FROM lost WHERE id = 1").fetchone():
        free = _in_room(db, length, rng)
    else:
        row = db.execute(
            "SELECT bits FROM prefix INDEXED BY prefix_free WHERE serial IS NULL AND length(bits) <= ?"
            " ORDER BY length(bits) DESC, bits LIMIT 1",
            (length,),
        ).fetchone()
        free = row[0] if row else None
    if free is None:
        raise NetworkFull(length=length)
    given, rest = split(free, length)
    db.execute("DELETE FROM prefix WHERE bits = ?", (free,))
    db.executemany("INSERT INTO prefix (bits) VALUES (?)", [(bits,) for bits in (given, *rest)])
    return Prefix.from_bits(given)


def _in_room(db: sqlite3.Connection, length: int, rng: random.Random) -> str | None:
    """The longest free prefix, short enough, in the room; in a new one where this one has none."""
    (room,) = db.execute("SELECT room FROM lost WHERE id = 1").fetchone()
    for size in range(length, len(room) - 1, -1) if room is not None else ():
        row = db.execute(
            "SELECT bits FROM prefix INDEXED BY prefix_free WHERE serial IS NULL AND length(bits) = ?"
            " AND bits >= ? AND bits < ? ORDER BY bits LIMIT 1",
            (size, room, room + "2"),
        ).fetchone()
        if row is not None:
            return str(row[0])
    row = db.execute(
        "SELECT bits FROM prefix INDEXED BY prefix_free WHERE serial IS NULL"
        " ORDER BY length(bits), bits DESC LIMIT 1"
    ).fetchone()
    if row is None or len(row[0]) > length:
        return None
    room = row[0] or "1"
    while len(room) < min(len(row[0]) + ROOM_BITS, length):
        room += rng.choice("01")
    take(db, room)
    db.execute("UPDATE lost SET room = ? WHERE id = 1", (room,))
    return str(room)


def take(db: sqlite3.Connection, bits: str) -> bool:
    """Split the free space so that exactly this prefix is one; False where some of it is not free.

    The caller gives it to somebody before the transaction ends.
    """
    for end in range(len(bits) + 1):
        found = db.execute("DELETE FROM prefix WHERE bits = ? AND serial IS NULL", (bits[:end],)).rowcount
        if found:
            rest = [bits[:at] + "10"[int(bits[at])] for at in range(end, len(bits))]
            db.executemany("INSERT INTO prefix (bits) VALUES (?)", [(piece,) for piece in (bits, *rest)])
            return True
    return False


def free(db: sqlite3.Connection, bits: str) -> None:
    """Take a prefix from whoever has it, forgetting its certificates, and join it to free neighbours."""
    db.execute("DELETE FROM prefix WHERE bits = ?", (bits,))
    while bits:
        sibling = bits[:-1] + "10"[int(bits[-1])]
        if not db.execute("DELETE FROM prefix WHERE bits = ? AND serial IS NULL", (sibling,)).rowcount:
            break
        bits = bits[:-1]
    db.execute("INSERT INTO prefix (bits) VALUES (?)", (bits,))


def is_whole(db: sqlite3.Connection) -> bool:
    """Whether free and given prefixes fill the whole space without meeting; looks at all of them."""
    bits = [row[0] for row in db.execute("SELECT bits FROM prefix ORDER BY bits")]
    apart = not any(after.startswith(before) for before, after in pairwise(bits))
    return apart and sum(1 << 120 - len(prefix) for prefix in bits) == 1 << 120
