"""A registry on a clock that stands still, in memory, whose mails go nowhere."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from vifibnet.errors import MailFailed
from vifibnet.interfaces import IMailer
from vifibnet.model.addresses import Network
from vifibnet.pki.authorities import Authorities
from vifibnet.pki.authority import Authority, create_authority
from vifibnet.pki.certificates import Identity, PrivateKey, fingerprint, prefix_of
from vifibnet.pki.requests import make_key, make_request
from vifibnet.registry.core import Registry
from vifibnet.registry.mail import TokenMail
from vifibnet.store.lost import Remembered
from vifibnet.store.registry import RegistryStore
from vifibnet.wire.invitation import Invitation
from vifibnet.wire.revocation import Revoked

NOW = 1_800_000_000.0
NETWORK = Network.parse("2001:db8:42::/48")


@implementer(IMailer)
class FakeMailer:
    """Keeps mails; waits when ``waiting`` is set; fails when ``broken``."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str]] = []
        self.waiting: Deferred[None] | None = None
        self.broken = False

    async def send(self, to: str, subject: str, body: str) -> None:
        """Keep one mail."""
        if self.waiting is not None:
            await self.waiting
        if self.broken:
            raise MailFailed(problem="it is broken")
        self.sent.append((to, subject, body))

    @property
    def token(self) -> str:
        """The token in the last mail."""
        return token_in(self.sent[-1][2])


def token_in(text: str) -> str:
    """The token that a mail brings."""
    (line,) = [line for line in text.splitlines() if line.startswith("Token: ")]
    return line.removeprefix("Token: ")


def make_authority(directory: Path, now: float = NOW, network: Network = NETWORK) -> Authority:
    """A CA whose files are ``ca.key`` and ``ca.crt``."""
    directory.mkdir(parents=True, exist_ok=True)
    when = datetime.fromtimestamp(now, UTC)
    key, certificate = create_authority(network, now=when)
    (directory / "ca.key").write_bytes(key)
    (directory / "ca.crt").write_bytes(certificate)
    return Authority.load(directory / "ca.crt", directory / "ca.key", when)


def request_pem(key: PrivateKey | None = None) -> str:
    """A new node's request."""
    return make_request(key or make_key(), [("O", "example")]).public_bytes(Encoding.PEM).decode()


class Parts:
    """A registry with what it is made of."""

    def __init__(self, directory: Path, now: float = NOW, **options: float) -> None:
        self.clock = Clock()
        self.clock.advance(now)
        self.authority = make_authority(directory, now)
        self.store = RegistryStore.open(":memory:", NETWORK, self.clock.seconds)
        self.mailer = FakeMailer()
        self.token = "the one that enrol used last"
        mail = TokenMail(NETWORK, self.invite)
        self.registry = Registry(
            Authorities.of(self.authority), self.store, self.mailer, self.clock, mail, **options
        )

    def invite(self, token: str) -> Invitation:
        """An invitation with this token."""
        seal = fingerprint(self.authority.certificate)
        return Invitation(("192.0.2.1", "r.example"), 443, seal, token)

    def lose(self, number: int = 0, revoked: Sequence[Revoked] = (), *, declared: bool = True) -> None:
        """Lose the database, and make a new one, ``declared`` to be for a lost one."""
        self.store.close()
        self.store = RegistryStore.open(":memory:", NETWORK, self.clock.seconds)
        if declared:
            ends = self.authority.certificate.not_valid_after_utc.timestamp()
            self.store.lost.begin(Remembered(number, tuple(revoked)), ends)
        mail = TokenMail(NETWORK, self.invite)
        self.registry = Registry(Authorities.of(self.authority), self.store, self.mailer, self.clock, mail)

    def enrol(self, key: PrivateKey | None = None) -> str:
        """Issue one certificate and return it as PEM."""
        self.token = secrets.token_hex()
        self.store.add_token(self.token, "a@b.example")
        return self.registry.request_certificate(self.token, request_pem(key))

    def new_node(self) -> x509.Certificate:
        """The certificate of a new node."""
        return x509.load_pem_x509_certificate(self.enrol().encode())

    def identity(self) -> Identity:
        """A new node."""
        key = make_key()
        certificate = x509.load_pem_x509_certificate(self.enrol(key).encode())
        return Identity(certificate, key, self.authority.ca, NETWORK, prefix_of(certificate))
