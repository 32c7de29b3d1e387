"""The network's authorities over the years: one follows another while the network runs.

First all nodes learn the new one (the document); after a while the registry signs with it, and nodes renew
their certificates as they always do; the old one counts until no certificate of it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from vifibnet.errors import BadInput, NotDone, StorageFailed
from vifibnet.pki.authorities import Authorities
from vifibnet.pki.certificates import CA, fingerprint
from vifibnet.pki.document import authority_lines, sign_document
from vifibnet.registry.documents import Documents
from vifibnet.store.audit import REGISTRY
from vifibnet.store.registry import GRACE, RegistryStore
from vifibnet.wire.authorities import MAX_AUTHORITIES
from vifibnet.wire.document import Kind

log = Logger()

LOOK_EVERY = 3600.0
"""Seconds between two looks whether an old authority can go, at most."""

WHAT = "The renewal of the authority"


@dataclass(frozen=True)
class Renewed:
    """What was made, and the authority that it follows on."""

    new: CA
    old: CA


class AuthorityRenewal(Service):
    """Knows the network's authorities, makes new ones, and lets old ones go."""

    look_every = LOOK_EVERY

    def __init__(
        self,
        authorities: Authorities,
        store: RegistryStore,
        documents: Documents,
        clock: Any,
        grace: float = GRACE,
    ) -> None:
        """``grace``: seconds for which an expired certificate may still be renewed."""
        self.authorities = authorities
        self._store = store
        self._documents = documents
        self._clock = clock
        self._grace = grace
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock
        documents.add(Kind.AUTHORITIES, lambda: self.number, lambda: authority_lines(authorities.cas))

    def startService(self) -> None:
        """Look now and then."""
        super().startService()
        self._loop.start(self.look_every)

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()
        self._loop.stop()

    # -- what everybody is told ---------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """The document's number: a later authority makes it greater, and so does one that goes."""
        begin = self.authorities.newest.certificate.not_valid_before_utc
        return int(begin.timestamp()) * 10 + MAX_AUTHORITIES - len(self.authorities.cas)

    def for_newcomers(self) -> list[str]:
        """The document, signed by each authority: a newcomer knows one of them."""
        lines = authority_lines(self.authorities.cas)
        return [
            sign_document(each, Kind.AUTHORITIES, self.number, lines).decode("ascii")
            for each in self.authorities.in_force(self._now)
        ]

    # -- one follows another ------------------------------------------------------------------------------

    def renew(self, *, new_key: bool, days: int, wait: float, by: str) -> Renewed:
        """Make the authority that signs in ``wait`` seconds, or when half of the old one's time has passed
        if that is sooner, and tell all nodes. Raises NotDone.
        """
        old, now = self.authorities.newest, self._now
        if old.signs_from > now:
            raise NotDone(
                what=WHAT, problem=f"one is under way, to sign from {old.signs_from:%Y-%m-%d %H:%M} UTC on"
            )
        if now >= old.end:
            raise NotDone(what=WHAT, problem=f"the old one expired on {old.end:%Y-%m-%d}, nobody believes it")
        if len(self.authorities.cas) >= MAX_AUTHORITIES:
            raise NotDone(what=WHAT, problem=f"{MAX_AUTHORITIES} authorities still count")
        signs_from = now + min(timedelta(seconds=wait), (old.end - now) / 2)
        try:
            new = self.authorities.follow(new_key=new_key, days=days, signs_from=signs_from, now=now)
        except BadInput as error:
            raise NotDone(what=WHAT, problem=str(error).rstrip(".")) from None
        seal = fingerprint(new.certificate)
        log.info(
            "{by} made the authority {seal}, which signs from {when} on",
            by=by,
            seal=seal,
            when=str(signs_from),
        )
        self._note("authority made", seal, by)
        self._documents.changed(Kind.AUTHORITIES)
        return Renewed(new, old)

    def _look(self) -> None:
        """Let those go that signed nothing which still counts."""
        try:
            gone = self._outlived()
            if not gone:
                return
            self.authorities.drop(gone)
        except BadInput as error:
            log.error("{error}", error=str(error))
            return
        except Exception:
            log.failure("old authorities could not be removed")
            return
        for ca in gone:
            seal = fingerprint(ca.certificate)
            log.info("no certificate of the authority {seal} counts any more: it is dropped", seal=seal)
            self._note("authority dropped", seal, REGISTRY)
        self._documents.changed(Kind.AUTHORITIES)

    def _outlived(self) -> list[CA]:
        """The oldest ones, as far as all certificates that they may have signed are of no use any more."""
        now, gone = self._clock.seconds(), []
        cas = self.authorities.cas[::-1]
        for old, successor in zip(cas, cas[1:], strict=False):
            replaced = successor.signs_from.timestamp()
            if replaced > now or self._store.certificates.outstanding(replaced, now - self._grace):
                break
            gone.append(old)
        return gone

    def _note(self, what: str, seal: str, by: str) -> None:
        try:
            self._store.note(what, seal, by)
        except StorageFailed as error:
            log.error("the audit log lacks {what} {seal}: {error}", what=what, seal=seal, error=str(error))

    @property
    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.seconds(), UTC)
