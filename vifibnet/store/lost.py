"""A registry's database made anew for one that is lost: what its nodes bring back of it.

A node that shows a certificate which the lost database issued is recorded again. A database that was never
lost takes in nobody: what it does not know it has forgotten on purpose. So only what was issued before this
one was made may come back, and only as long as it is valid: of the certificates that are, and were not
revoked, no two nodes had the same prefix, or overlapping ones. Revocations and parameters are lost as
well, so that the operator brings them along from any node, which keeps them signed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field

from vifibnet.errors import CertificateRevoked, UnknownNode
from vifibnet.model.addresses import Prefix
from vifibnet.model.parameters import NOTHING, Values
from vifibnet.store.audit import REGISTRY, record
from vifibnet.store.certificates import add_certificate
from vifibnet.store.database import changing
from vifibnet.store.parameters import adopt
from vifibnet.store.pem import Signed
from vifibnet.store.revocations import revoke
from vifibnet.store.space import take
from vifibnet.wire.revocation import Revoked


@dataclass(frozen=True)
class Shown:
    """A certificate of our CA's, as its node shows it; ``issued`` is not before it was."""

    prefix: Prefix
    serial: int
    key_hash: bytes
    signed: Signed
    issued: float
    email: str | None


@dataclass(frozen=True)
class Remembered:
    """What the nodes keep of a lost database: the revocation list and the parameters, each with the number of
    its document, which is 0 where there is none."""

    revocations: int = 0
    revoked: tuple[Revoked, ...] = ()
    parameters: int = 0
    values: Values = field(default_factory=lambda: NOTHING, repr=False)


class LostStore:
    """What a registry's database owes to one that is lost; ``clock_seconds`` gives seconds since 1970."""

    def __init__(self, db: sqlite3.Connection, clock_seconds: Callable[[], float]) -> None:
        self._db = db
        self._now = clock_seconds
        row = db.execute("SELECT until FROM lost WHERE id = 1").fetchone()
        self._until: float | None = row[0] if row else None

    @property
    def takes_in(self) -> bool:
        """Whether there is any certificate that may come back."""
        return self._until is not None

    def begin(self, known: Remembered, ends: float) -> bool:
        """Take in from now on what an earlier database issued; False where this one was used before.

        The revoked certificates, of which nobody knows more, are remembered until ``ends``, the CA's own end.
        """
        now = self._now()
        with changing(self._db, durable=True):
            if self._db.execute("SELECT 1 FROM audit").fetchone() is not None:
                return False
            self._db.execute("INSERT INTO lost (id, until) VALUES (1, ?)", (now,))
            first = known.revocations - len(known.revoked) + 1
            self._db.executemany(
                "INSERT INTO revocation (number, serial, bits, revoked, not_after, reason, spares)"
                " VALUES (?, ?, ?, ?, ?, 'from a node''s list', ?)",
                [
                    (first + index, str(each.serial), each.prefix.bits, now, ends, not each.node)
                    for index, each in enumerate(sorted(known.revoked))
                ],
            )
            if known.parameters:
                adopt(self._db, known.parameters, known.values, now)
            what = f"{len(known.revoked)} revocations of list {known.revocations}"
            record(self._db, now, "made anew", what, REGISTRY)
        self._until = now
        return True

    def take_in(self, shown: Shown) -> None:
        """Record a certificate again that the lost database issued.

        Raises CertificateRevoked, and UnknownNode unless it may come back: it has to be valid, and its
        prefix to be nobody else's. One of a node that was revoked or released since is revoked as well.
        """
        now = self._now()
        if self._until is None or shown.issued > self._until or now > shown.signed.not_after:
            raise UnknownNode
        if self._db.execute("SELECT 1 FROM revocation WHERE serial = ?", (str(shown.serial),)).fetchone():
            raise CertificateRevoked
        with changing(self._db, durable=True):
            outcast = self._add(shown, self._until)
            if outcast:
                revoke(self._db, shown.serial, now, "its node was put out")
            record(
                self._db, now, "revoked with its node" if outcast else "taken in again",
                f"{shown.prefix} serial {shown.serial}", shown.prefix,
            )  # fmt: skip
        if outcast:
            raise CertificateRevoked

    def _add(self, shown: Shown, until: float) -> bool:
        """Give the certificate to its node, and the prefix if need be; whether the node was put out."""
        bits = shown.prefix.bits
        holder = self._db.execute(
            "SELECT joined, released IS NOT NULL OR NOT EXISTS (SELECT 1 FROM certificate"
            " WHERE certificate.bits = prefix.bits AND NOT EXISTS (SELECT 1 FROM revocation"
            " WHERE revocation.serial = certificate.serial))"
            " FROM prefix WHERE bits = ? AND serial IS NOT NULL",
            (bits,),
        ).fetchone()
        if holder is None:
            if not take(self._db, bits):
                raise UnknownNode
            self._db.execute(
                "UPDATE prefix SET email = ?, joined = ?, serial = ?, expires = ? WHERE bits = ?",
                (shown.email, shown.issued, str(shown.serial), shown.signed.not_after, bits),
            )
        elif holder[0] > until:
            raise UnknownNode
        add_certificate(self._db, shown.prefix, shown.serial, shown.key_hash, shown.signed, shown.issued)
        if holder is not None:
            # Which one is the newest the order in which they are shown does not tell.
            self._db.execute(
                "UPDATE prefix SET joined = min(joined, ?), serial = (SELECT serial FROM certificate"
                " WHERE certificate.bits = prefix.bits ORDER BY issued DESC LIMIT 1) WHERE bits = ?",
                (shown.issued, bits),
            )
        return holder is not None and bool(holder[1])
