"""The registry's rules. Its faces (XML-RPC, AMP) only translate."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from ipaddress import IPv6Address

from cryptography.x509 import Certificate, CertificateSigningRequest
from cryptography.x509.oid import NameOID
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from vifibnet.errors import (
    BadAddress,
    BadArguments,
    BadEmail,
    BadEndpoints,
    CertificateExpired,
    CertificateRevoked,
    NoPeerYet,
    NotInsideNetwork,
    StorageFailed,
    TooManyTokens,
    UnknownNode,
    UnknownToken,
)
from vifibnet.interfaces import IMailer
from vifibnet.model.addresses import Prefix, normal_address
from vifibnet.pki.authorities import Authorities
from vifibnet.pki.authority import CLOCK_SKEW, NODE_DAYS
from vifibnet.pki.certificates import prefix_of
from vifibnet.pki.requests import check_request
from vifibnet.registry.authority import AuthorityRenewal
from vifibnet.registry.connections import Connection, Connections
from vifibnet.registry.documents import Documents
from vifibnet.registry.mail import TokenMail
from vifibnet.registry.parameters import Parameters
from vifibnet.registry.revocation import Revocations
from vifibnet.store.lost import Shown
from vifibnet.store.pem import Signed, key_hash
from vifibnet.store.registry import GRACE, RegistryStore
from vifibnet.wire.endpoints import format_endpoints, is_host, parse_endpoints

log = Logger()

PREFIX_LENGTH = 16
"""Bits of a node's prefix: /64 subnets in a /48."""

MAX_PEERS = 999
"""How many peers one call may ask for, as in 2012."""

MAX_EMAIL = 254
"""Characters of an address that any mail server takes (RFC 5321, erratum 1690)."""

TOKEN_BYTES = 16
"""Random bytes of a token, which is written in hexadecimal so that no shell or mail reader breaks it."""

HOUR = 3600.0

TOKENS_PER_HOUR = 5
"""How many mails with a token an address may get within an hour, whoever asks for them."""

_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*", re.ASCII)


def check_email(email: str) -> str:
    """Return the address if mail can be sent to it: local part and DNS name, ASCII only. Raises BadEmail."""
    local, _, domain = email.rpartition("@")
    numeric = normal_address(domain) is not None
    if len(email) > MAX_EMAIL or not _LOCAL_PART.fullmatch(local) or not is_host(domain) or numeric:
        raise BadEmail(email=email[:MAX_EMAIL])
    return email


class Registry:
    """Who may do what in one network."""

    def __init__(
        self,
        authorities: Authorities,
        store: RegistryStore,
        mailer: IMailer,
        clock: IReactorTime,
        mail: TokenMail,
        *,
        cert_days: float = NODE_DAYS,
        grace: float = GRACE,
    ) -> None:
        """``clock.seconds()`` counts from 1970; ``mail`` is what brings a token.

        Certificates last ``cert_days`` (may change); one that expired may be renewed for ``grace`` seconds.
        """
        self.authorities = authorities
        self._store = store
        self._mailer = mailer
        self._clock = clock
        self._mail = mail
        self.network = authorities.network
        self.connections = Connections()
        self.cert_days = cert_days
        self._grace = grace
        self.documents = Documents(authorities, clock, self.connections)
        self.renewal = AuthorityRenewal(authorities, store, self.documents, clock, grace)
        self.revocations = Revocations(self.network, store, self.documents, grace)
        self.parameters = Parameters(store, self.documents)
        self._closed = False

    def call_later(self, seconds: float, call: Callable[[], object]) -> IDelayedCall:
        """Do something later, on the registry's clock."""
        return self._clock.callLater(seconds, call)

    def now(self) -> datetime:
        """The time."""
        return datetime.fromtimestamp(self._clock.seconds(), UTC)

    # -- for everybody --------------------------------------------------------------------------------

    def get_ca(self) -> str:
        """The CA certificate as PEM: that of our own certificate, which every node knows."""
        return self.authorities.known(self.now()).ca_pem.decode("ascii")

    def get_authorities(self) -> list[str]:
        """The document that names all CAs of the network, signed by each of them."""
        return self.renewal.for_newcomers()

    async def request_token(self, email: str) -> None:
        """Send a token that is good for one certificate within 24 h.

        Raises BadEmail, TooManyTokens and MailFailed.

        When the mail cannot be handed to the mail server no token is left behind.
        """
        check_email(email)
        if self._store.mailed_since(email, self._clock.seconds() - HOUR) >= TOKENS_PER_HOUR:
            raise TooManyTokens(email=email, count=TOKENS_PER_HOUR)
        token = secrets.token_hex(TOKEN_BYTES)
        # Before the mail: it may arrive, and the token be used, before the mail server's last word does.
        self._store.add_token(token, email)
        try:
            await self._mailer.send(email, self._mail.subject, self._mail.body(token))
        except BaseException:
            self._store.drop_token(token)
            raise
        log.info("sent a token to {email}", email=email)

    def request_certificate(self, token: str, request: str) -> str:
        """Trade a token and a certificate request (PEM) for a certificate (PEM).

        As long as the token would be good, the same certificate is given again for the same token and key:
        an answer may get lost. Raises UnknownToken, BadRequest, NetworkFull or AuthorityExpired; the token
        is then still good.
        """
        token = token.strip()
        if len(token) > 100 or not token.isascii():
            raise UnknownToken
        checked = check_request(request)
        return self._store.issue(token, key_hash(checked.public_key()), PREFIX_LENGTH, self._sign(checked))

    def _sign(self, request: CertificateSigningRequest) -> Callable[[Prefix, int], Signed]:
        now = self.now()

        def sign(prefix: Prefix, serial: int) -> Signed:
            signed = self.authorities.signing(now).sign(request, prefix, serial, now, self.cert_days)
            log.info(
                "signed {subject}, serial number {serial}",
                subject=signed.subject.rfc4514_string(),
                serial=serial,
            )
            return Signed.of(signed)

        return sign

    def bootstrap_peer(self, caller: Prefix | None = None) -> tuple[Prefix, str]:
        """One peer that can be reached, never the caller itself, with its endpoints. Raises NoPeerYet."""
        peer = self._store.bootstrap(() if caller is None else (caller,))
        if peer is None:
            raise NoPeerYet
        return peer

    # -- for nodes ------------------------------------------------------------------------------------

    def connected(self, connection: Connection) -> None:
        """A node connected over AMP."""
        self.connections.add(connection)
        self._seen(connection.node)

    def disconnected(self, connection: Connection) -> None:
        """A connection ended; it may be one of nobody that we know."""
        self.connections.discard(connection)
        self._seen(connection.node)

    def _seen(self, node: Prefix | None) -> None:
        # Not worth an error, and after the last connections' end there is no database any more.
        if node is not None and not self._closed:
            with suppress(StorageFailed):
                self._store.seen(node)

    def close(self) -> None:
        """All connections are going to end, which says nothing about the nodes."""
        self._closed = True

    def node_at(self, source: str) -> Prefix | None:
        """The node whose subnet a connection comes from; None outside the network or an issued subnet."""
        address = normal_address(source)
        bits = self.network.host_bits(address) if isinstance(address, IPv6Address) else None
        return None if bits is None else self._store.node_of_bits(bits)

    def identify(self, source: str, claimed: str) -> Prefix:
        """The node that a call over XML-RPC comes from: its own address inside the VPN proves it.

        Raises NotInsideNetwork unless the claimed address is the one it comes from.
        """
        node = self.node_at(source)
        if node is None or normal_address(source) != normal_address(claimed):
            raise NotInsideNetwork(address=claimed[:100], network=self.network)
        return node

    def know(self, certificate: Certificate) -> None:
        """Take a node in again that shows a certificate of our CA which a lost database issued.

        Raises UnknownNode, also CertificateRevoked, where that may not be, and StorageFailed.
        """
        if self._store.certificates.standing(certificate.serial_number) is not None:
            return
        if not self._store.lost.takes_in:
            raise UnknownNode
        try:
            prefix = prefix_of(certificate)
            self.network.subnet(prefix)
        except BadAddress:
            raise UnknownNode from None
        emails = certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)
        shown = Shown(
            prefix,
            certificate.serial_number,
            key_hash(certificate.public_key()),
            Signed.of(certificate),
            (certificate.not_valid_before_utc + CLOCK_SKEW).timestamp(),
            str(emails[0].value) if emails else None,
        )
        self._store.lost.take_in(shown)
        log.info("took in {node} again, serial number {serial}", node=str(prefix), serial=shown.serial)

    def node_of_certificate(self, serial: int, not_after: datetime) -> Prefix:
        """The node that showed a certificate of our CA. Raises UnknownNode if it is no longer good."""
        standing = self._store.certificates.standing(serial)
        if standing is None:
            raise UnknownNode
        if standing.revoked:
            raise CertificateRevoked
        if self._clock.seconds() > not_after.timestamp():
            raise CertificateExpired
        return standing.prefix

    def renew(self, serial: int, request: str) -> str:
        """Give the node that showed this certificate a new one (PEM) for a request (PEM).

        The certificate may have expired, but no longer ago than the grace. Raises UnknownNode, BadRequest
        and AuthorityExpired.
        """
        checked = check_request(request)
        certificates, key = self._store.certificates, key_hash(checked.public_key())
        node, pem = certificates.renew(serial, key, self._grace, self._sign(checked))
        log.info("renewed the certificate of {node}", node=str(node))
        return pem

    def declare(self, node: Prefix, endpoints: str) -> None:
        """Remember for 24 h where a node can be reached; an empty string: nowhere.

        Raises BadEndpoints and UnknownNode.
        """
        parsed = parse_endpoints(endpoints)
        for endpoint in parsed:
            address = normal_address(endpoint.address)
            if isinstance(address, IPv6Address) and address in self.network.ip_network:
                problem = f"{endpoint.address} lies inside the network, where no tunnel can lead"
                raise BadEndpoints(text=endpoints[:200], problem=problem)
        self._store.declare(node, format_endpoints(parsed))
        log.info("{node} can be reached at {endpoints}", node=str(node), endpoints=endpoints or "nowhere")

    def peers(self, node: Prefix, count: int) -> list[tuple[Prefix, str]]:
        """Up to ``count`` (1 to MAX_PEERS) other nodes, chosen at random. Raises BadArguments."""
        if not 0 < count <= MAX_PEERS:
            raise BadArguments(method="getPeerList", problem=f"the number of peers is not 1 to {MAX_PEERS}")
        return self._store.peers(count, exclude=(node,))
