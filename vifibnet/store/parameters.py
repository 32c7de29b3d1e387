"""The network's parameters as the operator set them. Nine rows at most: here a scan is no cost."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vifibnet.model.parameters import SECRET, Values, write
from vifibnet.store.audit import record
from vifibnet.store.database import changing


@dataclass(frozen=True)
class Setting:
    """What a parameter was set to, as text ("": there is to be none), and when (seconds since 1970)."""

    value: str
    changed: float


class ParameterStore:
    """The tables of the parameters; ``clock_seconds`` gives seconds since 1970."""

    def __init__(self, db: sqlite3.Connection, clock_seconds: Callable[[], float]) -> None:
        """Use the registry's database."""
        self._db = db
        self._now = clock_seconds

    def number(self) -> int:
        """The number of the whole set, which every change makes greater; 0 before the first."""
        (number,) = self._db.execute("SELECT number FROM parameter_version WHERE id = 1").fetchone()
        return int(number)

    def settings(self) -> dict[str, Setting]:
        """What was set, by name."""
        rows = self._db.execute("SELECT name, value, changed FROM parameter ORDER BY name")
        return {name: Setting(value, changed) for name, value, changed in rows}

    def change(self, changes: Mapping[str, str | None], by: str) -> int:
        """Set parameters, and put those with None back to their defaults; returns the new number."""
        now = self._now()
        with changing(self._db, durable=True):
            for name, value in changes.items():
                if value is None:
                    self._db.execute("DELETE FROM parameter WHERE name = ?", (name,))
                else:
                    self._db.execute(
                        "INSERT OR REPLACE INTO parameter (name, value, changed) VALUES (?, ?, ?)",
                        (name, value, now),
                    )
                record(
                    self._db, now, "parameter set", name if name in SECRET else f"{name}={value or ''}", by
                )
            number = max(self.number() + 1, int(now))
            self._db.execute("UPDATE parameter_version SET number = ? WHERE id = 1", (number,))
        return number


def adopt(db: sqlite3.Connection, number: int, values: Values, now: float) -> None:
    """Begin, inside the caller's transaction, with what a document of this number says."""
    texts = dict.fromkeys(SECRET, "") | {name: write(value) for name, value in values.items()}
    db.executemany(
        "INSERT INTO parameter (name, value, changed) VALUES (?, ?, ?)",
        [(name, text, now) for name, text in texts.items()],
    )
    db.execute("UPDATE parameter_version SET number = ? WHERE id = 1", (number,))
