"""The peers that a node knows, kept from one run to the next: ``peers.db``."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vifibnet.errors import BadEndpoints, BadInput
from vifibnet.model.addresses import Network, Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.news import Believed
from vifibnet.store.database import bind_network, open_database, transaction
from vifibnet.wire.endpoints import format_endpoints, parse_endpoints

APPLICATION_ID = 0x76664E50
"""SQLite's application_id of a peer database: "vfNP"."""

MAX_PEERS = 1000
"""How many peers are kept; beyond that those that failed most, then those not named for longest, go."""

REGISTRY_AGE = 6 * 3600.0
"""Seconds; what the registry says of a peer is no older: nodes declare themselves as often (node.peers)."""

_Row = tuple[str, str, float, int, float, float | None, float | None]


@dataclass(frozen=True)
class KnownPeer:
    """A peer, with seconds since 1970 and the number of failures since the last success.

    ``last_seen`` is when somebody who was believed last said that it is there, ``told`` when it said so
    itself, to whomever, or when a tunnel to it last came up; None where only the registry has named it."""

    prefix: Prefix
    endpoints: tuple[Endpoint, ...]
    last_seen: float
    failures: int
    next_try: float
    last_success: float | None
    told: float | None = None

    @property
    def known_good(self) -> float:
        """When it was reached at these endpoints, or said itself that it is there; where only the registry
        has named it, it said so within REGISTRY_AGE before."""
        return self.last_seen - REGISTRY_AGE if self.told is None else self.told


class PeerStore:
    """A node's peer database. Times are seconds since 1970; a prefix that is not there is no error."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """Use an open database; ``open`` and ``create`` are the usual ways."""
        self._db = db

    @classmethod
    def open(cls, path: Path | str, network: Network | None = None) -> PeerStore:
        """Open ``peers.db``. Raises BadInput where it is missing, foreign, or another network's."""
        if not Path(path).exists():
            raise BadInput(path, "there is no peer database", "make one with vifibnet setup")
        db = open_database(path, "peers", application_id=APPLICATION_ID, create=False)
        try:
            if network is not None:
                bind_network(db, network.serial, str(path))
        except BaseException:
            db.close()
            raise
        return cls(db)

    @classmethod
    def create(cls, path: Path | str, network: Network) -> PeerStore:
        """Make an empty ``peers.db`` and open it; the file appears whole. Raises BadInput if it exists."""
        path = Path(path)
        if os.path.lexists(path):
            raise BadInput(path, "exists already", "move it away or use it as it is")
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
        try:
            db = open_database(temporary, "peers", application_id=APPLICATION_ID, what=str(path))
            try:
                bind_network(db, network.serial, str(path))
            finally:
                # The last to close takes the -wal file along.
                db.close()
            temporary.rename(path)
        except OSError as error:
            raise BadInput(
                path, f"cannot be written ({error.strerror})", "give a directory where you may write"
            ) from None
        finally:
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(OSError):
                    Path(f"{temporary}{suffix}").unlink()
        return cls.open(path, network)

    def close(self) -> None:
        """Close the database; the store is of no use afterwards."""
        self._db.close()

    def __len__(self) -> int:
        """How many peers are known; there are never more than MAX_PEERS."""
        (count,) = self._db.execute("SELECT count(*) FROM peer").fetchone()
        return int(count)

    def update(self, peers: Iterable[tuple[Prefix, Sequence[Endpoint]]], now: float) -> None:
        """Remember what the registry said; a peer without endpoints is forgotten.

        A peer whose endpoints are new may be tried at once, however often the old ones failed.
        """
        rows = [(prefix.bits, format_endpoints(endpoints), now) for prefix, endpoints in peers]
        with transaction(self._db):
            self._db.executemany("DELETE FROM peer WHERE bits = ?", [(row[0],) for row in rows if not row[1]])
            self._db.executemany(
                "INSERT INTO peer (bits, endpoints, last_seen) VALUES (?, ?, ?)"
                " ON CONFLICT (bits) DO UPDATE SET last_seen = excluded.last_seen,"
                " failures = iif(endpoints = excluded.endpoints, failures, 0),"
                " next_try = iif(endpoints = excluded.endpoints, next_try, 0),"
                " told = iif(endpoints = excluded.endpoints, told, NULL),"
                " endpoints = excluded.endpoints",
                [row for row in rows if row[1]],
            )
            self._prune()

    def hear(self, peers: Iterable[Believed]) -> bool:
        """Remember what peers said of each other, or of themselves; whether somebody is new or elsewhere now.

        Nobody is forgotten for it but, beyond MAX_PEERS, as by ``update``.
        """
        rows = [(each.peer.bits, format_endpoints(each.endpoints), each.when) for each in peers]
        changed = 0
        with transaction(self._db):
            for bits, endpoints, when in rows:
                changed += self._db.execute(
                    "INSERT INTO peer (bits, endpoints, last_seen, told) VALUES (?1, ?2, ?3, ?3)"
                    " ON CONFLICT (bits) DO UPDATE SET last_seen = ?3, told = ?3,"
                    " failures = 0, next_try = 0, endpoints = ?2 WHERE endpoints != ?2",
                    (bits, endpoints, when),
                ).rowcount
                self._db.execute(
                    "UPDATE peer SET last_seen = max(last_seen, ?2), told = ?2 WHERE bits = ?1", (bits, when)
                )
            self._prune()
        return changed > 0

    def _prune(self) -> None:
        self._db.execute(
            "DELETE FROM peer WHERE bits IN (SELECT bits FROM peer WHERE failures >= 0"
            " ORDER BY failures, last_seen DESC LIMIT -1 OFFSET ?)",
            (MAX_PEERS,),
        )

    def candidates(self, now: float, limit: int = MAX_PEERS) -> list[KnownPeer]:
        """Up to ``limit`` peers that may be tried now, those that wait longest first."""
        rows = self._db.execute(
            "SELECT bits, endpoints, last_seen, failures, next_try, last_success, told FROM peer"
            " WHERE next_try <= ? ORDER BY next_try LIMIT ?",
            (now, limit),
        )
        return [peer for row in rows if (peer := _known(row))]

    def prefixes(self) -> tuple[list[Prefix], list[Prefix]]:
        """All peers: those that have not failed lately, and the others."""
        rows = self._db.execute("SELECT bits, failures FROM peer").fetchall()
        well = [Prefix.from_bits(bits) for bits, failures in rows if not failures]
        return well, [Prefix.from_bits(bits) for bits, failures in rows if failures]

    def get(self, prefix: Prefix) -> KnownPeer | None:
        """What is known of one peer."""
        row = self._db.execute(
            "SELECT bits, endpoints, last_seen, failures, next_try, last_success, told"
            " FROM peer WHERE bits = ?",
            (prefix.bits,),
        ).fetchone()
        return _known(row) if row else None

    def succeeded(self, prefix: Prefix, now: float) -> None:
        """A tunnel to this peer came up."""
        with transaction(self._db):
            self._db.execute(
                "UPDATE peer SET failures = 0, next_try = 0, last_success = ?1, told = ?1 WHERE bits = ?2",
                (now, prefix.bits),
            )

    def failed(self, prefix: Prefix, next_try: float) -> None:
        """A tunnel to this peer did not come up; it is no candidate before ``next_try``."""
        with transaction(self._db):
            self._db.execute(
                "UPDATE peer SET failures = failures + 1, next_try = ? WHERE bits = ?",
                (next_try, prefix.bits),
            )


def _known(row: _Row) -> KnownPeer | None:
    """A row as a value; None for one that a newer version wrote in words we do not know."""
    bits, endpoints, last_seen, failures, next_try, last_success, told = row
    try:
        known = Prefix.from_bits(bits), parse_endpoints(endpoints)
        return KnownPeer(*known, last_seen, failures, next_try, last_success, told)
    except BadEndpoints:
        return None
