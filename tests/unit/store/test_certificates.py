"""What becomes of certificates after they were issued."""

from __future__ import annotations

from tests.unit.store.signing import ENDS
from tests.unit.store.test_registry import WHERE, StoreTestCase
from vifibnet.model.addresses import Prefix
from vifibnet.store.certificates import MARGIN, Standing
from vifibnet.wire.revocation import Revoked


class RevocationTests(StoreTestCase):
    """What is revoked, and what the list says of it."""

    def serial(self, prefix: Prefix) -> int:
        """The serial number of a node's newest certificate."""
        (serial,) = self.db.execute("SELECT serial FROM prefix WHERE bits = ?", (prefix.bits,)).fetchone()
        return int(serial)

    def add(self, prefix: Prefix, serial: int, not_after: float) -> None:
        """One more certificate for a node."""
        self.db.execute(
            "INSERT INTO certificate VALUES (?, ?, 'pem', 'CN=', x'00', 1e9, ?)",
            (str(serial), prefix.bits, not_after),
        )

    def audit(self) -> list[tuple[str, str, str]]:
        """What was noted of it."""
        rows = self.db.execute("SELECT what, subject, by FROM audit WHERE what LIKE '%revoked' ORDER BY id")
        return rows.fetchall()

    def test_node(self) -> None:
        """All its certificates, once; neither serial number nor address means the node any more."""
        one, two = self.issue(), self.issue()
        certificates, serial = self.store.certificates, self.serial(one)
        self.add(one, 77, ENDS - 1)
        self.assertEqual(certificates.standing(serial), Standing(one, ENDS, False))
        self.assertEqual((certificates.number(), certificates.revoked(0.0)), (0, []))
        self.assertEqual(certificates.revoke_node(one, "stolen", "uid 0"), 2)
        self.assertEqual(certificates.standing(serial), Standing(one, ENDS, True))
        self.assertIsNone(self.store.node_by_serial(serial))
        self.assertIsNone(self.store.node_of_bits(one.bits + "0" * 64))
        self.assertEqual(self.store.node_of_bits(two.bits + "0" * 64), two)
        self.assertEqual(sorted(certificates.revoked(0.0)), [Revoked(77, one), Revoked(serial, one)])
        self.assertGreaterEqual(certificates.number(), int(self.now))
        self.assertEqual(self.audit(), [("node revoked", f"{one} (stolen)", "uid 0")])
        self.assertEqual(certificates.revoke_node(one, "again", "uid 0"), 0)
        self.assertEqual(certificates.revoke_node(Prefix(99, 16), "nobody", "uid 0"), 0)
        self.assertEqual(len(self.audit()), 1)

    def test_certificate(self) -> None:
        """One of two: the node goes on, until the other is gone or too old to be renewed."""
        one = self.issue()
        certificates, serial = self.store.certificates, self.serial(one)
        self.add(one, 77, self.now + 10)
        self.assertTrue(certificates.revoke(serial, "", "uid 0"))
        number = certificates.number()
        self.assertFalse(certificates.revoke(serial, "", "uid 0"))
        self.assertFalse(certificates.revoke(78, "", "uid 0"))
        self.assertEqual(certificates.number(), number)
        self.assertEqual(certificates.revoked(0.0), [Revoked(serial, one, node=False)])
        self.now += 11
        self.assertEqual(certificates.revoked(1000.0), [Revoked(serial, one, node=False)])
        self.assertEqual(certificates.revoked(0.0), [Revoked(serial, one)])
        self.assertTrue(certificates.revoke(77, "", "uid 0"))
        self.assertGreater(certificates.number(), number)
        self.assertEqual(sorted(certificates.revoked(1000.0)), [Revoked(77, one), Revoked(serial, one)])

    def test_expired(self) -> None:
        """What has expired for everybody is not listed any more; the number stays."""
        one = self.issue()
        self.store.certificates.revoke_node(one, "", "uid 0")
        number = self.store.certificates.number()
        self.now = ENDS + MARGIN - 1
        self.assertEqual(len(self.store.certificates.revoked(0.0)), 1)
        self.now += 2
        self.assertEqual(self.store.certificates.revoked(0.0), [])
        self.assertEqual(self.store.certificates.number(), number)

    def test_released(self) -> None:
        """A prefix that was given up has no certificate that counts."""
        one = self.issue()
        serial = self.serial(one)
        self.store.declare(one, WHERE)
        self.db.execute("UPDATE prefix SET released = 1 WHERE bits = ?", (one.bits,))
        self.assertIsNone(self.store.certificates.standing(serial))
