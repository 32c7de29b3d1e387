"""Replacing a key: what is in the files, and what a crash leaves."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.pki.making import certificate, identity, key, pem, write_identity
from vifibnet.errors import BadInput
from vifibnet.pki.freshkey import prepare, settle, take, waiting
from vifibnet.pki.requests import key_pem


class FreshKeyTests(SynchronousTestCase):
    """A node's files."""

    def setUp(self) -> None:
        """A certificate and its key."""
        directory = Path(self.mktemp())
        directory.mkdir()
        _, self.certificate, self.key = write_identity(directory, identity())
        self.new = waiting(self.key)

    def test_prepare(self) -> None:
        """The key is on the disk, for nobody else; a second try gets the same one, a damaged one is gone."""
        made = prepare(self.key, key())
        self.assertEqual(self.new.stat().st_mode & 0o777, 0o600)
        self.assertNotEqual(key_pem(made), key_pem(key()))
        self.assertEqual(key_pem(prepare(self.key, key())), key_pem(made))
        self.new.write_bytes(b"x")
        self.new.chmod(0o644)
        again = prepare(self.key, key())
        self.assertEqual(self.new.read_bytes(), key_pem(again))
        self.assertEqual(self.new.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.key.read_bytes(), key_pem(key()))

    def test_types(self) -> None:
        """The new key is of the old one's type, whatever waits."""
        kinds = {
            "p256": ec.EllipticCurvePrivateKey,
            "ed25519": ed25519.Ed25519PrivateKey,
            "rsa": rsa.RSAPrivateKey,
        }
        for name, kind in kinds.items():
            self.assertIsInstance(prepare(self.key, key(name)), kind)

    def test_settle(self) -> None:
        """Nothing is touched but a key that waits for the certificate that is there."""
        settle(self.certificate, self.key)
        made = prepare(self.key, key())
        settle(self.certificate, self.key)
        self.assertEqual(self.key.read_bytes(), key_pem(key()))
        self.certificate.write_bytes(pem(certificate(private=made)))
        settle(self.certificate, self.key)
        self.assertEqual((self.key.read_bytes(), self.new.exists()), (key_pem(made), False))
        self.assertEqual(self.key.stat().st_mode & 0o777, 0o600)

    def test_not_settled(self) -> None:
        """What else is wrong is for others to say."""
        prepare(self.key, key())
        self.certificate.write_bytes(pem(certificate(private=key("ed25519"))))
        settle(self.certificate, self.key)
        self.certificate.unlink()
        settle(self.certificate, self.key)
        self.assertEqual((self.key.read_bytes(), self.new.exists()), (key_pem(key()), True))

    def test_take_nothing(self) -> None:
        """A key that is not there is an error with a name."""
        self.assertIn("cert.key", str(self.assertRaises(BadInput, take, self.key)))
