"""TLS between nodes, on real loopback connections: who passes for whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IOpenSSLClientConnectionCreator

from tests.unit.pki.making import (
    DAY,
    NETWORK,
    NOW,
    authority,
    authority_of,
    certificate,
    identity,
    key,
    successor,
)
from tests.unit.pki.test_tls import Greeter, Loopback
from vifibnet.model.addresses import Prefix
from vifibnet.pki.authority import Authority, create_authority
from vifibnet.pki.certificates import CA, Identity
from vifibnet.pki.peertls import PeerContexts, member, peer_client_options
from vifibnet.pki.tls import client_options, server_options

ALPN = b"vifibnet-peer"
FIVE, SEVEN = Prefix.parse("5/16"), Prefix.parse("7/16")


def everybody(prefix: Prefix, serial: int | None) -> bool:
    """Nobody was revoked."""
    return True


class PeerTests(Loopback):
    """A node with the prefix 5/16 that is called by one with 7/16."""

    def setUp(self) -> None:
        """Two members."""
        self.five, self.seven = identity(prefix="5/16"), identity(prefix="7/16")
        self.cas: list[CA] = [authority().ca]

    def serve_peer(
        self, node: Identity | None = None, welcome: Callable[[Prefix, int | None], bool] = everybody
    ) -> int:
        """Answer as a node."""
        if node is not None:
            self.five = node
        return self.serve(Greeter, PeerContexts(lambda: self.five, lambda: self.cas, welcome, ALPN))

    def caller(
        self, node: Identity | None = None, peer: Prefix = FIVE, **how: Any
    ) -> IOpenSSLClientConnectionCreator:
        """Call as a node."""
        options = {"cas": self.cas, "welcome": everybody, "alpn": ALPN, **how}
        return peer_client_options(identity=node or self.seven, peer=peer, **options)

    async def test_members(self) -> None:
        """They know each other by their certificates, and agree on what to speak."""
        port = self.serve_peer()
        self.assertEqual(await self.ask(port, self.caller()), "hello CN=7/16 vifibnet-peer")

    async def test_somebody_else(self) -> None:
        """Whoever dials a prefix's address gets the one with that prefix, or nobody: also no other member."""
        port = self.serve_peer(self.seven)
        self.assertIn("verify failed", await self.refused(port, self.caller(self.five, FIVE)))
        self.assertIn("hello", await self.ask(port, self.caller(identity(prefix="9/16"), SEVEN)))

    async def test_registry_is_no_node(self) -> None:
        """The registry's certificate is not a node's, as a server or as a client."""
        options = server_options(authority(), ["127.0.0.1"], NOW)
        options._acceptableProtocols = [ALPN]
        port = self.serve(Greeter, options)
        self.assertIn("verify failed", await self.refused(port, self.caller()))
        private, shown = authority().server_certificate(["127.0.0.1"], NOW)
        posing = Identity(shown, private, authority().ca, NETWORK, FIVE)
        port = self.serve_peer()
        self.assertIn("Error", await self.refused(port, self.caller(posing)))

    async def test_node_is_no_registry(self) -> None:
        """Whoever wants the registry does not get a node, on this port either."""
        port = self.serve_peer()
        options = client_options(self.cas, self.seven, [ALPN])
        self.assertIn("verify failed", await self.refused(port, options))

    async def test_names_that_are_no_prefix(self) -> None:
        """A certificate of the network's CA that is nobody's."""
        for name in ("registry.vifibnet", "05/16", "5/16 "):
            shown = certificate_with(authority(), name)
            self.assertIsNone(member(shown, everybody))
            posing = Identity(shown, key(), authority().ca, NETWORK, FIVE)
            port = self.serve_peer(posing)
            self.assertIn("verify failed", await self.refused(port, self.caller()))

    async def test_without_a_certificate(self) -> None:
        """Nobody is not let in."""
        port = self.serve_peer()
        options = client_options(self.cas)
        options._is_right = lambda shown: True  # type: ignore[attr-defined]
        self.assertIn("Error", await self.refused(port, options))

    async def test_strangers(self) -> None:
        """Another CA of the same name and network signs for nobody here."""
        other = authority("p256", NETWORK, days=1000)
        port = self.serve_peer()
        self.assertIn("Error", await self.refused(port, self.caller(identity(other, "7/16"))))
        port = self.serve_peer(identity(other, "5/16"))
        self.assertIn("verify failed", await self.refused(port, self.caller()))

    async def test_revoked(self) -> None:
        """By prefix or by serial number, on either side, from the next connection on."""
        revoked: set[object] = set()

        def welcome(prefix: Prefix, serial: int | None) -> bool:
            return not revoked & {prefix, serial}

        port = self.serve_peer(welcome=welcome)
        self.assertIn("hello", await self.ask(port, self.caller()))
        for what in (SEVEN, self.seven.certificate.serial_number):
            revoked.add(what)
            self.assertIn("Error", await self.refused(port, self.caller()))
            revoked.clear()
        self.assertIn("hello", await self.ask(port, self.caller(welcome=welcome)))
        for what in (FIVE, self.five.certificate.serial_number):
            revoked.add(what)
            self.assertIn("verify failed", await self.refused(port, self.caller(welcome=welcome)))
            revoked.clear()

    async def test_expired(self) -> None:
        """Between nodes an expired certificate is good for nothing."""
        old = authority_of(*create_authority(NETWORK, now=NOW - 30 * DAY, days=60))
        self.cas = [old.ca]
        port = self.serve_peer(identity(old, "5/16"))
        self.assertIn("hello", await self.ask(port, self.caller(identity(old, "7/16"))))
        past = {"now": NOW - 20 * DAY, "days": 10}
        self.assertIn("Error", await self.refused(port, self.caller(identity(old, "7/16", **past))))
        port = self.serve_peer(identity(old, "5/16", **past))
        self.assertIn("verify failed", await self.refused(port, self.caller(identity(old, "7/16"))))

    async def test_renewed(self) -> None:
        """A new certificate, and a new authority, hold from the next connection on."""
        port = self.serve_peer()
        self.assertIn("hello", await self.ask(port, self.caller()))
        second = successor(authority())
        self.five = identity(second, "5/16")
        self.assertIn("verify failed", await self.refused(port, self.caller()))
        self.cas = [second.ca, authority().ca]
        for by in (second, authority()):
            self.assertIn("CN=7/16", await self.ask(port, self.caller(identity(by, "7/16"))))
        self.cas = [second.ca]
        self.assertIn("Error", await self.refused(port, self.caller()))


def certificate_with(by: Authority, name: str) -> Any:
    """A node's certificate, but for its name."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509.oid import NameOID

    like = certificate(by)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(like.issuer)
        .public_key(like.public_key())
        .serial_number(like.serial_number)
        .not_valid_before(like.not_valid_before_utc)
        .not_valid_after(like.not_valid_after_utc)
    )
    for extension in like.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(by.key, SHA256())
