"""Renewing certificates at the registry, on a clock."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.registry.parts import NOW, Parts, request_pem
from tests.unit.registry.test_amp import ENDPOINTS, Node
from vifibnet.errors import (
    BadRequest,
    CertificateExpired,
    CertificateRevoked,
    UnknownNode,
)
from vifibnet.pki.certificates import prefix_of
from vifibnet.pki.requests import make_key
from vifibnet.registry.amp import LINGER
from vifibnet.store.certificates import MAX_CERTIFICATES
from vifibnet.wire.amp import Declare, GetDocument, GetPeers, Renew

DAY = 24 * 3600.0
DAYS = 30
GRACE = 10


class RenewTests(SynchronousTestCase):
    """A registry with certificates of 30 days and 10 days of grace, and a node."""

    def setUp(self) -> None:
        """Enrol it."""
        self.parts = Parts(Path(self.mktemp()), cert_days=DAYS, grace=GRACE * DAY)
        self.addCleanup(self.parts.store.close)
        self.node = Node(self.parts)
        self.key = make_key()

    def renew(self, node: Node | None = None, request: str | None = None) -> x509.Certificate:
        """What the node gets."""
        call = (node or self.node).call(Renew, request=request or request_pem(self.key))
        return x509.load_pem_x509_certificate(self.successResultOf(call)["certificate"].encode())

    def days(self) -> float:
        """How many days have passed."""
        return (self.parts.clock.seconds() - NOW) / DAY

    def lasts(self, certificate: x509.Certificate) -> float:
        """How many days a certificate has left."""
        now = datetime.fromtimestamp(self.parts.clock.seconds(), UTC)
        return (certificate.not_valid_after_utc - now).total_seconds() / DAY

    def test_renew(self) -> None:
        """The prefix stays, the old certificate counts on until it expires, the new one lasts as long."""
        self.assertAlmostEqual(self.lasts(self.node.certificate), DAYS, places=3)
        self.parts.clock.advance(20 * DAY)
        renewed = self.renew()
        self.assertEqual(prefix_of(renewed), self.node.prefix)
        self.assertEqual(renewed.public_key(), self.key.public_key())
        self.assertNotEqual(renewed.serial_number, self.node.certificate.serial_number)
        self.assertAlmostEqual(self.lasts(renewed), DAYS, places=3)
        self.successResultOf(self.node.call(GetPeers, count=1))
        pem = self.parts.store.certificate(self.node.prefix)
        assert pem is not None
        self.assertEqual(x509.load_pem_x509_certificate(pem.encode()), renewed)
        (row,) = self.parts.store._db.execute("SELECT subject, by FROM audit WHERE what LIKE '%renewed'")
        prefix = str(self.node.prefix)
        self.assertEqual(row, (f"{prefix} serial {renewed.serial_number}", prefix))

    def test_again(self) -> None:
        """An answer that got lost is given again; later, or for another key, there is a new one."""
        self.parts.clock.advance(20 * DAY)
        first = self.renew()
        self.parts.clock.advance(9 * DAY)
        self.assertEqual(self.renew(), first)
        self.key = make_key()
        second = self.renew()
        self.assertNotEqual(second, first)
        # The node never got the first one, and has the first certificate still.
        self.parts.clock.advance(4 * DAY)
        self.assertEqual(self.renew(), second)
        self.parts.clock.advance(DAYS * DAY / 2)
        self.failureResultOf(self.node.call(Renew, request=request_pem(self.key)), UnknownNode)

    def test_too_many(self) -> None:
        """No node fills the database."""
        for _ in range(MAX_CERTIFICATES - 1):
            self.renew(request=request_pem())
        self.failureResultOf(self.node.call(Renew, request=request_pem()), BadRequest)
        self.failureResultOf(self.node.call(Renew, request="x"), BadRequest)

    def test_grace(self) -> None:
        """An expired certificate is good for renewing alone, without being hung up on, and not for ever."""
        self.parts.clock.advance((DAYS + GRACE) * DAY - 10)
        for call in (
            self.node.call(GetPeers, count=1),
            self.node.call(Declare, endpoints=ENDPOINTS),
            self.node.call(GetDocument, kind="revocations", number=0, offset=0),
        ):
            self.failureResultOf(call, CertificateExpired)
        self.parts.clock.advance(LINGER)
        self.parts.store.expire(GRACE * DAY)
        renewed = self.renew()
        self.assertAlmostEqual(self.lasts(renewed), DAYS, places=3)
        # It is the new one that has to be shown.
        self.failureResultOf(self.node.call(GetPeers, count=1), CertificateExpired)
        self.node.face.serial = renewed.serial_number
        self.node.face._not_after = renewed.not_valid_after_utc
        self.successResultOf(self.node.call(GetPeers, count=1))
        self.parts.clock.advance(20)
        self.parts.store.expire(GRACE * DAY)
        self.successResultOf(self.node.call(GetPeers, count=1))

    def test_after_the_grace(self) -> None:
        """The node is a stranger, and its prefix is free for the next one."""
        self.parts.clock.advance((DAYS + GRACE) * DAY + 10)
        self.failureResultOf(self.node.call(Renew, request=request_pem()), UnknownNode)
        other = Node(self.parts)
        self.assertNotEqual(other.prefix, self.node.prefix)
        self.assertTrue(self.parts.store.expire(GRACE * DAY))
        self.assertEqual(Node(self.parts).prefix, self.node.prefix)

    def test_revoked(self) -> None:
        """Nor does a certificate help that was revoked, before or after it expired."""
        other = Node(self.parts)
        self.parts.clock.advance(29 * DAY)
        self.parts.registry.revocations.revoke(str(other.prefix), "", "uid 0")
        again = Node(self.parts)
        again.face.serial = other.certificate.serial_number
        self.failureResultOf(again.call(Renew, request=request_pem()), CertificateRevoked)
        self.parts.clock.advance(2 * DAY)
        self.parts.registry.revocations.revoke(str(self.node.prefix), "", "uid 0")
        last = Node(self.parts)
        last.face.serial = self.node.certificate.serial_number
        self.failureResultOf(last.call(Renew, request=request_pem()), CertificateRevoked)

    def test_one_revoked(self) -> None:
        """A new certificate that was revoked at once is not given again."""
        first = self.renew(request=request_pem())
        self.assertNotEqual(first.serial_number, self.node.certificate.serial_number)
        request = request_pem(self.key)
        second = self.renew(request=request)
        self.parts.registry.revocations.revoke(str(second.serial_number), "", "uid 0")
        self.assertNotEqual(self.renew(request=request), second)
