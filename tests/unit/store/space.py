"""What must be true of a registry database's address space at any moment."""

from __future__ import annotations

import sqlite3

from vifibnet.store.space import is_whole


def prefixes(db: sqlite3.Connection, *, given: bool) -> list[str]:
    """The prefixes that are given to nodes, or those that are free; a scan, for tests only."""
    condition = "IS NOT NULL" if given else "IS NULL"
    return [bits for (bits,) in db.execute(f"SELECT bits FROM prefix WHERE serial {condition} ORDER BY bits")]


def check_space(db: sqlite3.Connection) -> None:
    """The free space is exactly the complement of what is given, in the fewest pieces.

    All prefixes together are prefix-free and fill the space, and no two free ones are halves of one.
    """
    free, given = prefixes(db, given=False), prefixes(db, given=True)
    assert is_whole(db), f"free {free}, given {given}"
    for bits in free:
        assert not bits.endswith("0") or bits[:-1] + "1" not in free, f"{bits[:-1]} is free in two pieces"
