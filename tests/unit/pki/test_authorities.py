"""Authorities that follow on each other: their certificates, their files, and who signs when."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL.crypto import X509
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
    openssl,
    pem,
    successor,
    write_identity,
)
from vifibnet.errors import BadDocument, BadInput
from vifibnet.files import write_atomically
from vifibnet.model.addresses import Network
from vifibnet.pki.authorities import Authorities
from vifibnet.pki.authority import Authority, create_authority
from vifibnet.pki.certificates import (
    CA,
    Identity,
    in_force,
    is_signed_by,
    load_cas,
    load_keys,
    newest_first,
    signer,
    signing,
)
from vifibnet.pki.document import authorities_in, authority_lines, read_authorities, sign_document
from vifibnet.pki.requests import KEY_TYPES, key_pem
from vifibnet.wire.authorities import format_authorities
from vifibnet.wire.document import Kind

WRITE = "vifibnet.pki.authorities.write_atomically"
SECOND = timedelta(seconds=1)


def name_hash(ca: CA) -> int:
    """By which OpenSSL finds the certificate."""
    return X509.from_cryptography(ca.certificate).subject_name_hash()


class SuccessorTests(SynchronousTestCase):
    """The certificate of the authority that follows."""

    def test_same_network(self) -> None:
        """It is for the same network and of another subject, whatever the keys; and so is the third."""
        for key_type in KEY_TYPES:
            for new_key in (False, True):
                first = authority(key_type)
                second = successor(first, new_key=new_key)
                third = successor(second, new_key=new_key, now=NOW + 40 * DAY)
                names = [each.certificate.subject.rfc4514_string() for each in (first, second, third)]
                self.assertEqual(len({name_hash(each.ca) for each in (first, second, third)}), 3, names)
                self.assertEqual(names[1:], [f"2.5.4.46={count},{names[0]}" for count in (2, 3)])
                for each in (second, third):
                    self.assertEqual(each.network, NETWORK)
                    self.assertTrue(is_signed_by(certificate(each), each.certificate))
                    self.assertFalse(is_signed_by(certificate(each), first.certificate))

    def test_signs_from(self) -> None:
        """When it begins to sign is in it, to the second; an authority that follows on none signs at once."""
        first = authority()
        self.assertEqual(first.ca.signs_from, first.certificate.not_valid_before_utc)
        second = successor(first, wait=30 * DAY)
        self.assertEqual(second.ca.signs_from, (NOW + 30 * DAY).replace(microsecond=0))
        cas = newest_first([first.ca, second.ca, first.ca])
        self.assertEqual(cas, (second.ca, first.ca))
        self.assertEqual(signing(cas, NOW), first.ca)
        self.assertEqual(signing(cas, NOW + 29 * DAY), first.ca)
        self.assertEqual(signing(cas, NOW + 30 * DAY), second.ca)
        self.assertEqual(signing(cas, NOW - 1000 * DAY), first.ca)

    def test_openssl(self) -> None:
        """The real one takes it, with all its extensions, for the authority of what it signs."""
        directory = Path(self.mktemp())
        directory.mkdir()
        second = successor(authority())
        (directory / "ca.pem").write_bytes(second.ca_pem)
        (directory / "node.pem").write_bytes(pem(certificate(second)))
        said = openssl("verify -x509_strict -purpose sslserver -CAfile ca.pem node.pem", cwd=directory)
        self.assertIn("node.pem: OK", said)
        said = openssl("x509 -in ca.pem -noout -text", cwd=directory)
        self.assertIn("X509v3 Private Key Usage Period", said)
        said = openssl("x509 -in ca.pem -noout -subject_hash", cwd=directory)
        self.assertEqual(int(said, 16), name_hash(second.ca))

    def test_the_manuals(self) -> None:
        """One that the manual's own openssl lines made is followed like any other, also right away."""
        directory = Path(self.mktemp())
        directory.mkdir()
        line = "req -nodes -new -x509 -newkey rsa:2048 -keyout ca.key -set_serial 0x120010db80042 -days 365"
        openssl(f"{line} -out ca.crt -subj /CN=vifib/dnQualifier=x", cwd=directory)
        now = load_cas(directory / "ca.crt", "--ca")[0].certificate.not_valid_before_utc + 2 * SECOND
        held = Authorities.load(directory / "ca.crt", directory / "ca.key", now)
        [old] = held.cas
        new = held.follow(new_key=False, days=10, signs_from=now + DAY, now=now)
        self.assertGreater(new.certificate.not_valid_before_utc, old.certificate.not_valid_before_utc)
        self.assertEqual(new.certificate.public_key(), old.certificate.public_key())
        self.assertNotEqual(name_hash(new), name_hash(old))


class FilesTests(SynchronousTestCase):
    """The files of --ca and --key."""

    def setUp(self) -> None:
        """A registry's files with one authority."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.ca, self.key = self.directory / "ca.crt", self.directory / "ca.key"
        self.first = authority()
        self.write(self.first)

    def write(self, *held: Authority) -> None:
        """Put authorities into the files."""
        self.ca.write_bytes(b"".join(each.ca_pem for each in held))
        self.key.write_bytes(b"".join(key_pem(each.key) for each in held))

    def load(self, now: datetime = NOW) -> Authorities:
        return Authorities.load(self.ca, self.key, now)

    def refusal(self, now: datetime = NOW) -> str:
        """What is wrong with the files."""
        return str(self.assertRaises(BadInput, self.load, now))

    def test_one(self) -> None:
        """One alone does everything."""
        held = self.load()
        self.assertEqual(held.cas, (self.first.ca,))
        for each in (held.signing(NOW), held.known(NOW)):
            self.assertEqual((each.ca, key_pem(each.key)), (self.first.ca, key_pem(self.first.key)))

    def test_who_signs(self) -> None:
        """The old one as long as the new one waits; nodes know the old one for sure, until it has expired."""
        first = authority("p256", days=100)
        second = successor(first, wait=30 * DAY)
        self.write(second, first)
        for held in (self.load(), Authorities([first.ca, second.ca], [first.key, second.key])):
            for days, signs, known in ((0, first, first), (31, second, first), (101, second, second)):
                now = NOW + days * DAY
                self.assertEqual(held.signing(now).ca, signs.ca)
                self.assertEqual(held.known(now).ca, known.ca)
                self.assertEqual(held.newest, second.ca)
                self.assertEqual(key_pem(held.signing(now).key), key_pem(signs.key))
        self.assertEqual([each.ca for each in held.in_force(NOW)], [second.ca, first.ca])
        self.assertEqual([each.ca for each in held.in_force(NOW + 101 * DAY)], [second.ca])
        self.assertEqual(held.known(NOW + 9999 * DAY).ca, second.ca)

    def test_refused(self) -> None:
        """Authorities of two networks, keys that are none or missing, an authority that has expired."""
        second = successor(self.first)
        other = authority_of(*create_authority(Network.parse("2001:db8:43::/48"), now=NOW))
        self.write(second, other)
        self.assertIn("holds authorities of several networks", self.refusal())
        self.write(second, self.first)
        self.key.write_bytes(key_pem(self.first.key))
        self.assertRegex(self.refusal(), r"^--key .*is not the key of the authority [0-9a-f:]{95} in --ca")
        self.key.write_bytes(
            key_pem(self.first.key) + b"-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----"
        )
        self.assertRegex(self.refusal(), r"^--key .*holds no private key that can be read")
        self.write(self.first)
        self.assertRegex(self.refusal(NOW + 9999 * DAY), "^--ca .* expired on")

    def test_expired(self) -> None:
        """One that has expired needs no key."""
        first = authority("p256", days=100)
        second = successor(first)
        self.write(second, first)
        self.key.write_bytes(key_pem(second.key))
        self.assertEqual(self.load(NOW + 101 * DAY).cas, (second.ca, first.ca))

    def test_follow(self) -> None:
        """The files are written, the key's for its owner alone; what is in them counts at once."""
        for new_key in (False, True):
            self.write(self.first)
            held = self.load()
            made = held.follow(new_key=new_key, days=10, signs_from=NOW + DAY, now=NOW)
            self.assertEqual(held.cas, (made, self.first.ca))
            again = self.load()
            self.assertEqual(again.cas, held.cas)
            self.assertEqual(len(load_keys(self.key, "--key")), 2 if new_key else 1)
            self.assertEqual(
                self.key.stat().st_mode & 0o777, 0o600 if new_key else self.key.stat().st_mode & 0o777
            )
            self.assertEqual(again.signing(NOW + 2 * DAY).ca, made)
            held.drop([self.first.ca])
            self.assertEqual((held.cas, self.load().cas), ((made,), (made,)))
            self.assertEqual(len(load_keys(self.key, "--key")), 1)
            self.assertEqual(sorted(os.listdir(self.directory)), ["ca.crt", "ca.key"])

    def test_killed(self) -> None:
        """Between the two files: the registry starts as before, and may be asked again."""
        for step in ("follow", "drop"):
            self.write(self.first)
            held = self.load()
            if step == "drop":
                held.follow(new_key=True, days=10, signs_from=NOW, now=NOW)
            writes: list[Any] = []

            def once(*arguments: Any, writes: list[Any] = writes, **options: Any) -> None:
                writes.append(arguments)
                if len(writes) > 1:
                    raise KeyboardInterrupt
                write_atomically(*arguments, **options)

            with patch(WRITE, once), self.assertRaises(KeyboardInterrupt):
                if step == "drop":
                    held.drop([self.first.ca])
                else:
                    held.follow(new_key=True, days=10, signs_from=NOW, now=NOW)
            self.assertEqual(len(self.load().cas), 1)

    def test_not_written(self) -> None:
        """Where the files cannot be written nothing changes."""
        held = self.load()

        def full(path: Path, *_: object, **__: object) -> None:
            raise BadInput(path, "cannot be written (no space)", "make room")

        with patch(WRITE, full):
            self.assertRaises(BadInput, held.follow, new_key=True, days=10, signs_from=NOW, now=NOW)
        self.assertEqual(held.cas, self.load().cas)


class NodeTests(SynchronousTestCase):
    """A node that trusts several."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.first = authority("p256", days=100)
        self.second = successor(self.first)

    def load(self, node: Identity, cas: list[CA], now: datetime = NOW, **options: Any) -> Identity:
        """Its files, read."""
        paths = write_identity(self.directory, node)
        paths[0].write_bytes(b"".join(ca.pem for ca in cas))
        return Identity.load(*paths, now, **options)

    def test_both(self) -> None:
        """Its certificate may be of either; the others are trusted as well."""
        both = [self.second.ca, self.first.ca]
        for by, other in ((self.first, self.second), (self.second, self.first)):
            node = self.load(identity(by), both)
            self.assertEqual((node.ca, node.cas), (by.ca, (by.ca, other.ca)))
            self.assertEqual(signer(node.certificate, both), by.ca)
            error = self.assertRaises(BadInput, self.load, identity(by), [other.ca])
            self.assertIn("is not signed by the authority in --ca", str(error))
            vouched = self.load(identity(by), [other.ca], vouched=lambda _: both)
            self.assertEqual((vouched.ca, vouched.others), (by.ca, (other.ca,)))

    def test_expired(self) -> None:
        """One that has expired does not matter beside another; a certificate of it may be renewed."""
        both = [self.second.ca, self.first.ca]
        late = NOW + 101 * DAY
        self.assertEqual(in_force(both, late), (self.second.ca,))
        self.load(identity(self.second), both, late)
        self.load(identity(self.first), both, late, renewing=True)
        error = self.assertRaises(BadInput, self.load, identity(self.first), both, late)
        self.assertRegex(str(error), "^--cert .* expired on")
        error = self.assertRaises(BadInput, self.load, identity(self.first), both[1:], late, renewing=True)
        self.assertRegex(str(error), "^--ca .* expired on")


class DocumentTests(SynchronousTestCase):
    """The document that names them."""

    def test_whoever_knows_one(self) -> None:
        """Signed by either it says the same to who trusts that one, and nothing to others."""
        first = authority()
        second = successor(first)
        cas = newest_first([first.ca, second.ca])
        for by, other in ((first, second), (second, first)):
            data = sign_document(by, Kind.AUTHORITIES, 7, authority_lines(cas))
            self.assertEqual(read_authorities(data, [by.ca]), cas)
            self.assertRaises(BadDocument, read_authorities, data, [other.ca])

    def test_refused(self) -> None:
        """What is no authority, or another network's, or several networks'."""
        other = authority_of(*create_authority(Network.parse("2001:db8:43::/48"), now=NOW))
        node = certificate(private=key()).public_bytes(Encoding.DER)
        for lines in (
            authority_lines([authority().ca, other.ca]),
            [*authority_lines([authority().ca]), *format_authorities([b"none"])],
            format_authorities([node]),
        ):
            error = self.assertRaises(BadDocument, authorities_in, NETWORK, lines)
            self.assertRegex(str(error), r"^The document is refused: [^\n]+\.$")
