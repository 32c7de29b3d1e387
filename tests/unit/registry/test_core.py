"""The registry's rules."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.registry.parts import NETWORK, NOW, Parts, request_pem
from vifibnet.errors import (
    BadArguments,
    BadEmail,
    BadEndpoints,
    BadRequest,
    MailFailed,
    NoPeerYet,
    NotInsideNetwork,
    UnknownNode,
    UnknownToken,
)
from vifibnet.model.addresses import Prefix
from vifibnet.pki.certificates import prefix_of
from vifibnet.registry.core import check_email

ENDPOINTS = "192.0.2.1,1194,udp"


class WordTests(SynchronousTestCase):
    """Addresses of mail."""

    def test_emails(self) -> None:
        """What a mail server takes, and nothing that could end a line or a quotation."""
        for email in ("a@b", "a.b+c@example.com", "o'neil@example.com", "a@xn--bcher-kva.example"):
            self.assertEqual(check_email(email), email)
        for email in (
            "", "a", "@b", "a@", "a@@b", "a b@c", "a@b c", "a@b\n", "a\r\nTo: x@y", "<a@b>", "a@1.2.3.4",
            "a@[::1]", "a@::1", "ä@b", "a@ä", ".a@b", "a.@b", "a..b@c", "a@b.", "a@-b", "a@b;c",
            "a" * 254 + "@b",
        ):  # fmt: skip
            self.assertRaises(BadEmail, check_email, email)

    @given(st.text())
    def test_any_email(self, text: str) -> None:
        """Any text is an address that stands on one line, or refused."""
        try:
            email = check_email(text)
        except BadEmail:
            return
        self.assertTrue(email.isascii() and email.isprintable() and not set(email) & set(' <>"\\,;'))


class Base(SynchronousTestCase):
    """A registry."""

    def setUp(self) -> None:
        """Make it."""
        self.parts = Parts(Path(self.mktemp()))
        self.registry = self.parts.registry
        self.addCleanup(self.parts.store.close)

    def node(self) -> Prefix:
        """Enrol a node."""
        return prefix_of(x509.load_pem_x509_certificate(self.parts.enrol().encode()))

    def request_token(self, email: str = "a@b.example") -> Deferred[None]:
        """Ask for a token."""
        return Deferred.fromCoroutine(self.registry.request_token(email))


class TokenTests(Base):
    """Tokens and the mails that bring them."""

    def test_mail(self) -> None:
        """The mail says which network and what to type, and its token is good once."""
        self.successResultOf(self.request_token("o'neil@b.example"))
        ((to, subject, body),) = self.parts.mailer.sent
        self.assertEqual((to, subject), ("o'neil@b.example", "Your token for the network 2001:db8:42::/48"))
        token = self.parts.mailer.token
        self.assertRegex(token, r"\A[0-9a-f]{32}\Z")
        self.assertIn(f"\n    vifibnet setup --dir /var/lib/vifibnet {self.parts.invite(token)}\n", body)
        self.registry.request_certificate(f" {token}\n", request_pem())
        self.assertRaises(UnknownToken, self.registry.request_certificate, token, request_pem())

    def test_usable_before_the_mail_servers_last_word(self) -> None:
        """A mail may arrive before its sender knows; the token in it is good by then."""
        self.parts.mailer.waiting = Deferred()
        asked = self.request_token()
        self.assertNoResult(asked)
        self.assertEqual(self.tokens(), 1)
        self.parts.mailer.waiting.callback(None)
        self.successResultOf(asked)
        self.assertEqual(self.tokens(), 1)

    def test_mail_fails(self) -> None:
        """No mail, no token."""
        self.parts.mailer.broken = True
        self.failureResultOf(self.request_token(), MailFailed)
        self.assertEqual(self.tokens(), 0)

    def test_given_up(self) -> None:
        """A request that is given up while the mail is under way leaves no token either."""
        self.parts.mailer.waiting = Deferred()
        asked = self.request_token()
        asked.cancel()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual(self.tokens(), 0)

    def test_bad_email(self) -> None:
        """No token for what is no address."""
        self.failureResultOf(self.request_token("a@b\nBcc: c@d"), BadEmail)
        self.assertEqual((self.tokens(), self.parts.mailer.sent), (0, []))

    def test_refused_tokens(self) -> None:
        """Whatever else is called a token."""
        for token in ("", "0" * 32, "x" * 10_000, "ä", "\x00"):
            self.assertRaises(UnknownToken, self.registry.request_certificate, token, request_pem())

    def test_a_bad_request_costs_no_token(self) -> None:
        """Only a certificate uses a token up."""
        self.successResultOf(self.request_token())
        self.assertRaises(BadRequest, self.registry.request_certificate, self.parts.mailer.token, "x")
        self.registry.request_certificate(self.parts.mailer.token, request_pem())

    def test_a_day_old(self) -> None:
        """Tokens are good for 24 hours."""
        self.successResultOf(self.request_token())
        self.parts.clock.advance(24 * 3600 + 1)
        self.assertRaises(
            UnknownToken, self.registry.request_certificate, self.parts.mailer.token, request_pem()
        )

    def tokens(self) -> int:
        """How many tokens there are."""
        (count,) = self.parts.store._db.execute("SELECT count(*) FROM token").fetchone()
        return int(count)


class IdentityTests(Base):
    """Who calls."""

    def test_inside(self) -> None:
        """The source address proves the node, whatever way the claim is written."""
        node = self.node()
        address = str(NETWORK.address(node))
        self.assertEqual(self.registry.identify(address, address), node)
        self.assertEqual(self.registry.identify(address, NETWORK.address(node).exploded.upper()), node)
        other = str(NETWORK.address(node) + 41)
        self.assertEqual(self.registry.identify(other, other), node)

    def test_refusals(self) -> None:
        """Outside, somebody else's address, a subnet that nobody has."""
        first, second = str(NETWORK.address(self.node())), str(NETWORK.address(self.node()))
        free = "2001:db8:42:ffff::1"
        for source, claim in (
            ("192.0.2.1", first), ("::1", "::1"), (first, second), (first, "x"), (first, ""), ("", ""),
            (free, free), ("192.0.2.1", "192.0.2.1"), ("2001:db8:43::1", "2001:db8:43::1"),
        ):  # fmt: skip
            self.assertRaises(NotInsideNetwork, self.registry.identify, source, claim)

    def test_certificates(self) -> None:
        """A certificate is good while we know its number and it is valid."""
        certificate = x509.load_pem_x509_certificate(self.parts.enrol().encode())
        serial, end = certificate.serial_number, certificate.not_valid_after_utc
        self.assertEqual(self.registry.node_of_certificate(serial, end), prefix_of(certificate))
        self.assertRaises(UnknownNode, self.registry.node_of_certificate, serial + 1, end)
        just_over = datetime.fromtimestamp(NOW - 1, UTC)
        self.assertRaises(UnknownNode, self.registry.node_of_certificate, serial, just_over)


class PeerTests(Base):
    """Who can be reached."""

    def test_bootstrap(self) -> None:
        """One peer, never the caller itself."""
        one, two = self.node(), self.node()
        self.assertRaises(NoPeerYet, self.registry.bootstrap_peer)
        self.registry.declare(one, ENDPOINTS)
        self.assertEqual(self.registry.bootstrap_peer(), (one, ENDPOINTS))
        self.assertEqual(self.registry.bootstrap_peer(two), (one, ENDPOINTS))
        self.assertRaises(NoPeerYet, self.registry.bootstrap_peer, one)

    def test_nowhere(self) -> None:
        """Who declares nothing is not named any more."""
        node = self.node()
        self.registry.declare(node, ENDPOINTS)
        self.registry.declare(node, "")
        self.assertRaises(NoPeerYet, self.registry.bootstrap_peer)

    def test_forgotten(self) -> None:
        """Who has not declared anything for a day is not named any more."""
        self.registry.declare(self.node(), ENDPOINTS)
        self.parts.clock.advance(24 * 3600 + 1)
        self.assertRaises(NoPeerYet, self.registry.bootstrap_peer)

    def test_bad_endpoints(self) -> None:
        """Nothing that openvpn would misread, and no tunnel that leads through the VPN itself."""
        node = self.node()
        for text in ("x", "192.0.2.1,1194,udp;2001:db8:42:1::1,1194,udp6", "2001:DB8:0042::1,1,udp"):
            self.assertRaises(BadEndpoints, self.registry.declare, node, text)
        self.assertRaises(NoPeerYet, self.registry.bootstrap_peer)

    def test_peers(self) -> None:
        """Others, at random, no more than were asked for."""
        nodes = [self.node() for _ in range(5)]
        for node in nodes:
            self.registry.declare(node, ENDPOINTS)
        found = [peer for peer, _ in self.registry.peers(nodes[0], 999)]
        self.assertEqual(sorted(found), sorted(nodes[1:]))
        self.assertEqual(len(self.registry.peers(nodes[0], 2)), 2)
        for count in (0, -1, 1000):
            self.assertRaises(BadArguments, self.registry.peers, nodes[0], count)
