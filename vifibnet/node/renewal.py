"""A node's certificate over the years: renewed while a third of its life is left.

What runs goes on: no tunnel ends because of a renewal. New openvpn processes read the new certificate when
they start. Those that run hold the old one (``--persist-key`` keeps it in memory, and openvpn cannot exchange
it), which counts until it expires; each of them is replaced before, at a random moment in the middle of the
time that the old certificate has left. With certificates of a year that is some time within two months:
neither do all tunnels of a node go at once, nor the servers of all nodes in the same week, and most clients
have been replaced by the tunnel refresh before.

A node whose certificate has expired does nothing but ask the registry for a new one, which it gets as long as
the registry's grace lasts; then it starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from vifibnet.errors import BadAddress, BadInput, RegistryRefusal
from vifibnet.interfaces import IRegistry
from vifibnet.node.config import NodeConfig
from vifibnet.node.peers import Persistent
from vifibnet.pki.authority import CLOCK_SKEW
from vifibnet.pki.certificates import UNREADABLE, Identity, belongs, is_signed_by, prefix_of
from vifibnet.pki.files import NewFile, write_together
from vifibnet.pki.requests import signature_hash

LOOK_EVERY = 3600.0
"""Seconds between two looks at the clock, at most; a twentieth of the certificate's life, if that is less."""

REPLACE_FROM, REPLACE_TO = 0.2, 0.8
"""When a process that holds the old certificate is replaced, as parts of the time which that has left."""


def due(certificate: x509.Certificate, ca: x509.Certificate) -> datetime | None:
    """When to renew: as soon as a third of the life is left.

    Never (None) when it lasts as long as the authority, which makes no certificate that lasts longer.
    """
    if certificate.not_valid_after_utc >= ca.not_valid_after_utc:
        return None
    return certificate.not_valid_after_utc - life(certificate) / 3


def life(certificate: x509.Certificate) -> timedelta:
    """For how long it was issued; it is valid an hour longer, which lies before."""
    valid = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return valid - CLOCK_SKEW if valid > CLOCK_SKEW else valid


class Renewal(Service):
    """Keeps the node's certificate valid.

    ``identity`` is who we are now. ``on_renewed`` is called when that has changed; ``running`` gives for each
    process that holds a certificate a call that replaces it.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        config: NodeConfig,
        identity: Identity,
        on_renewed: Callable[[], None],
        holders: Callable[[], Iterable[Callable[[], None]]],
    ) -> None:
        self.identity = identity
        self.registry: IRegistry | None = None
        self._reactor = reactor
        self._rng = rng
        self._config = config
        self._on_renewed = on_renewed
        self._holders = holders
        self._waiting: list[Deferred[None]] = []
        self._replacing: set[IDelayedCall] = set()
        every = max(0.5, min(LOOK_EVERY, life(identity.certificate).total_seconds() / 20))
        self._looking = Persistent(reactor, rng, every, self._look)
        self._said = ""

    def startService(self) -> None:
        """Look now, and then again and again."""
        super().startService()
        if self.expired:
            self.log.error(
                "the certificate expired on {when:%Y-%m-%d %H:%M} UTC: waiting for the registry to renew it",
                when=self.identity.certificate.not_valid_after_utc,
            )
        if self.registry is not None:
            self._looking.startService()

    def stopService(self) -> None:
        """Renew no more."""
        super().stopService()
        if self._looking.running:
            self._looking.stopService()
        for call in self._replacing:
            if call.active():
                call.cancel()
        self._replacing.clear()
        self._tell_waiting()

    @property
    def expired(self) -> bool:
        """Whether our certificate counts for nothing but its renewal."""
        return self._now() > self.identity.certificate.not_valid_after_utc

    def valid(self) -> Deferred[None]:
        """Fires when our certificate is valid, or we stop."""
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        if not self.expired or not self.running:
            self._tell_waiting()
        return waiting

    def retry(self) -> None:
        """The registry is there again."""
        self._looking.retry()

    # -- renewing -----------------------------------------------------------------------------------------

    async def _look(self) -> bool:
        when = due(self.identity.certificate, self.identity.ca.certificate)
        if when is None or self._now() < when or self.registry is None:
            return True
        try:
            pem = await self.registry.renew(self._request())
        except RegistryRefusal as refusal:
            self._complain(str(refusal))
            return False
        try:
            self._take(pem)
        except BadInput as error:
            self._complain(str(error))
            return False
        return True

    def _request(self) -> str:
        """A request with the key and the subject that we have; the registry sees to the name in it."""
        identity = self.identity
        builder = x509.CertificateSigningRequestBuilder().subject_name(identity.certificate.subject)
        request = builder.sign(identity.key, signature_hash(identity.key))
        return request.public_bytes(Encoding.PEM).decode("ascii")

    def _take(self, pem: str) -> None:
        """Use the new certificate from now on. Raises BadInput where it is not what we need."""
        old = self.identity
        certificate = self._checked(pem)
        data = certificate.public_bytes(Encoding.PEM)
        write_together([NewFile(self._config.cert, data)], overwrite=True)
        self.identity = replace(old, certificate=certificate)
        self._said = ""
        self.log.info(
            "the certificate is renewed until {when:%Y-%m-%d %H:%M} UTC",
            when=certificate.not_valid_after_utc,
        )
        self._replace_holders(old.certificate)
        self._on_renewed()
        self._tell_waiting()

    def _checked(self, pem: str) -> x509.Certificate:
        old, what = self.identity, "the registry's answer"
        try:
            certificate = x509.load_pem_x509_certificate(pem.encode("ascii"))
            fits = (
                is_signed_by(certificate, old.ca.certificate)
                and belongs(old.key, certificate)
                and prefix_of(certificate) == old.prefix
            )
        except (*UNREADABLE, BadAddress):
            fits = False
        if not fits:
            raise BadInput(what, "is no certificate for this node", "see the registry's log")
        if certificate.not_valid_after_utc <= old.certificate.not_valid_after_utc:
            raise BadInput(what, "is a certificate that lasts no longer", "see the registry's log")
        return certificate

    def _replace_holders(self, old: x509.Certificate) -> None:
        """Plan the end of every process that goes on with the old certificate."""
        left = max(0.0, (old.not_valid_after_utc - self._now()).total_seconds())
        for call in list(self._replacing):
            if not call.active():
                self._replacing.discard(call)
        for holder in self._holders():
            part = REPLACE_FROM + (REPLACE_TO - REPLACE_FROM) * self._rng.random()
            self._replacing.add(self._reactor.callLater(left * part, holder))

    def _complain(self, problem: str) -> None:
        """Say it once."""
        say = self.log.debug if problem == self._said else self.log.error
        self._said = problem
        say("the certificate cannot be renewed: {problem}", problem=problem)

    def _tell_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.called:
                each.callback(None)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._reactor.seconds(), UTC)
