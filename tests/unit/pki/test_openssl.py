"""The real openssl: its CA is ours, its requests are served, and it verifies what we sign."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.pki.making import NETWORK, NOW, certificate, key, openssl, pem, request_pem
from vifibnet.errors import BadInput
from vifibnet.model.addresses import Prefix
from vifibnet.pki.authority import Authority, create_authority, new_serial
from vifibnet.pki.certificates import fingerprint, load_ca, normal_fingerprint
from vifibnet.pki.requests import KEY_TYPES, check_request, key_pem


class OpenSSLTestCase(SynchronousTestCase):
    """A directory to run openssl in."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def openssl(self, line: str, *more: str) -> str:
        return openssl(line, *more, cwd=self.directory)

    def manuals_authority(self, serial: str = "0x120010db80042") -> None:
        """The manual's own command lines, with the subject given instead of asked for."""
        self.openssl("genrsa -out ca.key 2048")
        self.openssl(
            f"req -nodes -new -x509 -key ca.key -set_serial {serial} -days 365 -out ca.crt",
            "-subj",
            "/C=FR/O=Nexedi/CN=vifib",
        )

    def our_authority(self, key_type: str) -> None:
        """The same by vifibnet ca."""
        private, made = create_authority(NETWORK, now=NOW, key_type=key_type)
        (self.directory / "ca.key").write_bytes(private)
        (self.directory / "ca.crt").write_bytes(made)

    def load(self) -> Authority:
        return Authority.load(self.directory / "ca.crt", self.directory / "ca.key", datetime.now(UTC))

    def verify(self, file: str, strict: str = "") -> None:
        """Let openssl verify a certificate for both ends of a tunnel."""
        for purpose in ("sslserver", "sslclient"):
            said = self.openssl(f"verify {strict} -check_ss_sig -CAfile ca.crt -purpose {purpose} {file}")
            self.assertEqual(said, f"{file}: OK\n")

    def check_nodes(self, strict: str = "") -> None:
        """Nodes with any type of key get what openssl verifies."""
        authority = self.load()
        for key_type in KEY_TYPES:
            made = certificate(
                authority,
                private=key(key_type),
                attributes=(("O", "Nexedi"), ("C", "FR")),
                now=datetime.now(UTC),
            )
            (self.directory / "node.crt").write_bytes(pem(made))
            self.verify("node.crt", strict)
            text = self.openssl("x509 -in node.crt -noout -subject -nameopt RFC2253")
            self.assertEqual(text, "subject=CN=5/16,C=FR,O=Nexedi\n")


class AuthorityTests(OpenSSLTestCase):
    """CAs."""

    def test_manuals(self) -> None:
        """A CA made by the manual's lines works as well as one of ours.

        Only a strict verifier wants a key usage in it, which openssl writes when it is told to.
        """
        self.manuals_authority()
        serial = self.load().certificate.serial_number
        self.assertEqual(bin(serial)[3:], f"{0x20010DB80042:048b}")
        self.assertEqual(self.load().network, NETWORK)
        self.check_nodes()

    def test_ours(self) -> None:
        """openssl verifies what our CAs sign, whatever their keys."""
        for key_type in KEY_TYPES:
            self.our_authority(key_type)
            self.check_nodes("-x509_strict")

    def test_registry(self) -> None:
        """The registry's own certificate is a server's, and no client's."""
        self.manuals_authority()
        _, made = self.load().server_certificate(["registry.example.com", "192.0.2.1"], datetime.now(UTC))
        (self.directory / "server.crt").write_bytes(pem(made))
        verify = "verify -CAfile ca.crt -purpose"
        for name in ("-verify_hostname registry.vifibnet", "-verify_hostname registry.example.com",
                     "-verify_ip 192.0.2.1"):  # fmt: skip
            self.openssl(f"{verify} sslserver {name} server.crt")
        for wrong in ("sslserver -verify_hostname example.com", "sslclient"):
            with self.assertRaises(AssertionError):
                self.openssl(f"{verify} {wrong} server.crt")

    def test_no_network(self) -> None:
        """A CA made without the serial number is refused with a sentence that says how to make one."""
        self.openssl("genrsa -out ca.key 2048")
        self.openssl(
            *[
                "req",
                "-nodes",
                "-new",
                "-x509",
                "-key",
                "ca.key",
                "-days",
                "365",
                "-out",
                "ca.crt",
                "-subj",
                "/CN=x",
            ]
        )
        with self.assertRaises(BadInput) as caught:
            self.load()
        self.assertRegex(
            str(caught.exception),
            r"^--ca \S+: its serial number 0x[0-9a-f]{36,40} holds no IPv6 network;"
            r" vifibnet ca --network 2001:db8:42::/48 makes such an authority\.$",
        )

    def test_weak_key(self) -> None:
        """A CA whose key is too short for TLS is refused before anything starts."""
        self.openssl("genrsa -out ca.key 1024")
        self.openssl(
            "req -nodes -new -x509 -key ca.key -set_serial 0x120010db80042 -days 365 -out ca.crt -subj /CN=x"
        )
        with self.assertRaises(BadInput) as caught:
            self.load()
        self.assertIn("its RSA key has 1024 bits", str(caught.exception))

    def test_fingerprint(self) -> None:
        """openssl's fingerprint is ours."""
        self.our_authority("p256")
        said = self.openssl("x509 -in ca.crt -noout -fingerprint -sha256")
        made = load_ca(self.directory / "ca.crt", "--ca").certificate
        self.assertEqual(normal_fingerprint(said), fingerprint(made))

    def test_serial(self) -> None:
        """openssl reads our serial number as the manual writes it."""
        self.our_authority("p256")
        self.assertEqual(self.openssl("x509 -in ca.crt -noout -serial").strip(), "serial=0120010DB80042")


class RequestTests(OpenSSLTestCase):
    """Requests."""

    def test_openssls_requests(self) -> None:
        """Requests made by openssl are served for each type of key."""
        self.our_authority("p256")
        for arguments in (
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
            "genpkey -algorithm ED25519",
            "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048",
        ):
            self.openssl(arguments, "-out", "node.key")
            self.openssl("req -new -key node.key -subj /C=FR/O=Nexedi -out node.csr")
            request = check_request((self.directory / "node.csr").read_text())
            made = self.load().sign(request, Prefix(5, 16), new_serial(), NOW)
            (self.directory / "node.crt").write_bytes(pem(made))
            self.verify("node.crt")
            private = load_pem_private_key((self.directory / "node.key").read_bytes(), None)
            self.assertEqual(made.public_key(), private.public_key())

    def test_ours(self) -> None:
        """openssl reads our requests and keys."""
        for key_type in KEY_TYPES:
            (self.directory / "node.csr").write_text(request_pem(key(key_type), ("C", "FR"), ("O", "é")))
            (self.directory / "node.key").write_bytes(key_pem(key(key_type)))
            said = self.openssl("req -in node.csr -noout -verify -subject -nameopt utf8")
            self.assertEqual(said, "subject=C=FR, O=é\n")
            self.openssl("pkey -in node.key -noout -check")
