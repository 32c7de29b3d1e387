"""What becomes of certificates after they were issued. Serial numbers are decimal in the database."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from vifibnet.errors import BadRequest, CertificateRevoked, UnknownNode
from vifibnet.model.addresses import Prefix
from vifibnet.store.audit import record
from vifibnet.store.database import changing
from vifibnet.store.pem import Signed
from vifibnet.store.revocations import revoke, version
from vifibnet.wire.revocation import Revoked

MARGIN = 24 * 3600.0
"""Seconds for which a certificate may still count for others after it expired, because their clocks lag."""

MAX_CERTIFICATES = 10
"""How many certificates that have not expired a node may have."""


MAX_STANDINGS = 10_000
"""How many certificates' standings are remembered."""


@dataclass(frozen=True)
class Standing:
    """Whose certificate it is, until when it is valid (seconds since 1970), and whether it still counts."""

    prefix: Prefix
    not_after: float
    revoked: bool


def new_serial(db: sqlite3.Connection) -> int:
    """A random serial number of 127 bits that no certificate had; no network's serial is as long."""
    while True:
        serial = 1 << 126 | secrets.randbits(126)
        if not db.execute("SELECT 1 FROM certificate WHERE serial = ?", (str(serial),)).fetchone():
            return serial


def add_certificate(
    db: sqlite3.Connection, prefix: Prefix, serial: int, key_hash: bytes, signed: Signed, now: float
) -> None:
    """Remember a certificate, inside the caller's transaction, as the node's newest."""
    db.execute(
        "INSERT INTO certificate (serial, bits, pem, subject, key_hash, issued, not_after)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (str(serial), prefix.bits, signed.pem, signed.subject, key_hash, now, signed.not_after),
    )
    db.execute(
        "UPDATE prefix SET serial = ?, expires = max(coalesce(expires, 0), ?) WHERE bits = ?",
        (str(serial), signed.not_after, prefix.bits),
    )


class CertificateStore:
    """The certificates in a registry's database; ``clock_seconds`` gives seconds since 1970."""

    def __init__(self, db: sqlite3.Connection, clock_seconds: Callable[[], float]) -> None:
        self._db = db
        self._now = clock_seconds
        self._standings: dict[int, Standing | None] = {}
        self._changes = -1

    def standing(self, serial: int) -> Standing | None:
        """What there is to say of a certificate; None if we never issued it, or its prefix was given up.

        Remembered until anything in the database is changed, which we alone do.
        """
        if self._db.in_transaction:
            # What it has changed may yet be taken back.
            return self._look_up(serial)
        changes = self._db.total_changes
        if changes != self._changes or len(self._standings) >= MAX_STANDINGS:
            self._standings.clear()
            self._changes = changes
        if serial not in self._standings:
            self._standings[serial] = self._look_up(serial)
        return self._standings[serial]

    def _look_up(self, serial: int) -> Standing | None:
        row = self._db.execute(
            "SELECT prefix.bits, certificate.not_after,"
            " EXISTS (SELECT 1 FROM revocation WHERE serial = certificate.serial)"
            " FROM certificate JOIN prefix USING (bits) WHERE certificate.serial = ? AND released IS NULL",
            (str(serial),),
        ).fetchone()
        return Standing(Prefix.from_bits(row[0]), row[1], bool(row[2])) if row else None

    def outstanding(self, before: float, since: float) -> bool:
        """Whether there is a certificate, issued before a time, that was still valid at another.

        Looks at all of them where there is none (100,000 in some 10 ms): for now and then.
        """
        found = self._db.execute(
            "SELECT 1 FROM certificate WHERE issued < ? AND not_after > ? LIMIT 1", (before, since)
        )
        return found.fetchone() is not None

    def revoke(self, serial: int, reason: str, by: str) -> bool:
        """Revoke one certificate; False if there is none, or it was revoked before."""
        now = self._now()
        with changing(self._db, durable=True):
            done = revoke(self._db, serial, now, reason)
            if done:
                record(self._db, now, "certificate revoked", f"serial {serial} ({reason})", by)
        return done

    def revoke_node(self, prefix: Prefix, reason: str, by: str) -> int:
        """Revoke all certificates of a node, also one that expired and might be renewed; how many."""
        now = self._now()
        with changing(self._db, durable=True):
            rows = self._db.execute(
                "SELECT serial FROM certificate WHERE bits = ?", (prefix.bits,)
            ).fetchall()
            done = sum(revoke(self._db, int(serial), now, reason) for (serial,) in rows)
            if done:
                record(self._db, now, "node revoked", f"{prefix} ({reason})", by)
        return done

    def number(self) -> int:
        """The revocation list's number, which every revocation makes greater; 0 before the first."""
        return version(self._db)

    def revoked(self, grace: float) -> list[Revoked]:
        """The certificates that count no longer though they have not expired (a lagging clock included).

        A node goes on when it has another certificate that is valid, or expired less than ``grace`` seconds
        ago, and was not revoked.
        """
        now = self._now()
        rows = self._db.execute(
            "SELECT serial, bits, spares OR EXISTS (SELECT 1 FROM certificate"
            " WHERE certificate.bits = revocation.bits"
            " AND certificate.not_after > ?"
            " AND NOT EXISTS (SELECT 1 FROM revocation WHERE serial = certificate.serial))"
            " FROM revocation WHERE not_after > ?",
            (now - grace, now - MARGIN),
        )
        return [Revoked(int(serial), Prefix.from_bits(bits), not other) for serial, bits, other in rows]

    def renew(
        self, serial: int, key_hash: bytes, grace: float, sign: Callable[[Prefix, int], Signed]
    ) -> tuple[Prefix, str]:
        """Give the node that has the certificate ``serial`` another one, for the key of this hash.

        Returns its prefix and the certificate (PEM), which is the newest that it has as long as that is for
        the same key and less than half of its life is over: an answer may get lost. Raises UnknownNode, also
        when the certificate expired more than ``grace`` seconds ago, CertificateRevoked, BadRequest, and
        whatever ``sign`` raises.
        """
        now = self._now()
        with changing(self._db, durable=True):
            standing = self.standing(serial)
            if standing is None or now > standing.not_after + grace:
                raise UnknownNode
            if standing.revoked:
                raise CertificateRevoked
            prefix = standing.prefix
            again = self._db.execute(
                "SELECT pem FROM certificate JOIN prefix USING (serial) WHERE prefix.bits = ?1"
                " AND key_hash = ?2 AND not_after - ?3 > (not_after - issued) / 2"
                " AND NOT EXISTS (SELECT 1 FROM revocation WHERE serial = certificate.serial)",
                (prefix.bits, key_hash, now),
            ).fetchone()
            if again is not None:
                return prefix, str(again[0])
            (valid,) = self._db.execute(
                "SELECT count(*) FROM certificate WHERE bits = ? AND not_after > ?", (prefix.bits, now)
            ).fetchone()
            if valid >= MAX_CERTIFICATES:
                raise BadRequest(problem=f"this node has {valid} certificates that have not expired")
            new = new_serial(self._db)
            signed = sign(prefix, new)
            add_certificate(self._db, prefix, new, key_hash, signed, now)
            record(self._db, now, "certificate renewed", f"{prefix} serial {new}", prefix)
        return prefix, signed.pem
