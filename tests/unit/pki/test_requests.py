"""Keys and requests: ours, and those of anybody."""

from __future__ import annotations

import base64

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.pki.making import key, request_pem
from vifibnet.errors import BadInput, BadRequest
from vifibnet.pki.requests import KEY_TYPES, MAX_REQUEST, check_request, key_pem, make_key, make_request

REQUEST = x509.load_pem_x509_csr(request_pem(None, ("O", "x")).encode()).public_bytes(Encoding.DER)


class KeyTests(SynchronousTestCase):
    """Keys."""

    def test_types(self) -> None:
        """Each type is made, written unencrypted, and read back."""
        for key_type in KEY_TYPES:
            made = key(key_type)
            read = load_pem_private_key(key_pem(made), None)
            self.assertEqual(read.public_key(), made.public_key())

    def test_unknown(self) -> None:
        """No other type is."""
        with self.assertRaises(BadInput) as caught:
            make_key("dsa")
        self.assertEqual(
            str(caught.exception), "--key-type dsa: is no type of key; give one of p256, ed25519, rsa."
        )


class MakeTests(SynchronousTestCase):
    """Requests of ours."""

    def test_subject(self) -> None:
        """The attributes are there in their order, whatever openssl calls them."""
        attributes = [
            ("C", "FR"), ("stateOrProvinceName", "Nord"), ("l", "Lille"), ("O", "Nexedi"), ("O", "R, + D"),
            ("OU", "été"), ("emailAddress", "a@example.com"), ("serialNumber", "42"), ("CN", "me"),
        ]  # fmt: skip
        subject = check_request(request_pem(None, *attributes)).subject
        self.assertEqual([str(a.value) for a in subject], [value for _, value in attributes])
        self.assertEqual(list(subject)[2].oid, NameOID.LOCALITY_NAME)
        self.assertEqual(list(subject)[7].oid, NameOID.SERIAL_NUMBER)

    def test_refused(self) -> None:
        """What is no attribute, or cannot be one's value, is refused in one sentence that names --req."""
        for name, value in (
            ("", "x"), ("colour", "red"), ("C", "FRA"), ("C", ""), ("O", ""), ("O", "a\nb"), ("CN", "x" * 65),
            ("emailAddress", "é@example.com"), ("O", "\ud800"), ("1.2.3.4", "x"),
        ):  # fmt: skip
            with self.assertRaises(BadInput, msg=(name, value)) as caught:
                make_request(key(), [(name, value)])
            self.assertTrue(str(caught.exception).startswith(f"--req {name} {value}: "), caught.exception)


class CheckTests(SynchronousTestCase):
    """Requests of anybody."""

    def refusal(self, pem: str) -> str:
        """Why the request is refused."""
        with self.assertRaises(BadRequest) as caught:
            check_request(pem)
        sentence = str(caught.exception)
        self.assertTrue(sentence.startswith("The certificate request is refused: "), sentence)
        self.assertNotIn("\n", sentence)
        return sentence

    def test_key_types(self) -> None:
        """P-256, Ed25519 and RSA are welcome."""
        for key_type in KEY_TYPES:
            check_request(request_pem(key(key_type), ("O", "x")))
        check_request(request_pem(rsa.generate_private_key(65537, 2048)))

    def test_other_keys(self) -> None:
        """Weak keys and strange ones are not."""
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        for strange, problem in (
            (rsa.generate_private_key(65537, 1024), "its RSA key has 1024 bits, not 2048 to 8192"),
            (ec.generate_private_key(ec.SECP384R1()), "the curve secp384r1, not P-256"),
            (dsa.generate_private_key(2048), "neither P-256, Ed25519 nor RSA"),
        ):
            pem = builder.sign(strange, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
            self.assertIn(problem, self.refusal(pem))
        pem = builder.sign(ed448.Ed448PrivateKey.generate(), None).public_bytes(Encoding.PEM).decode()
        self.assertIn("neither P-256, Ed25519 nor RSA", self.refusal(pem))

    def test_foreign_key(self) -> None:
        """Who does not have the key gets no certificate for it."""
        der = x509.load_pem_x509_csr(request_pem().encode()).public_bytes(Encoding.DER)
        mine = key().public_key().public_bytes(Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        other = (
            make_key()
            .public_key()
            .public_bytes(Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        self.assertIn("not signed by the key", self.refusal(self.pem(der.replace(mine, other))))

    def test_no_request(self) -> None:
        """Other texts are no requests."""
        texts = ["", "x", "-----BEGIN CERTIFICATE REQUEST-----\n", request_pem()[:200], "é" * 50, "\x00"]
        ders = [b"", b"\x30\x00", b"\x30\x84"]
        for text in (*texts, key_pem(key()).decode(), *map(self.pem, ders)):
            self.assertIn("not a PEM certificate request", self.refusal(text))

    def test_size(self) -> None:
        """Nobody may keep the registry busy with megabytes; the largest sensible request fits."""
        self.assertIn(f"longer than {MAX_REQUEST} characters", self.refusal("x" * (MAX_REQUEST + 1)))
        large = request_pem(rsa.generate_private_key(65537, 4096), *[("OU", "x" * 60)] * 8)
        self.assertLess(len(large), MAX_REQUEST / 2)
        check_request(large)

    def test_control_characters(self) -> None:
        """A subject that would play tricks on a terminal or in a log is refused."""
        for value in ("a\nb", "\x1b[2J", "a\u202eb"):
            name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, value)])
            request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key(), hashes.SHA256())
            self.assertIn("printable", self.refusal(request.public_bytes(Encoding.PEM).decode()))

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_damaged(self, data: st.DataObject) -> None:
        """A request with bytes changed, cut or added is refused as such, never with another error.

        What can be changed is how the signature is wrapped (the unused bits of its BIT STRING, say), not what
        is signed.
        """
        der = bytearray(REQUEST)
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(der) - 1))
            kind = data.draw(st.sampled_from(["change", "cut", "add"]))
            if kind == "change":
                der[at] = data.draw(st.integers(0, 255))
            elif kind == "cut":
                del der[at]
            else:
                der.insert(at, data.draw(st.integers(0, 255)))
        try:
            request = check_request(self.pem(bytes(der)))
        except BadRequest:
            return
        signed = x509.load_der_x509_csr(REQUEST).tbs_certrequest_bytes
        self.assertEqual(request.tbs_certrequest_bytes, signed)

    @given(st.text(max_size=300))
    def test_any_text(self, text: str) -> None:
        """Any text is refused as such."""
        self.refusal(text)
        self.refusal(f"-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")

    @staticmethod
    def pem(der: bytes) -> str:
        """Bytes in the wrapping of a request."""
        body = base64.encodebytes(der).decode()
        return f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n"
