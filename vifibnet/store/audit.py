"""The audit log: who changed what in the registry, and when. It never names a token."""

from __future__ import annotations

import sqlite3

REGISTRY = "registry"
"""Who did what follows from time alone, e.g. freeing a prefix."""


def record(db: sqlite3.Connection, at: float, what: str, subject: object, by: object) -> None:
    """Add one entry, inside the transaction that changes what it tells of.

    ``what`` is a word or two ("released"), ``subject`` what it was done to, ``by`` a node's prefix, an e-mail
    address, "uid 0" for somebody on the registry's machine, or REGISTRY.
    """
    db.execute(
        "INSERT INTO audit (at, what, subject, by) VALUES (?, ?, ?, ?)", (at, what, str(subject), str(by))
    )
