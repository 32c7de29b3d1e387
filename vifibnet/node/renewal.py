"""A node's certificate over the years: renewed while a third of its life is left.

What runs goes on: no tunnel ends because of a renewal. New openvpn processes read the new certificate when
they start. Those that run hold the old one (``--persist-key`` keeps it in memory, and openvpn cannot exchange
it), which counts until it expires; each of them is replaced before, at a random moment in the middle of the
time that the old certificate has left. With certificates of a year that is some time within two months:
neither do all tunnels of a node go at once, nor the servers of all nodes in the same week, and most clients
have been replaced by the tunnel refresh before.

With ``--fresh-key`` each renewal makes a new private key (pki.freshkey), which those processes come to use in
the same way.

A node whose certificate has expired does nothing but ask the registry for a new one, which it gets as long as
the registry's grace lasts; then it starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from vifibnet.errors import BadAddress, BadInput, RegistryRefusal
from vifibnet.files import write_atomically
from vifibnet.interfaces import IRegistry
from vifibnet.node.authorities import Authorities
from vifibnet.node.config import NodeConfig
from vifibnet.node.peers import Persistent
from vifibnet.pki import freshkey
from vifibnet.pki.authority import CLOCK_SKEW
from vifibnet.pki.certificates import CA, UNREADABLE, Identity, PrivateKey, belongs, prefix_of, signer
from vifibnet.pki.requests import signature_hash

LOOK_EVERY = 3600.0
"""Seconds between two looks at the clock, at most; a twentieth of the certificate's life, if that is less."""

REPLACE_FROM, REPLACE_TO = 0.2, 0.8
"""When a process that holds the old certificate is replaced, as parts of the time which that has left."""


def due(certificate: x509.Certificate, ca: x509.Certificate) -> datetime | None:
    """When to renew: as soon as a third of the life is left.

    Never (None) when it lasts as long as the authority that signs now, which makes none that lasts longer.
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

    ``identity`` is who we are now. ``on_renewed`` is called when that has changed; ``replace(first, last)``
    replaces every process that holds the old certificate, so many seconds later.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        config: NodeConfig,
        identity: Identity,
        authorities: Authorities,
        on_renewed: Callable[[], None],
        replace: Callable[[float, float], None],
        in_thread: Callable[..., Any] = deferToThread,
        calendar: Callable[[], float] | None = None,
    ) -> None:
        """``calendar`` tells the time that certificates are compared with, if that is not the reactor's."""
        self.identity = identity
        self.registry: IRegistry | None = None
        self._reactor = reactor
        self._rng = rng
        self._config = config
        self._authorities = authorities
        self._on_renewed = on_renewed
        self._replace = replace
        self._in_thread = in_thread
        self._calendar = calendar or reactor.seconds
        self._waiting: list[Deferred[None]] = []
        every = max(0.5, min(LOOK_EVERY, life(identity.certificate).total_seconds() / 20))
        self._looking = Persistent(reactor, rng, every, self._look)
        self._said = ""

    def change(self, config: NodeConfig) -> None:
        """Obey another config."""
        self._config = config

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
        when = due(self.identity.certificate, self._authorities.signing().certificate)
        if when is None or self._now() < when or self.registry is None:
            return True
        try:
            # An authority that we have not heard of may sign it: who has expired may ask for these two alone.
            await self._authorities.ask(self.registry)
            key = await self._key()
            self._take(await self.registry.renew(self._request(key)), key)
        except (RegistryRefusal, BadInput) as error:
            self._complain(str(error))
            return False
        return True

    async def _key(self) -> PrivateKey:
        """The key for the next certificate: what we have, or a fresh one. Raises BadInput."""
        key = self.identity.key
        if self._config.fresh_key:
            # An RSA key takes a second.
            key = await self._in_thread(freshkey.prepare, self._config.key, key)
        return key

    def _request(self, key: PrivateKey) -> str:
        """A request with the subject that we have; the registry sees to the name in it."""
        builder = x509.CertificateSigningRequestBuilder().subject_name(self.identity.certificate.subject)
        return builder.sign(key, signature_hash(key)).public_bytes(Encoding.PEM).decode("ascii")

    def _take(self, pem: str, key: PrivateKey) -> None:
        """Use the new certificate from now on. Raises BadInput where it is not what we need."""
        old = self.identity
        certificate, ca = self._checked(pem, key)
        write_atomically(self._config.cert, certificate.public_bytes(Encoding.PEM), overwrite=True)
        if key is not old.key:
            freshkey.take(self._config.key)
        self.identity = replace(old, certificate=certificate, key=key, ca=ca)
        self._said = ""
        self.log.info(
            "the certificate is renewed until {when:%Y-%m-%d %H:%M} UTC",
            when=certificate.not_valid_after_utc,
        )
        self._replace_holders(old.certificate)
        self._on_renewed()
        self._tell_waiting()

    def _checked(self, pem: str, key: PrivateKey) -> tuple[x509.Certificate, CA]:
        """The certificate in an answer, and who signed it. Raises BadInput."""
        old, what = self.identity, "the registry's answer"
        try:
            certificate = x509.load_pem_x509_certificate(pem.encode("ascii"))
            ca = signer(certificate, self._authorities.cas())
            fits = belongs(key, certificate) and prefix_of(certificate) == old.prefix
        except (*UNREADABLE, BadAddress):
            fits, ca = False, None
        if not fits or ca is None:
            raise BadInput(what, "is no certificate for this node", "see the registry's log")
        if certificate.not_valid_after_utc <= old.certificate.not_valid_after_utc:
            raise BadInput(what, "is a certificate that lasts no longer", "see the registry's log")
        return certificate, ca

    def _replace_holders(self, old: x509.Certificate) -> None:
        """Plan the end of every process that goes on with the old certificate."""
        left = max(0.0, (old.not_valid_after_utc - self._now()).total_seconds())
        self._replace(left * REPLACE_FROM, left * REPLACE_TO)

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
        return datetime.fromtimestamp(self._calendar(), UTC)
