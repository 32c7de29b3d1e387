"""The network's address space in the registry's database: what is free, in as few pieces as possible.

All functions work inside the caller's transaction.
"""

from __future__ import annotations

import sqlite3
from itertools import pairwise

from vifibnet.errors import NetworkFull
from vifibnet.model.addresses import Prefix
from vifibnet.model.allocation import split


def allocate(db: sqlite3.Connection, length: int) -> Prefix:
    """Split the longest free prefix that is short enough, and leave all parts free.

    The caller gives the first part to somebody before the transaction ends. Raises NetworkFull.
    """
    row = db.execute(
        "SELECT bits FROM prefix INDEXED BY prefix_free WHERE serial IS NULL AND length(bits) <= ?"
        " ORDER BY length(bits) DESC, bits LIMIT 1",
        (length,),
    ).fetchone()
    if row is None:
        raise NetworkFull(length=length)
    given, rest = split(row[0], length)
    db.execute("DELETE FROM prefix WHERE bits = ?", row)
    db.executemany("INSERT INTO prefix (bits) VALUES (?)", [(bits,) for bits in (given, *rest)])
    return Prefix.from_bits(given)


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
