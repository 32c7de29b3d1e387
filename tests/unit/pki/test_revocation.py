"""The signed revocation list: who may write one, and who not."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.pki.making import NETWORK, NOW, authority, authority_of
from vifibnet.errors import BadRevocations
from vifibnet.model.addresses import Network, Prefix
from vifibnet.pki.authority import create_authority
from vifibnet.pki.requests import KEY_TYPES, key_pem
from vifibnet.pki.revocation import read_revocations, sign_revocations
from vifibnet.pki.signing import key_name, sign
from vifibnet.wire.revocation import (
    RevocationList,
    Revoked,
    add_signature,
    format_revocations,
    split_signature,
)

REVOKED = (Revoked(1 << 126, Prefix(5, 16)), Revoked((1 << 126) + 1, Prefix(6, 16), node=False))


class RevocationTests(SynchronousTestCase):
    """Signing and verifying."""

    def test_every_key(self) -> None:
        """Whatever key the CA has; a changed byte anywhere is noticed."""
        for key_type in KEY_TYPES:
            by = authority(key_type)
            document = sign_revocations(by, 12, REVOKED)
            read = read_revocations(document, by.ca)
            self.assertEqual((read.number, read.revoked, read.network), (12, REVOKED, NETWORK))
            for at in range(0, len(document), 7):
                changed = document[:at] + bytes([document[at] ^ 1]) + document[at + 1 :]
                self.assertRaises(BadRevocations, read_revocations, changed, by.ca)

    def test_others(self) -> None:
        """Another CA of the same network, and the same CA's key for another network, are not believed."""
        by = authority()
        stranger = authority_of(*create_authority(NETWORK, now=NOW))
        self.assertRaises(BadRevocations, read_revocations, sign_revocations(stranger, 1, ()), by.ca)
        for network, name in (
            (Network.parse("fd00:1::/48"), key_name(by.ca)),
            (NETWORK, key_name(stranger.ca)),
        ):
            text = format_revocations(RevocationList(network, name, 1))
            document = add_signature(text, sign(by.key, text))
            self.assertRaises(BadRevocations, read_revocations, document, by.ca)

    def test_signed_but_unreadable(self) -> None:
        """Also what the CA signed must be a list."""
        by = authority()
        for text in (b"vifibnet revocation list 2\n", b"", key_pem(by.key)):
            document = add_signature(text, sign(by.key, text))
            self.assertRaises(BadRevocations, read_revocations, document, by.ca)

    def test_large(self) -> None:
        """Ten thousand certificates are a list."""
        by = authority()
        many = [Revoked((1 << 126) + n, Prefix(n, 16)) for n in range(10_000)]
        document = sign_revocations(by, 1, many)
        self.assertEqual(len(read_revocations(document, by.ca).nodes), 10_000)
        self.assertLess(len(split_signature(document)[0]), 700_000)
