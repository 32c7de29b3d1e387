"""TLS between two nodes: each shows its certificate, and each looks who the other is.

Every doubt is a no, as in pki.tls: to a certificate of a stranger, of nobody's prefix, or of a revoked node.
What a node dials is a prefix's own address, and only the certificate of that prefix is right there; the
registry's, which has no prefix, is not, and a node's is no registry's (see pki.tls)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLContextFactory
from twisted.internet.ssl import Certificate, CertificateOptions, TLSVersion, trustRootFromCertificates
from twisted.logger import Logger
from zope.interface import implementer

from vifibnet.errors import BadAddress
from vifibnet.model.addresses import Prefix
from vifibnet.pki.certificates import CA, Identity, prefix_of
from vifibnet.pki.tls import Verifier

log = Logger()

Welcome = Callable[[Prefix, int | None], bool]
"""Whether a node that shows a certificate with this serial number counts as a member."""


def member(certificate: x509.Certificate, welcome: Welcome) -> Prefix | None:
    """Which member of the network a certificate of its CA belongs to; None for none."""
    try:
        prefix = prefix_of(certificate)
    except BadAddress:
        return None
    return prefix if welcome(prefix, certificate.serial_number) else None


def peer_client_options(
    cas: Sequence[CA], identity: Identity, peer: Prefix, welcome: Welcome, alpn: bytes
) -> IOpenSSLClientConnectionCreator:
    """How to call a node; only ``peer`` itself passes, as long as it is ``welcome``."""
    return Verifier(_options(cas, identity, alpn), lambda shown: member(shown, welcome) == peer)


@implementer(IOpenSSLContextFactory)
class PeerContexts:
    """How a node answers others; made anew when its certificate or its authorities have changed."""

    def __init__(
        self,
        identity: Callable[[], Identity],
        cas: Callable[[], Sequence[CA]],
        welcome: Welcome,
        alpn: bytes,
    ) -> None:
        self._identity = identity
        self._cas = cas
        self._welcome = welcome
        self._alpn = alpn
        self._made_for: object = None
        self._context: SSL.Context

    def getContext(self) -> SSL.Context:
        """The context for a connection."""
        identity, cas = self._identity(), tuple(self._cas())
        if self._made_for != (identity.certificate, cas):
            context = _options(cas, identity, self._alpn).getContext()
            # Nobody comes in again on the strength of an earlier handshake: he may be revoked since.
            context.set_options(SSL.OP_NO_TICKET)
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._is_member)
            self._context = context
            self._made_for = identity.certificate, cas
        return self._context

    def _is_member(
        self, _connection: SSL.Connection, shown: X509, _error: int, depth: int, trusted: int
    ) -> bool:
        """OpenSSL's question about each certificate of the chain, the CA's first, the other side's last."""
        try:
            return bool(trusted) and (depth > 0 or member(shown.to_cryptography(), self._welcome) is not None)
        except Exception:
            # An exception in this callback would be lost on its way through C.
            log.failure("the certificate that a peer shows cannot be read")
            return False


def _options(cas: Sequence[CA], identity: Identity, alpn: bytes) -> CertificateOptions:
    ours: dict[str, Any] = {"privateKey": identity.key, "certificate": identity.certificate}
    return CertificateOptions(
        trustRoot=trustRootFromCertificates(
            [Certificate(X509.from_cryptography(ca.certificate)) for ca in cas]
        ),
        acceptableProtocols=[alpn],
        raiseMinimumTo=TLSVersion.TLSv1_2,
        **ours,
    )
