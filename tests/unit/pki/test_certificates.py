"""Reading what the operator gives, and refusing it in one sentence."""

from __future__ import annotations

import base64
import os
import shutil
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.pki.making import (
    DAY,
    NETWORK,
    NOW,
    authority,
    authority_of,
    certificate,
    identity,
    key,
    pem,
    write_identity,
)
from vifibnet.errors import BadInput
from vifibnet.model.addresses import Network, Prefix
from vifibnet.pki.authority import Authority, create_authority, new_serial
from vifibnet.pki.certificates import (
    Identity,
    fingerprint,
    load_ca,
    load_certificate,
    load_key,
    normal_fingerprint,
    prefix_of,
)
from vifibnet.pki.requests import KEY_TYPES, key_pem, make_key


class FilesTestCase(SynchronousTestCase):
    """A directory with a node's three files."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.ca, self.cert, self.key = write_identity(self.directory, identity())

    def file(self, data: bytes) -> Path:
        """A file with this content."""
        path = self.directory / "file"
        path.write_bytes(data)
        return path


class LoadTests(FilesTestCase):
    """Single files."""

    def test_certificate(self) -> None:
        """A certificate is read, also with openssl's text around it."""
        self.assertEqual(prefix_of(load_certificate(self.cert, "--cert")), Prefix(5, 16))
        dressed = b"Certificate:\n    Data:\n" + self.cert.read_bytes() + b"\ntrailing words\n"
        self.assertEqual(prefix_of(load_certificate(self.file(dressed), "--cert")), Prefix(5, 16))

    def test_key(self) -> None:
        """Keys are read in each form that openssl writes."""
        forms = (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL)
        for key_type in KEY_TYPES:
            for form in forms[: 1 if key_type == "ed25519" else 2]:
                data = key(key_type).private_bytes(
                    serialization.Encoding.PEM, form, serialization.NoEncryption()
                )
                read = load_key(self.file(data), "--key")
                self.assertEqual(read.public_key(), key(key_type).public_key())

    def test_no_certificate(self) -> None:
        """What is no certificate is refused, naming option and file."""
        der = x509.load_pem_x509_certificate(self.cert.read_bytes()).public_bytes(serialization.Encoding.DER)
        for data, problem in (
            (b"", "holds no certificate that can be read"),
            (b"\xff" * 100, "holds no certificate that can be read"),
            (self.key.read_bytes(), "holds no certificate that can be read"),
            (self.cert.read_bytes()[:300], "holds no certificate that can be read"),
            (self.pem(der[:-1] + b"x" * 9), "holds no certificate that can be read"),
            (self.cert.read_bytes() + self.ca.read_bytes(), "holds 2 certificates"),
            (b"x" * (1 << 20) + b"y", "is larger than 1 MiB"),
        ):
            with self.assertRaises(BadInput) as caught:
                load_certificate(self.file(data), "--cert")
            self.assertTrue(str(caught.exception).startswith(f"--cert {self.directory}/file: {problem}"))

    def test_no_key(self) -> None:
        """What is no usable key is refused, naming option and file."""
        form = serialization.PrivateFormat.PKCS8
        locked = key().private_bytes(
            serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"x")
        )
        strange = x25519.X25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, form, serialization.NoEncryption()
        )
        for data, problem in (
            (b"", "holds no private key that can be read"),
            (self.cert.read_bytes(), "holds no private key that can be read"),
            (self.key.read_bytes()[:100], "holds no private key that can be read"),
            (locked, "is encrypted"),
            (strange, "is a key of a kind that vifibnet does not use"),
        ):
            with self.assertRaises(BadInput) as caught:
                load_key(self.file(data), "--key")
            self.assertTrue(str(caught.exception).startswith(f"--key {self.directory}/file: {problem}; "))

    def test_unreadable(self) -> None:
        """A file that is not there, or is a directory, is refused as such."""
        for path, problem in (
            (self.directory / "none", "No such file or directory"),
            (self.directory, "Is a directory"),
        ):
            with self.assertRaises(BadInput) as caught:
                load_certificate(path, "--ca")
            self.assertTrue(str(caught.exception).startswith(f"--ca {path}: cannot be read ({problem}); "))

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_damaged(self, data: st.DataObject) -> None:
        """A damaged file is refused or read, and no other error comes of it."""
        content = bytearray(DER)
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path = self.file(self.pem(bytes(content)))
        try:
            load_ca(path, "--ca")
        except BadInput:
            return
        self.assertEqual(bytes(content), DER)

    @staticmethod
    def pem(der: bytes) -> bytes:
        """Bytes in a certificate's wrapping."""
        return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


DER = authority().certificate.public_bytes(serialization.Encoding.DER)


class CATests(FilesTestCase):
    """A network's CA."""

    def test_load(self) -> None:
        """The CA, its network, and its certificate without anything around it."""
        ca = load_ca(self.file(b"text\n" + self.ca.read_bytes() + b"more"), "--ca")
        self.assertEqual((ca.network, ca.pem), (NETWORK, authority().ca_pem))

    def build(self, serial: int = NETWORK.serial, ca: bool | None = True, signs: bool | None = True) -> Path:
        """A self-signed certificate."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
        builder = (
            x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key().public_key())
            .serial_number(serial).not_valid_before(NOW - DAY).not_valid_after(NOW + DAY)
        )  # fmt: skip
        if ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        if signs is not None:
            usage = x509.KeyUsage(True, False, False, False, False, signs, False, False, False)
            builder = builder.add_extension(usage, critical=True)
        return self.file(pem(builder.sign(key(), SHA256())))

    def test_built(self) -> None:
        """What the refusals below leave out is what makes it a CA; key usage may be missing."""
        self.assertEqual(load_ca(self.build(), "--ca").network, NETWORK)
        self.assertEqual(load_ca(self.build(signs=None), "--ca").network, NETWORK)

    def test_refused(self) -> None:
        """What is no CA, or of no network, is refused with a sentence that says how to make one."""
        self.refuse(self.build(serial=0x42), "its serial number 0x42 holds no IPv6 network")
        self.refuse(self.build(serial=1 << 97), "holds no IPv6 network")
        self.refuse(self.build(serial=new_serial()), "holds no IPv6 network")
        for ca, signs in ((False, True), (None, True), (None, None), (True, False)):
            self.refuse(self.build(ca=ca, signs=signs), "is not marked as a certificate authority")

    def refuse(self, path: Path, problem: str) -> None:
        with self.assertRaises(BadInput) as caught:
            load_ca(path, "--ca")
        sentence = str(caught.exception)
        self.assertIn(problem, sentence)
        self.assertIn("vifibnet ca --network 2001:db8:42::/48 makes such an authority", sentence)

    def test_not_its_own(self) -> None:
        """A CA certificate that another one signed is not a network's."""
        name = authority().certificate.subject
        builder = (
            x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key().public_key())
            .serial_number(NETWORK.serial).not_valid_before(NOW - DAY).not_valid_after(NOW + DAY)
            .add_extension(x509.BasicConstraints(True, None), critical=True)
        )  # fmt: skip
        self.refuse(self.file(pem(builder.sign(authority().key, SHA256()))), "is not signed by its own key")

    def test_authority(self) -> None:
        """The registry's pair, and what is refused of it."""
        (self.directory / "ca.key").write_bytes(key_pem(authority().key))
        loaded = Authority.load(self.ca, self.directory / "ca.key", NOW)
        self.assertEqual((loaded.network, loaded.ca_pem), (NETWORK, authority().ca_pem))
        for when, problem in ((NOW - 2 * DAY, "is not valid before"), (NOW + 4000 * DAY, "expired on 20")):
            with self.assertRaises(BadInput) as caught:
                Authority.load(self.ca, self.directory / "ca.key", when)
            self.assertIn(f"--ca {self.ca}: {problem}", str(caught.exception))
        with self.assertRaises(BadInput) as caught:
            Authority.load(self.ca, self.key, NOW)
        self.assertEqual(
            str(caught.exception),
            f"--key {self.key}: is not the key of --ca {self.ca}; give the key made with it.",
        )


class IdentityTests(FilesTestCase):
    """A node's three files together."""

    def load(self, now: datetime = NOW) -> Identity:
        return Identity.load(self.ca, self.cert, self.key, now)

    def refusal(self, now: datetime = NOW) -> str:
        with self.assertRaises(BadInput) as caught:
            self.load(now)
        return str(caught.exception)

    def test_load(self) -> None:
        """Who we are, and where."""
        loaded = self.load()
        self.assertEqual((loaded.prefix, loaded.network), (Prefix(5, 16), NETWORK))
        self.assertEqual(loaded.ca.pem, authority().ca_pem)
        self.assertNotIn("key=", repr(loaded))

    def test_every_kind(self) -> None:
        """Any type of CA and any type of key."""
        for by in KEY_TYPES:
            for own in KEY_TYPES:
                self.ca.write_bytes(authority(by).ca_pem)
                self.cert.write_bytes(pem(certificate(authority(by), private=key(own))))
                self.key.write_bytes(key_pem(key(own)))
                self.assertEqual(self.load().prefix, Prefix(5, 16))

    def test_unreadable(self) -> None:
        """A file that is missing is named with its option."""
        for path, option in ((self.ca, "--ca"), (self.cert, "--cert"), (self.key, "--key")):
            hidden = path.with_suffix(".hidden")
            path.rename(hidden)
            self.assertTrue(self.refusal().startswith(f"{option} {path}: cannot be read (No such file"))
            hidden.rename(path)
        self.load()

    def test_swapped(self) -> None:
        """Files in each other's place are told apart."""
        shutil.copy(self.ca, self.cert)
        self.assertIn(f"--key {self.key}: is not the key of --cert", self.refusal())
        shutil.copy(self.key, self.ca)
        self.assertIn(f"--ca {self.ca}: holds no certificate that can be read", self.refusal())

    def test_another_key(self) -> None:
        """The key must be the certificate's."""
        self.key.write_bytes(key_pem(make_key()))
        self.assertEqual(
            self.refusal(),
            f"--key {self.key}: is not the key of --cert {self.cert}; give the key made with it.",
        )

    def test_another_authority(self) -> None:
        """The certificate must be of this CA, not of one with the same name and network."""
        other = authority_of(*create_authority(NETWORK, now=NOW))
        self.ca.write_bytes(other.ca_pem)
        self.assertIn(f"--cert {self.cert}: is not signed by the authority in --ca {self.ca}", self.refusal())

    def test_time(self) -> None:
        """Expired and not yet valid certificates are refused, the CA's as well as the node's."""
        self.assertIn(f"--cert {self.cert}: expired on ", self.refusal(NOW + 366 * DAY))
        self.assertIn("get a new one with vifibnet setup", self.refusal(NOW + 366 * DAY))
        self.assertIn(f"--ca {self.ca}: expired on ", self.refusal(NOW + 4000 * DAY))
        self.assertIn(f"--ca {self.ca}: is not valid before ", self.refusal(NOW - 2 * DAY))
        late = Identity.load(self.ca, self.cert, self.key, NOW + 366 * DAY, renewing=True)
        self.assertEqual(late.certificate, Identity.load(self.ca, self.cert, self.key, NOW).certificate)
        self.cert.write_bytes(pem(certificate(now=NOW + 10 * DAY)))
        self.assertIn(f"--cert {self.cert}: is not valid before ", self.refusal())
        self.load(NOW + 10 * DAY - timedelta(minutes=59))

    def test_no_node(self) -> None:
        """A certificate of the CA that is no node's is refused."""
        _, server = authority().server_certificate([], NOW)
        for text in ("registry.vifibnet", "5", "5/16 ", "05/16", "65536/16"):
            self.cert.write_bytes(pem(self.signed([text], server)))
            self.assertIn(f"--cert {self.cert}: its common name says no prefix: ", self.refusal())
        for names in ([], ["5/16", "6/16"]):
            self.cert.write_bytes(pem(self.signed(names, server)))
            self.assertIn("its common name says no prefix", self.refusal())
        self.cert.write_bytes(pem(self.signed(["5/16"], server)))
        self.load()

    def test_prefix_that_does_not_fit(self) -> None:
        """A prefix that leaves no address in the network is refused."""
        _, server = authority().server_certificate([], NOW)
        self.cert.write_bytes(pem(self.signed(["5/80"], server)))
        self.assertIn("its prefix 5/80 leaves no address in the network 2001:db8:42::/48", self.refusal())

    def test_no_network(self) -> None:
        """A CA whose serial number is no network's is refused."""
        by = authority()
        plain = Authority(by.ca, by.key)
        name = plain.certificate.subject
        made = (
            x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(by.key.public_key())
            .serial_number(5).not_valid_before(NOW - DAY).not_valid_after(NOW + DAY)
            .add_extension(x509.BasicConstraints(True, None), critical=True).sign(by.key, SHA256())
        )  # fmt: skip
        self.ca.write_bytes(pem(made))
        self.assertIn(f"--ca {self.ca}: its serial number 0x5 holds no IPv6 network", self.refusal())

    @staticmethod
    def signed(names: list[str], like: x509.Certificate) -> x509.Certificate:
        """A certificate of the CA with these common names."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
        return (
            x509.CertificateBuilder().subject_name(subject).issuer_name(like.issuer)
            .public_key(key().public_key()).serial_number(new_serial())
            .not_valid_before(NOW).not_valid_after(NOW + DAY).sign(authority().key, SHA256())
        )  # fmt: skip


class FingerprintTests(SynchronousTestCase):
    """Fingerprints as people pass them on."""

    def test_form(self) -> None:
        """32 bytes in small hexadecimal digits with colons."""
        self.assertRegex(fingerprint(authority().certificate), r"\A[0-9a-f]{2}(:[0-9a-f]{2}){31}\Z")

    def test_read_back(self) -> None:
        """What we write, what openssl writes and what people make of it is the same."""
        seal = fingerprint(authority().certificate)
        for text in (
            seal, seal.upper(), seal.replace(":", ""), seal.replace(":", " "), f"  {seal}\n",
            f"sha256 Fingerprint={seal.upper()}", f"SHA-256: {seal}", f"SHA256:{seal}",
        ):  # fmt: skip
            self.assertEqual(normal_fingerprint(text), seal, text)

    def test_refused(self) -> None:
        """Anything else is not one."""
        seal = fingerprint(authority().certificate)
        for text in (
            "",
            "x",
            seal[:-1],
            seal + ":00",
            seal.replace("a", "g").replace("0", "g"),
            "sha1 " + seal[:59],
        ):
            with self.assertRaises(BadInput, msg=text) as caught:
                normal_fingerprint(text)
            self.assertTrue(str(caught.exception).startswith("--fingerprint "))


class OtherNetworksTests(SynchronousTestCase):
    """The network's length is up to the operator."""

    def test_node_in_any_network(self) -> None:
        """A node is where network and prefix put it."""
        for text in ("fd00::/8", "2001:db8::/32", "2001:db8:1:2:3:4::/96"):
            by = authority("p256", Network.parse(text))
            directory = Path(self.mktemp())
            os.mkdir(directory)
            loaded = Identity.load(*write_identity(directory, identity(by, "3/16")), NOW)
            self.assertEqual(loaded.network, Network.parse(text))
            self.assertIn(loaded.network.address(loaded.prefix), Network.parse(text).ip_network)
