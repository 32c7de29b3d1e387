"""Signed documents: who may write one, and who not."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.pki.making import NETWORK, NOW, authority, authority_of, revocation_list
from vifibnet.errors import BadDocument
from vifibnet.model.addresses import Network, Prefix
from vifibnet.pki.authority import create_authority
from vifibnet.pki.document import read_document, sign_document
from vifibnet.pki.requests import KEY_TYPES, key_pem
from vifibnet.pki.signing import key_name, sign
from vifibnet.wire.document import Document, Kind, add_signature, format_document, split_signature
from vifibnet.wire.revocation import Revoked, parse_revocations

LINES = ("one thing", "another")
KIND = Kind.REVOCATIONS


class DocumentTests(SynchronousTestCase):
    """Signing and verifying."""

    def test_every_key(self) -> None:
        """Whatever key the CA has; a changed byte anywhere is noticed."""
        for key_type in KEY_TYPES:
            by = authority(key_type)
            data = sign_document(by, KIND, 12, LINES)
            read = read_document(data, KIND, [by.ca])
            self.assertEqual(read, Document(KIND, NETWORK, key_name(by.ca), 12, LINES))
            for at in range(0, len(data), 7):
                changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
                self.assertRaises(BadDocument, read_document, changed, KIND, [by.ca])

    def test_others(self) -> None:
        """Another CA of the same network, and the same CA's key for another network, are not believed; nor is
        the right one in another's name."""
        by = authority()
        stranger = authority_of(*create_authority(NETWORK, now=NOW))
        self.assertRaises(BadDocument, read_document, sign_document(stranger, KIND, 1, ()), KIND, [by.ca])
        self.assertRaises(BadDocument, read_document, sign_document(by, KIND, 1, ()), KIND, [])
        for network, name in (
            (Network.parse("fd00:1::/48"), key_name(by.ca)),
            (NETWORK, key_name(stranger.ca)),
        ):
            text = format_document(Document(KIND, network, name, 1))
            data = add_signature(text, sign(by.key, text))
            self.assertRaises(BadDocument, read_document, data, KIND, [by.ca, stranger.ca])

    def test_two_authorities(self) -> None:
        """One of them is enough."""
        one, two = authority(), authority_of(*create_authority(NETWORK, now=NOW))
        for by in (one, two):
            data = sign_document(by, KIND, 1, LINES)
            self.assertEqual(read_document(data, KIND, [one.ca, two.ca]).lines, LINES)

    def test_signed_but_unreadable(self) -> None:
        """Also what the CA signed must be a document."""
        by = authority()
        for text in (b"vifibnet revocations 2\n", b"", key_pem(by.key)):
            data = add_signature(text, sign(by.key, text))
            self.assertRaises(BadDocument, read_document, data, KIND, [by.ca])

    def test_large(self) -> None:
        """Ten thousand certificates are a list."""
        by = authority()
        many = [Revoked((1 << 126) + n, Prefix(n, 16)) for n in range(10_000)]
        data = revocation_list(by, 1, many)
        lines = read_document(data, KIND, [by.ca]).lines
        self.assertEqual(len(parse_revocations(lines).nodes), 10_000)
        self.assertLess(len(split_signature(data)[0]), 700_000)
