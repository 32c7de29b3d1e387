"""What the registry remembers: tokens, who has which prefix, and where nodes can be reached.

All calls are synchronous and take microseconds to a few milliseconds: every query uses an index. Those that
change something raise StorageFailed, having changed nothing, when the disk is full or cannot be written.
"""

from __future__ import annotations

import hashlib
import random
import secrets
import sqlite3
from collections.abc import Callable, Collection
from hmac import compare_digest
from pathlib import Path
from typing import Literal

from vifibnet.errors import NoSuchNode, UnknownNode, UnknownToken
from vifibnet.model.addresses import Network, Prefix
from vifibnet.store import listing, reachable
from vifibnet.store.audit import REGISTRY, record
from vifibnet.store.certificates import MARGIN, CertificateStore, add_certificate, new_serial
from vifibnet.store.database import bind_network, changing, open_database
from vifibnet.store.listing import Counts, ListedNode, ListedToken
from vifibnet.store.lost import LostStore
from vifibnet.store.parameters import ParameterStore
from vifibnet.store.pem import SQL_FUNCTIONS, Signed
from vifibnet.store.revocations import revoke
from vifibnet.store.space import allocate, free

APPLICATION_ID = 0x76664E52
"""SQLite's application_id of a registry database: "vfNR"."""

TOKEN_LIFE = 24 * 3600.0
"""Seconds for which a token is good."""

PEER_LIFE = 24 * 3600.0
"""Seconds after which a node that no longer declares itself is no longer named to others."""

GRACE = 100 * 24 * 3600.0
"""Seconds for which a node whose certificate expired may still renew it; its prefix is kept as long."""

ANYBODY = "anybody"
"""What the audit log says of a token that is for nobody in particular."""

FREE_AT_ONCE = 100
"""How many prefixes of each kind one ``expire`` frees at most."""

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
        self.certificates = CertificateStore(db, clock_seconds)
        self.parameters = ParameterStore(db, clock_seconds)
        self.lost = LostStore(db, clock_seconds)

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
        db = open_database(
            path, "registry", application_id=APPLICATION_ID, what=what, functions=SQL_FUNCTIONS
        )
        try:
            bind_network(db, network.serial, what)
        except BaseException:
            db.close()
            raise
        return cls(db, clock_seconds, rng)

    @property
    def path(self) -> str:
        """The database's file, absolute; "" in memory."""
        return str(self._db.execute("PRAGMA database_list").fetchone()[2] or "")

    def note(self, what: str, subject: str, by: str) -> None:
        """Add something to the audit log that changes nothing else."""
        with changing(self._db):
            record(self._db, self._now(), what, subject, by)

    def close(self) -> None:
        """Close the database; the store is of no use afterwards."""
        self._db.close()

    # -- tokens and certificates ----------------------------------------------------------------------

    def add_token(
        self,
        token: str,
        email: str | None,
        prefix_length: int | None = None,
        *,
        kind: Literal["mail", "invitation"] = "mail",
        life: float = TOKEN_LIFE,
        by: str | None = None,
    ) -> None:
        """Remember (the hash of) a token that is good for one certificate within ``life`` seconds.

        ``prefix_length`` is the length of the prefix it is good for; None leaves that to ``issue``. ``by``
        is who made it, when it is not who has the address ``email``.
        """
        now = self._now()
        with changing(self._db):
            self._db.execute(
                "INSERT INTO token (hash, kind, email, prefix_length, created, expires)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (_hash(token), kind, email, prefix_length, now, now + life),
            )
            what = "token mailed" if kind == "mail" else "invited"
            record(self._db, now, what, email or ANYBODY, by or email or ANYBODY)

    def drop_token(self, token: str) -> None:
        """Forget a token, e.g. because its mail could not be sent; one unknown or used is no error."""
        with changing(self._db):
            dropped = self._db.execute(
                "DELETE FROM token WHERE hash = ? AND serial IS NULL RETURNING email", (_hash(token),)
            ).fetchall()
            for (email,) in dropped:
                record(self._db, self._now(), "token dropped", email or ANYBODY, REGISTRY)

    def mailed_since(self, email: str, since: float) -> int:
        """How many tokens were mailed to an address after a time; upper and lower case are the same."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM token WHERE lower(email) = lower(?) AND created > ? AND kind = 'mail'",
            (email, since),
        ).fetchone()
        return int(count)

    def issue(
        self, token: str, key_hash: bytes, length_default: int, sign: Callable[[Prefix, int], Signed]
    ) -> str:
        """Take the token, find a free prefix, have it signed and remember all: everything or nothing.

        ``sign(prefix, serial)`` signs the public key whose hash is ``key_hash``; whatever it raises is
        raised, and token and prefix are as before. What is returned (PEM) is on the disk, and is returned
        again for the same token and key until the token expires. Raises UnknownToken and NetworkFull.
        """
        now = self._now()
        with changing(self._db, durable=True):
            row = self._db.execute(
                "SELECT email, prefix_length, serial FROM token WHERE hash = ? AND expires > ?",
                (_hash(token), now),
            ).fetchone()
            if row is None:
                raise UnknownToken
            email, length, spent_on = row
            if spent_on is not None:
                return self._issued(spent_on, key_hash, email)
            prefix = allocate(self._db, length_default if length is None else length, self._rng)
            serial = new_serial(self._db)
            signed = sign(prefix, serial)
            self._db.execute(
                "UPDATE prefix SET email = ?, joined = ?, serial = ?, expires = ? WHERE bits = ?",
                (email, now, str(serial), signed.not_after, prefix.bits),
            )
            add_certificate(self._db, prefix, serial, key_hash, signed, now)
            self._db.execute("UPDATE token SET serial = ? WHERE hash = ?", (str(serial), _hash(token)))
            record(self._db, now, "certificate issued", f"{prefix} serial {serial}", email or ANYBODY)
        return signed.pem

    def _issued(self, serial: str, key_hash: bytes, email: str | None) -> str:
        """The certificate that a token was traded for, for who asks with the same key."""
        row = self._db.execute(
            "SELECT bits, pem, key_hash FROM certificate WHERE serial = ?", (serial,)
        ).fetchone()
        if row is None or not compare_digest(row[2], key_hash) or self.node_by_serial(int(serial)) is None:
            raise UnknownToken
        subject = f"{Prefix.from_bits(row[0])} serial {serial}"
        record(self._db, self._now(), "certificate fetched again", subject, email or ANYBODY)
        return str(row[1])

    def release(self, prefix: Prefix, by: str) -> tuple[str | None, float]:
        """Take a prefix from its node: none of its certificates counts any more from now on.

        The prefix is not given to anybody before the last of them has expired, for until then its holder
        may pass for the node wherever the revocation is not known. Returns the node's e-mail address and
        when the prefix will be free. Raises NoSuchNode.
        """
        now = self._now()
        with changing(self._db, durable=True):
            row = self._db.execute(
                "UPDATE prefix SET released = ? WHERE bits = ? AND serial IS NOT NULL AND released IS NULL"
                " RETURNING email, expires",
                (now, prefix.bits),
            ).fetchall()
            if not row:
                raise NoSuchNode(what=str(prefix))
            for (serial,) in self._db.execute(
                "SELECT serial FROM certificate WHERE bits = ?", (prefix.bits,)
            ).fetchall():
                revoke(self._db, int(serial), now, "released")
            reachable.remove(self._db, prefix.bits)
            record(self._db, now, "released", prefix, by)
        ((email, expires),) = row
        return email, max(expires + MARGIN, now)

    def seen(self, prefix: Prefix) -> None:
        """Remember that a node spoke to us."""
        with changing(self._db):
            self._seen(prefix)

    def _seen(self, prefix: Prefix) -> None:
        self._db.execute(
            "UPDATE prefix SET last_seen = ? WHERE bits = ? AND serial IS NOT NULL",
            (self._now(), prefix.bits),
        )

    def certificate(self, prefix: Prefix) -> str | None:
        """The newest certificate (PEM) of the node that has this prefix."""
        row = self._db.execute(
            "SELECT pem FROM prefix JOIN certificate USING (serial)"
            " WHERE prefix.bits = ? AND released IS NULL",
            (prefix.bits,),
        ).fetchone()
        return row[0] if row else None

    def node_by_serial(self, serial: int) -> Prefix | None:
        """The node one of whose certificates has this serial number; None also if that was revoked."""
        row = self._db.execute(
            "SELECT prefix.bits FROM certificate JOIN prefix USING (bits) WHERE certificate.serial = ?1"
            " AND released IS NULL AND NOT EXISTS (SELECT 1 FROM revocation WHERE serial = ?1)",
            (str(serial),),
        ).fetchone()
        return Prefix.from_bits(row[0]) if row else None

    def node_of_bits(self, host_bits: str) -> Prefix | None:
        """The node to whose subnet an address belongs; ``host_bits`` are ``Network.host_bits(address)``."""
        starts = [host_bits[:end] for end in range(len(host_bits) + 1)]
        marks = ",".join("?" * len(starts))
        row = self._db.execute(
            f"SELECT bits FROM prefix WHERE bits IN ({marks})"  # noqa: S608
            " AND serial IS NOT NULL AND released IS NULL"
            " AND NOT EXISTS (SELECT 1 FROM revocation WHERE revocation.serial = prefix.serial)",
            starts,
        ).fetchone()
        return Prefix.from_bits(row[0]) if row else None

    # -- peers ----------------------------------------------------------------------------------------

    def declare(self, prefix: Prefix, endpoints: str) -> None:
        """Remember for 24 h where a node can be reached; an empty string: nowhere.

        Raises UnknownNode if nobody has this prefix.
        """
        with changing(self._db):
            if not endpoints:
                reachable.remove(self._db, prefix.bits)
            elif self.certificate(prefix) is None:
                raise UnknownNode
            else:
                reachable.put(self._db, prefix, endpoints, self._now())
            self._seen(prefix)

    def peers(self, count: int, exclude: Collection[Prefix] = ()) -> list[tuple[Prefix, str]]:
        """Up to ``count`` reachable nodes in random order, each with its endpoint string."""
        return reachable.sample(self._db, self._rng, count, exclude, self._now() - PEER_LIFE)

    def bootstrap(self, exclude: Collection[Prefix] = ()) -> tuple[Prefix, str] | None:
        """One reachable node, or None when none is known."""
        return next(iter(self.peers(1, exclude)), None)

    # -- for the operator -----------------------------------------------------------------------------

    def nodes(self, start: str, count: int) -> tuple[list[ListedNode], str]:
        """A page of nodes, see ``listing``."""
        return listing.nodes(self._db, start, count, self._now() - PEER_LIFE)

    def tokens(self, start: str, count: int) -> tuple[list[ListedToken], str]:
        """A page of tokens, see ``listing``."""
        return listing.tokens(self._db, start, count, self._now())

    def counts(self) -> Counts:
        """How many there are of what, see ``listing``."""
        return listing.counts(self._db, self._now(), self._now() - PEER_LIFE)

    # -- housekeeping ---------------------------------------------------------------------------------

    def expire(self, grace: float = GRACE) -> int:
        """Drop tokens and peers that are too old, at most EXPIRE_AT_ONCE of each, and free prefixes.

        A node keeps its prefix for ``grace`` seconds after its last certificate expired. Returns how many
        went; as long as that is not 0 there may be more.
        """
        now = self._now()
        with changing(self._db):
            old = self._db.execute(
                "SELECT hash FROM token WHERE expires <= ? LIMIT ?", (now, EXPIRE_AT_ONCE)
            ).fetchall()
            self._db.executemany("DELETE FROM token WHERE hash = ?", old)
            silent = reachable.remove_older(self._db, now - PEER_LIFE, EXPIRE_AT_ONCE)
            freed = self._db.execute(
                "SELECT bits FROM prefix WHERE serial IS NOT NULL AND expires <= ? LIMIT ?",
                (now - grace, FREE_AT_ONCE),
            ).fetchall()
            freed += self._db.execute(
                "SELECT bits FROM prefix WHERE released IS NOT NULL AND expires <= ? AND expires > ? LIMIT ?",
                (now - MARGIN, now - grace, FREE_AT_ONCE),
            ).fetchall()
            for (bits,) in freed:
                self._free(bits)
        return len(old) + silent + len(freed)

    def _free(self, bits: str) -> None:
        reachable.remove(self._db, bits)
        free(self._db, bits)
        record(self._db, self._now(), "freed", Prefix.from_bits(bits), REGISTRY)


def _hash(token: str) -> bytes:
    """What is stored of a token; tokens are long and random, so no salt is needed."""
    return hashlib.sha256(token.encode()).digest()
