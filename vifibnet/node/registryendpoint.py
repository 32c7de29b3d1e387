"""The registry's address with our TLS in it, which changes when our certificate does."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from vifibnet.pki.certificates import Identity
from vifibnet.pki.tls import client_options
from vifibnet.wire.amp import ALPN


@implementer(IStreamClientEndpoint)
class RegistryEndpoint:
    """Connects with the certificate that we have at the moment."""

    def __init__(self, address: IStreamClientEndpoint, identity: Callable[[], Identity]) -> None:
        self._address = address
        self._identity = identity

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect over TLS."""
        identity = self._identity()
        options = client_options(identity.ca, identity, [ALPN])
        return wrapClientTLS(options, self._address).connect(protocolFactory)
