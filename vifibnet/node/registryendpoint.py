"""The registry's address, which the operator may change, with our TLS in it, which changes when our
certificate does."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from vifibnet.pki.certificates import CA, Identity
from vifibnet.pki.tls import client_options
from vifibnet.wire.amp import ALPN


@implementer(IStreamClientEndpoint)
class RegistryEndpoint:
    """Connects with the certificate that we have at the moment, to who shows one that we trust."""

    def __init__(
        self,
        address: Callable[[], IStreamClientEndpoint],
        identity: Callable[[], Identity],
        cas: Callable[[], Sequence[CA]],
    ) -> None:
        self._address = address
        self._identity = identity
        self._cas = cas

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect over TLS."""
        options = client_options(self._cas(), self._identity(), [ALPN])
        return wrapClientTLS(options, self._address()).connect(protocolFactory)
