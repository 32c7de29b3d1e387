"""The authority that follows: who is told, who signs, and when the old one goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.registry.parts import NOW, Parts, request_pem
from tests.unit.registry.test_amp import Node
from vifibnet.errors import BadArguments, NotDone, StorageFailed
from vifibnet.pki.authorities import Authorities
from vifibnet.pki.certificates import CA, fingerprint, is_signed_by, load_cas
from vifibnet.pki.document import read_authorities, read_document
from vifibnet.registry.administration import Administration
from vifibnet.registry.authority import LOOK_EVERY, Renewed
from vifibnet.store.registry import RegistryStore
from vifibnet.wire.amp import GetDocument, Renew
from vifibnet.wire.document import Kind

DAY = 24 * 3600.0
WAIT = 30 * DAY
GRACE = 10 * DAY


class RenewCase(SynchronousTestCase):
    """A registry with files, and a node that is connected."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.parts = Parts(self.directory, cert_days=40, grace=GRACE)
        self.addCleanup(self.parts.store.close)
        self.registry = self.parts.registry
        self.authorities = self.registry.authorities
        self.authorities.files = self.directory / "ca.crt", self.directory / "ca.key"
        self.renewal = self.registry.renewal
        self.old = self.parts.authority.ca
        self.node = Node(self.parts)

    def renew(self, *, new_key: bool = True, days: int = 3650, wait: float = WAIT) -> Renewed:
        return self.renewal.renew(new_key=new_key, days=days, wait=wait, by="uid 0")

    def advance(self, days: float) -> None:
        """Let time pass, as the service does."""
        self.parts.clock.pump([LOOK_EVERY] * int(days * 24 + 1))

    def known(self, trusting: CA) -> tuple[CA, ...]:
        """The authorities that a node knows which trusts this one."""
        return read_authorities(self.registry.documents.current("authorities")[1], [trusting])

    def issuer(self) -> x509.Certificate:
        """Who signs the next node's certificate."""
        made = x509.load_pem_x509_certificate(self.parts.enrol().encode())
        return next(ca.certificate for ca in self.authorities.cas if is_signed_by(made, ca.certificate))


class RenewTests(RenewCase):
    """Over the years."""

    def test_renewed(self) -> None:
        """All are told at once of the new one, which signs when its time has come."""
        before = self.registry.documents.current("authorities")[0]
        self.assertEqual(self.known(self.old), (self.old,))
        self.assertEqual(self.node.amp.numbers, [])
        made = self.renew()
        self.node.pump.flush()
        self.assertEqual((made.old, self.authorities.cas), (self.old, (made.new, self.old)))
        [number] = self.node.amp.numbers
        self.assertGreater(number, before)
        answer = self.successResultOf(
            self.node.call(GetDocument, kind="authorities", number=before, offset=0)
        )
        self.assertEqual((answer["number"], answer["length"]), (number, len(answer["piece"])))
        self.assertEqual(read_authorities(answer["piece"], [self.old]), (made.new, self.old))
        self.assertEqual(load_cas(self.directory / "ca.crt", "--ca"), self.authorities.cas)
        self.assertEqual(self.issuer(), self.old.certificate)
        self.parts.clock.advance(WAIT)
        self.assertEqual(self.issuer(), made.new.certificate)
        self.assertEqual(self.registry.get_ca().encode(), self.old.pem)
        # Who knows but one of them is told of both.
        documents = self.registry.get_authorities()
        for ca, document in zip((made.new, self.old), documents, strict=True):
            self.assertEqual(read_authorities(document.encode(), [ca]), (made.new, self.old))

    def test_node_renews(self) -> None:
        """With a certificate of the old one it gets one of the new one."""
        self.renew(wait=1)
        self.parts.clock.advance(30 * DAY)
        answer = self.successResultOf(self.node.call(Renew, request=request_pem()))
        made = x509.load_pem_x509_certificate(answer["certificate"].encode())
        self.assertTrue(is_signed_by(made, self.authorities.newest.certificate))

    def test_not_too_late(self) -> None:
        """The wait is no longer than half of what the old one has left."""
        self.parts.clock.advance(3640 * DAY)
        made = self.renew(new_key=False)
        left = self.old.end.timestamp() - self.parts.clock.seconds()
        self.assertAlmostEqual(
            made.new.signs_from.timestamp(), self.parts.clock.seconds() + left / 2, delta=1
        )

    def test_refused(self) -> None:
        """A second one while one is under way, and one that nobody would believe."""
        self.renew()
        error = self.assertRaises(NotDone, self.renew)
        self.assertRegex(
            str(error), r"failed: one is under way, to sign from 2027-\d\d-\d\d \d\d:\d\d UTC on\.$"
        )
        self.parts.clock.advance(WAIT)
        self.renew()
        self.assertEqual(len(self.authorities.cas), 3)
        self.parts.clock.advance(4000 * DAY)
        self.assertIn("nobody believes it", str(self.assertRaises(NotDone, self.renew)))

    def test_too_many(self) -> None:
        """Eight authorities are enough."""
        for _ in range(7):
            self.renew(new_key=False, wait=1)
            self.parts.clock.advance(2)
        self.assertIn("8 authorities still count", str(self.assertRaises(NotDone, self.renew)))

    def test_not_written(self) -> None:
        """The operator learns why, and nothing has changed."""
        self.authorities.files = self.directory / "nowhere" / "ca.crt", self.directory / "nowhere" / "ca.key"
        self.assertIn("cannot be written", str(self.assertRaises(NotDone, self.renew)))
        self.assertEqual(self.authorities.cas, (self.old,))
        self.assertEqual(self.node.amp.numbers, [])


class DropTests(RenewCase):
    """How the old one goes."""

    def setUp(self) -> None:
        super().setUp()
        self.renewal.startService()
        self.addCleanup(self.renewal.stopService)

    def test_dropped(self) -> None:
        """It stays as long as a certificate of it counts or may be renewed; then all are told."""
        self.advance(1)
        self.assertEqual(self.authorities.cas, (self.old,))
        new = self.renew().new
        self.advance(30 + 5)
        self.registry.revocations.revoke(str(self.node.prefix), "", "uid 0")
        listed = self.registry.documents.current("revocations")
        read_document(listed[1], Kind.REVOCATIONS, [self.old])
        # The last one that the old authority signed expires after 41 days, and may be renewed until day 51.
        self.advance(10)
        self.assertEqual(self.authorities.cas, (new, self.old))
        number = self.registry.documents.current("authorities")[0]
        with patch.object(RegistryStore, "note", side_effect=StorageFailed(problem="full")):
            self.advance(20)
        self.assertEqual(self.authorities.cas, (new,))
        self.assertEqual(load_cas(self.directory / "ca.crt", "--ca"), (new,))
        self.assertGreater(self.registry.documents.current("authorities")[0], number)
        self.assertEqual(self.known(new), (new,))
        # What the old one signed is signed by the new one now, though it says the same.
        again = self.registry.documents.current("revocations")
        self.assertEqual(again[0], listed[0])
        read_document(again[1], Kind.REVOCATIONS, [new])
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    def test_audit(self) -> None:
        """Both steps are noted."""
        new = self.renew(wait=1).new
        self.advance(100)
        rows = self.parts.store._db.execute("SELECT what, subject, by FROM audit WHERE what LIKE 'auth%'")
        self.assertEqual(
            rows.fetchall(),
            [
                ("authority made", fingerprint(new.certificate), "uid 0"),
                ("authority dropped", fingerprint(self.old.certificate), "registry"),
            ],
        )

    def test_not_written(self) -> None:
        """Where the files cannot be written the old one stays, and goes later."""
        self.renew(wait=1)
        files = self.authorities.files
        self.authorities.files = self.directory / "nowhere" / "ca.crt", self.directory / "nowhere" / "ca.key"
        self.advance(100)
        self.assertEqual(len(self.authorities.cas), 2)
        self.authorities.files = files
        self.advance(1)
        self.assertEqual(len(self.authorities.cas), 1)


class AdministrationTests(RenewCase):
    """As the operator asks for it."""

    def test_bounds(self) -> None:
        """Days and time to wait are checked again."""
        there = Administration(
            self.renewal,
            self.parts.store,
            self.registry.revocations,
            self.registry.parameters,
            self.parts.clock,
            self.parts.invite,
        )
        for days, wait in ((0, 5), (36501, 5), (5, 0), (5, 400 * 24 * 3600)):
            self.assertRaises(BadArguments, there.renew_authority, False, days, wait, "uid 0")
        made = there.renew_authority(False, 20, 5, "uid 0")
        now = datetime.fromtimestamp(NOW, UTC)
        self.assertEqual(made.new.end, now + timedelta(days=20))
        self.assertEqual(made.new.certificate.public_key(), self.old.certificate.public_key())
        self.assertIsInstance(self.authorities, Authorities)
