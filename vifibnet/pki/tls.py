"""TLS as the registry and its clients speak it, and how a newcomer learns the network's CA."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionClosed,
    DNSLookupError,
)
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IOpenSSLContextFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    TLSVersion,
    trustRootFromCertificates,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from vifibnet.errors import BadInput, NotOurRegistry, RegistryUnreachable
from vifibnet.pki.authorities import Authorities
from vifibnet.pki.authority import Authority
from vifibnet.pki.certificates import CA, Identity, ca_of, signer
from vifibnet.wire.amp import REGISTRY_NAME

log = Logger()

MAX_CHAIN = 10
"""How many certificates of a stranger are looked at."""

_HAS_EXPIRED = 10
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED."""


def server_options(
    authority: Authority, names: Sequence[str], now: datetime, others: Sequence[CA] = ()
) -> CertificateOptions:
    """How the registry answers: with a certificate of its own, made here, and its CA behind it.

    ``names`` are the DNS names and addresses by which it is called. A client may show a certificate of the
    network (also of one of its ``others`` CAs, which are shown to newcomers) and is refused with a wrong one,
    but for one that has expired; one that shows none is let in (``getPeerCertificate`` is None).
    Raises BadInput naming ``--name``.
    """
    cas = [authority.certificate, *(ca.certificate for ca in others)]
    # Twisted's annotations still name pyOpenSSL's own types, which pyOpenSSL itself has deprecated.
    certificates: dict[str, Any] = {"extraCertChain": cas}
    certificates["privateKey"], certificates["certificate"] = authority.server_certificate(names, now)
    return _GraciousOptions(
        **certificates,
        verify=True,
        caCerts=[X509.from_cryptography(ca) for ca in cas],
        requireCertificate=False,
        raiseMinimumTo=TLSVersion.TLSv1_2,
    )


@implementer(IOpenSSLContextFactory)
class RegistryContexts:
    """The registry's TLS, made anew when its authorities have changed: for connections from then on."""

    def __init__(self, authorities: Authorities, names: Sequence[str], now: Callable[[], datetime]) -> None:
        self._authorities = authorities
        self._names = names
        self._now = now
        self._made_for: object = None
        self._context: SSL.Context

    def getContext(self) -> SSL.Context:
        """The context for a connection."""
        now, cas = self._now(), self._authorities.cas
        known = self._authorities.known(now)
        if self._made_for != (known.ca, cas):
            others = [ca for ca in cas if ca != known.ca]
            self._context = server_options(known, self._names, now, others).getContext()
            self._made_for = known.ca, cas
        return self._context


class _GraciousOptions(CertificateOptions):
    """Lets a client in that shows a certificate whose only fault is that it has expired.

    It may renew it and nothing else, which is for those to see to who look at the certificate.
    """

    _asks_us = False

    def getContext(self) -> SSL.Context:
        """The context, whose verification asks us."""
        context: SSL.Context = super().getContext()
        if not self._asks_us:
            # Once: a context that is in use cannot be changed.
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_CLIENT_ONCE, _is_member)
            self._asks_us = True
        return context


def _is_member(_connection: SSL.Connection, _shown: X509, error: int, _depth: int, trusted: int) -> bool:
    """OpenSSL's question about each certificate of the chain and each of its faults, one at a time.

    The CA may have expired like the node's certificate: as long as we trust it, those may be renewed.
    """
    return bool(trusted) or error == _HAS_EXPIRED


def client_options(
    cas: Sequence[CA],
    identity: Identity | None = None,
    alpn: Sequence[bytes] = (),
) -> IOpenSSLClientConnectionCreator:
    """How to call the registry of this network, whatever address it is dialled at.

    It must show a certificate of one of ``cas`` for the name ``registry.vifibnet``, which no node has. With
    an ``identity`` we show ours; ``alpn`` are the protocols that we offer (RFC 7301).
    """
    ours: dict[str, Any] = {}
    if identity is not None:
        ours = {"privateKey": identity.key, "certificate": identity.certificate}
    return Verifier(
        CertificateOptions(
            trustRoot=trustRootFromCertificates(
                [Certificate(X509.from_cryptography(ca.certificate)) for ca in cas]
            ),
            acceptableProtocols=list(alpn) or None,
            raiseMinimumTo=TLSVersion.TLSv1_2,
            **ours,
        ),
        lambda shown: REGISTRY_NAME in _dns_names(shown),
        REGISTRY_NAME,
    )


@implementer(IOpenSSLClientConnectionCreator)
class Verifier:
    """Makes client connections that only one server passes, e.g. the registry.

    Not optionsForClientTLS: Twisted 26.10 with service_identity 26.1 lets a certificate pass that has no
    subjectAltName at all, and any node of the network might own such a one. Here every doubt is a no.
    """

    def __init__(
        self,
        options: CertificateOptions,
        is_right: Callable[[x509.Certificate], bool],
        name: str | None = None,
    ) -> None:
        """``options`` trust the network's authorities, which the other side's certificate must be signed by;
        ``is_right`` says whether it is the right one, of those; ``name`` is what is called for (SNI)."""
        self._options = options
        self._is_right = is_right
        self._name = name

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """A connection whose handshake fails unless the other side is the right one."""
        connection = self._options.clientConnectionForTLS(protocol)
        if self._name is not None:
            connection.set_tlsext_host_name(self._name.encode())
        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._passes)
        return connection

    def _passes(
        self, _connection: SSL.Connection, shown: X509, _error: int, depth: int, trusted: int
    ) -> bool:
        """OpenSSL's question about each certificate of the chain, the CA's first, the other side's last."""
        try:
            return bool(trusted) and (depth > 0 or self._is_right(shown.to_cryptography()))
        except Exception:
            # An exception in this callback would be lost on its way through C.
            log.failure("the certificate that the other side shows cannot be read")
            return False


def _dns_names(certificate: x509.Certificate) -> list[str]:
    """The DNS names in a certificate's subjectAltName."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName)


async def fetch_cas(
    reactor: IReactorTime,
    endpoint: IStreamClientEndpoint,
    timeout: float = 15.0,
    where: str = "the given address",
) -> list[CA]:
    """Ask whoever answers at ``endpoint`` (TCP) for its CA certificates, believing nothing else it says.

    The first is one whose serial number holds a network and which signed the certificate that the other side
    owns; whether it is the right one only its fingerprint tells. Of the others, which it shows as the same
    network's, it has proved nothing. ``where`` names the endpoint in errors. Raises RegistryUnreachable, also
    after ``timeout`` seconds, and NotOurRegistry.
    """
    reader = _ChainReader()
    connecting = wrapClientTLS(CertificateOptions(), endpoint).connect(Factory.forProtocol(lambda: reader))
    reading: Deferred[list[x509.Certificate]] = connecting.addCallback(lambda _: reader.chain)
    reading.addTimeout(timeout, reactor)
    try:
        chain = await reading
    except (TimeoutError, ConnectingCancelledError):
        raise RegistryUnreachable(where=where, problem=f"no answer within {timeout:g} s") from None
    except SSL.Error:
        raise NotOurRegistry(where=where, problem="it does not speak TLS as a registry does") from None
    except (ConnectError, ConnectionClosed, DNSLookupError) as error:
        raise RegistryUnreachable(where=where, problem=_short(error)) from None
    finally:
        reader.abort()
    return _cas_in(chain, where)


@implementer(IHandshakeListener)
class _ChainReader(Protocol):
    """Reads the other side's certificates and hangs up."""

    def __init__(self) -> None:
        self.chain: Deferred[list[x509.Certificate]] = Deferred()

    def handshakeCompleted(self) -> None:
        """The certificates are there, and the first one's key is the other side's."""
        transport: Any = self.transport
        chain = transport.getHandle().get_peer_cert_chain(as_cryptography=True)
        if not self.chain.called:
            self.chain.callback(chain or [])
        self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It came to no handshake."""
        if not self.chain.called:
            self.chain.errback(reason)

    def abort(self) -> None:
        """Hang up, if there is a connection."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()


def _cas_in(chain: list[x509.Certificate], where: str) -> list[CA]:
    """The network's CAs in a server's chain, that of the server's own certificate first.

    Raises NotOurRegistry.
    """
    cas = []
    for certificate in chain[1:MAX_CHAIN]:
        with suppress(BadInput):
            cas.append(ca_of(certificate, where))
    own = signer(chain[0], cas) if chain else None
    if own is None:
        problem = "it shows no certificate authority with a network in its serial number"
        if cas:
            problem = "its certificate is not signed by the authority that it shows"
        raise NotOurRegistry(where=where, problem=problem)
    return [own, *(ca for ca in cas if ca != own and ca.network == own.network)]


def _short(error: Exception) -> str:
    """What went wrong, without Twisted's preamble."""
    return re.sub(r"^Connection was refused by other side: \d+: |\.$", "", str(error))
