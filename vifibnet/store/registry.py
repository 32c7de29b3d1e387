"""What the registry remembers: tokens, who has which prefix, and where nodes can be reached.

All calls are synchronous and take microseconds to a few milliseconds: every query uses an index.
"""

from __future__ import annotations

import hashlib
import random
import secrets
import sqlite3
from collections.abc import Callable, Collection
from pathlib import Path

from vifibnet.errors import NetworkFull, UnknownNode, UnknownToken
from vifibnet.model.addresses import Network, Prefix
from vifibnet.model.allocation import split
from vifibnet.store.database import bind_network, open_database, transaction

APPLICATION_ID = 0x76664E52
"""SQLite's application_id of a registry database: "vfNR"."""

TOKEN_LIFE = 24 * 3600.0
"""Seconds for which a token is good."""

PEER_LIFE = 24 * 3600.0
"""Seconds after which a node that no longer declares itself is no longer named to others."""

EXPIRE_AT_ONCE = 1000
"""How many peers and tokens one ``expire`` drops at most, so that it takes some 20 ms at worst."""


class RegistryStore:
    """The registry's database; ``clock_seconds`` gives seconds since 1970."""

    def __init__(
        self,
        db: sqlite3.Connection,
        clock_seconds: Callable[[], float],
        rng: random.Random | None = None,
    ) -> None:
        """Use a connection from ``open_database(path, "registry", application_id=APPLICATION_ID)``."""
        self._db = db
        self._now = clock_seconds
        self._rng = rng or secrets.SystemRandom()

    @classmethod
    def open(
        cls,
        path: Path | str,
        network: Network,
        clock_seconds: Callable[[], float],
        rng: random.Random | None = None,
        option: str = "--db",
    ) -> RegistryStore:
        """Open or make the network's database. Raises BadInput, also for another network's file."""
        what = f"{option} {path}"
        db = open_database(path, "registry", application_id=APPLICATION_ID, what=what)
        try:
            bind_network(db, network.serial, what)
        except BaseException:
            db.close()
            raise
        return cls(db, clock_seconds, rng)

    def close(self) -> None:
        """Close the database; the store is of no use afterwards."""
        self._db.close()

    # -- tokens and certificates ----------------------------------------------------------------------

    def add_token(self, token: str, email: str, prefix_length: int | None = None) -> None:
        """Remember (the hash of) a token that is good for one certificate within 24 h.

        ``prefix_length`` is the length of the prefix it is good for; None leaves that to ``issue``.
        """
        with transaction(self._db):
            self._db.execute(
                "INSERT INTO token (hash, email, length, created) VALUES (?, ?, ?, ?)",
                (_hash(token), email, prefix_length, self._now()),
            )

    def drop_token(self, token: str) -> None:
        """Forget a token, e.g. because its mail could not be sent; an unknown one is no error."""
        with transaction(self._db):
            self._db.execute("DELETE FROM token WHERE hash = ?", (_hash(token),))

    def issue(self, token: str, length_default: int, sign: Callable[[Prefix, int], bytes]) -> str:
        """Take the token, find a free prefix, have it signed and remember all: everything or nothing.

        ``sign(prefix, serial)`` returns the certificate as PEM; whatever it raises is raised, and token and
        prefix are as before. What is returned is on the disk. Raises UnknownToken and NetworkFull.
        """
        now = self._now()
        with transaction(self._db, durable=True):
            taken = self._db.execute(
                "DELETE FROM token WHERE hash = ? AND created > ? RETURNING email, length",
                (_hash(token), now - TOKEN_LIFE),
            ).fetchall()
            if not taken:
                raise UnknownToken
            ((email, length),) = taken
            prefix = self._allocate(length_default if length is None else length)
            serial = self._new_serial()
            pem = sign(prefix, serial).decode("ascii")
            self._db.execute(
                "UPDATE prefix SET serial = ?, email = ?, certificate = ?, issued = ? WHERE bits = ?",
                (str(serial), email, pem, now, prefix.bits),
            )
        return pem

    def _allocate(self, length: int) -> Prefix:
        """Split the longest free prefix that is short enough, and leave all parts free.

        So there is never more than one free prefix of a length.
        """
        row = self._db.execute(
            "SELECT bits FROM prefix INDEXED BY prefix_free WHERE serial IS NULL AND length(bits) <= ?"
            " ORDER BY length(bits) DESC, bits LIMIT 1",
            (length,),
        ).fetchone()
        if row is None:
            raise NetworkFull(length=length)
        given, rest = split(row[0], length)
        self._db.execute("DELETE FROM prefix WHERE bits = ?", row)
        self._db.executemany("INSERT INTO prefix (bits) VALUES (?)", [(bits,) for bits in (given, *rest)])
        return Prefix.from_bits(given)

    def _new_serial(self) -> int:
        """A random serial number of 127 bits that no certificate has; no network's serial is as long."""
        while True:
            serial = 1 << 126 | secrets.randbits(126)
            if self.node_by_serial(serial) is None:
                return serial

    def certificate(self, prefix: Prefix) -> str | None:
        """The certificate (PEM) of the node that has this prefix."""
        row = self._db.execute("SELECT certificate FROM prefix WHERE bits = ?", (prefix.bits,)).fetchone()
        return row[0] if row else None

    def node_by_serial(self, serial: int) -> Prefix | None:
        """The node whose certificate has this serial number."""
        row = self._db.execute("SELECT bits FROM prefix WHERE serial = ?", (str(serial),)).fetchone()
        return Prefix.from_bits(row[0]) if row else None

    def node_of_bits(self, host_bits: str) -> Prefix | None:
        """The node to whose subnet an address belongs; ``host_bits`` are ``Network.host_bits(address)``."""
        starts = [host_bits[:end] for end in range(len(host_bits) + 1)]
        marks = ",".join("?" * len(starts))
        row = self._db.execute(
            f"SELECT bits FROM prefix WHERE bits IN ({marks}) AND serial IS NOT NULL",  # noqa: S608
            starts,
        ).fetchone()
        return Prefix.from_bits(row[0]) if row else None

    # -- peers ----------------------------------------------------------------------------------------

    def declare(self, prefix: Prefix, endpoints: str) -> None:
        """Remember for 24 h where a node can be reached; an empty string: nowhere.

        Raises UnknownNode if nobody has this prefix.
        """
        with transaction(self._db):
            if not endpoints:
                self._forget(
                    self._db.execute("SELECT slot FROM peer WHERE bits = ?", (prefix.bits,)).fetchall()
                )
                return
            if self.certificate(prefix) is None:
                raise UnknownNode
            self._db.execute(
                "INSERT INTO peer (slot, bits, endpoints, declared) VALUES (?, ?, ?, ?) ON CONFLICT (bits)"
                " DO UPDATE SET endpoints = excluded.endpoints, declared = excluded.declared",
                (self._slots() + 1, prefix.bits, endpoints, self._now()),
            )

    def peers(self, count: int, exclude: Collection[Prefix] = ()) -> list[tuple[Prefix, str]]:
        """Up to ``count`` reachable nodes in random order, each with its endpoint string."""
        slots = self._slots()
        unwanted = {prefix.bits for prefix in exclude}
        since = self._now() - PEER_LIFE
        # Some of those drawn may be unwanted or too old.
        drawn = self._rng.sample(range(1, slots + 1), min(slots, count + len(unwanted) + 8))
        found: list[tuple[Prefix, str]] = []
        for slot in drawn:
            if len(found) >= count:
                break
            bits, endpoints, declared = self._db.execute(
                "SELECT bits, endpoints, declared FROM peer WHERE slot = ?", (slot,)
            ).fetchone()
            if bits not in unwanted and declared > since:
                found.append((Prefix.from_bits(bits), endpoints))
        return found

    def bootstrap(self, exclude: Collection[Prefix] = ()) -> tuple[Prefix, str] | None:
        """One reachable node, or None when none is known."""
        return next(iter(self.peers(1, exclude)), None)

    def expire(self) -> int:
        """Drop tokens and peers older than 24 h, at most EXPIRE_AT_ONCE of each.

        Returns how many went; as long as that is not 0 there may be more.
        """
        now = self._now()
        with transaction(self._db):
            old = self._db.execute(
                "SELECT hash FROM token WHERE created <= ? LIMIT ?", (now - TOKEN_LIFE, EXPIRE_AT_ONCE)
            ).fetchall()
            self._db.executemany("DELETE FROM token WHERE hash = ?", old)
            silent = self._db.execute(
                "SELECT slot FROM peer WHERE declared <= ? LIMIT ?", (now - PEER_LIFE, EXPIRE_AT_ONCE)
            ).fetchall()
            self._forget(silent)
        return len(old) + len(silent)

    def _slots(self) -> int:
        """How many peers there are: the last slot."""
        (last,) = self._db.execute("SELECT max(slot) FROM peer").fetchone()
        return last or 0

    def _forget(self, slots: list[tuple[int]]) -> None:
        """Remove peers, highest slot first, each time moving the last peer into the gap."""
        for (slot,) in sorted(slots, reverse=True):
            last = self._slots()
            self._db.execute("DELETE FROM peer WHERE slot = ?", (slot,))
            if slot != last:
                self._db.execute("UPDATE peer SET slot = ? WHERE slot = ?", (slot, last))


def _hash(token: str) -> bytes:
    """What is stored of a token; tokens are long and random, so no salt is needed."""
    return hashlib.sha256(token.encode()).digest()
