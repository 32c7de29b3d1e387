"""Revoking: who is cut off, who is told, and what they are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.registry.parts import NETWORK, NOW, Parts, request_pem
from tests.unit.registry.test_amp import ENDPOINTS, Node
from vifibnet.errors import (
    BadArguments,
    CertificateExpired,
    CertificateRevoked,
    NoSuchNode,
    NotInsideNetwork,
    UnknownToken,
)
from vifibnet.model.addresses import Prefix
from vifibnet.pki.document import read_document
from vifibnet.registry.amp import LINGER
from vifibnet.registry.documents import AT_ONCE
from vifibnet.wire.amp import MAX_PIECE, Declare, GetDocument, GetPeers
from vifibnet.wire.document import Document, Kind
from vifibnet.wire.revocation import Revoked, format_revocations, parse_revocations


class RevokeTests(SynchronousTestCase):
    """A registry and two nodes that are connected."""

    def setUp(self) -> None:
        """Connect them."""
        self.parts = Parts(Path(self.mktemp()))
        self.addCleanup(self.parts.store.close)
        self.registry = self.parts.registry
        self.one, self.two = Node(self.parts), Node(self.parts)
        for node in (self.one, self.two):
            self.successResultOf(node.call(Declare, endpoints=ENDPOINTS))

    def pump(self) -> None:
        """Let everything arrive."""
        for node in (self.one, self.two):
            node.pump.flush()

    def ask(self, node: Node, known: int, offset: int) -> dict[str, Any]:
        """One question and its answer."""
        asking = node.call(GetDocument, kind="revocations", number=known, offset=offset)
        return self.successResultOf(asking)

    def fetch(self, node: Node, known: int = 0) -> Document | None:
        """What a node gets that has the list of this number."""
        document = b""
        while True:
            answer = self.successResultOf(
                node.call(GetDocument, kind="revocations", number=known, offset=len(document))
            )
            self.assertLessEqual(len(answer["piece"]), MAX_PIECE)
            document += answer["piece"]
            if len(document) == answer["length"]:
                break
        if not document:
            return None
        return read_document(document, Kind.REVOCATIONS, [self.parts.authority.ca])

    def test_node(self) -> None:
        """It is cut off at once, and nobody is told of it any more; the other hears of it and is served."""
        self.assertIsNone(self.fetch(self.two))
        said = self.registry.revocations.revoke(str(self.one.prefix), " stolen\nlaptop ", "uid 0")
        self.assertEqual(said, f"revoked {self.one.prefix} and all its certificates (1)")
        self.pump()
        self.assertTrue(self.one.pump.clientIO.disconnected)
        self.assertEqual(self.registry.connections, {self.two.face})
        [number] = self.two.amp.numbers
        self.assertEqual(self.one.amp.numbers, [])
        listed = self.fetch(self.two)
        assert listed is not None
        serial = self.one.certificate.serial_number
        self.assertEqual(
            (listed.number, list(listed.lines)),
            (number, format_revocations([Revoked(serial, self.one.prefix)])),
        )
        self.assertIsNone(self.fetch(self.two, number))
        self.assertIsNone(self.fetch(self.two, number + 1))
        self.assertEqual(self.successResultOf(self.two.call(GetPeers, count=9))["peers"], [])
        (row,) = self.parts.store._db.execute("SELECT what, subject, by FROM audit WHERE by = 'uid 0'")
        self.assertEqual(row, ("node revoked", f"{self.one.prefix} (stolen laptop)", "uid 0"))

    def test_refused(self) -> None:
        """Whoever comes with a revoked certificate is told so, and the connection is cut; nor does it help to
        come from inside the network, or with the old token."""
        self.registry.revocations.revoke(str(self.one.prefix), "", "uid 0")
        # As if the connection had outlived it.
        again = Node(self.parts)
        again.face.serial = self.one.certificate.serial_number
        for command in (
            again.call(GetPeers, count=5),
            again.call(Declare, endpoints=ENDPOINTS),
            again.call(GetDocument, kind="revocations", number=0, offset=0),
        ):
            self.failureResultOf(command, CertificateRevoked)
        self.assertFalse(again.pump.clientIO.disconnected)
        self.parts.clock.advance(LINGER)
        again.pump.flush()
        self.assertTrue(again.pump.clientIO.disconnected)
        address = str(NETWORK.address(self.one.prefix))
        self.assertRaises(NotInsideNetwork, self.registry.identify, address, address)
        self.assertRaises(UnknownToken, self.registry.request_certificate, self.parts.token, request_pem())

    def test_names(self) -> None:
        """A node is named by prefix or address, a certificate by its serial number in two ways."""
        revocations = self.registry.revocations
        serial = self.one.certificate.serial_number
        for what in ("", "x", "99/16", "5", hex(serial + 1), "2001:db8::1", "192.0.2.1", "7" * 70, "²"):
            self.assertRaises(NoSuchNode, revocations.revoke, what, "", "uid 0")
        self.assertEqual(
            revocations.revoke(hex(serial), "", "uid 0"),
            f"revoked the certificate {serial} of {self.one.prefix}",
        )
        self.assertRaises(NoSuchNode, revocations.revoke, str(serial), "", "uid 0")
        revocations.revoke(str(NETWORK.address(self.two.prefix)), "", "uid 0")
        self.pump()
        self.assertEqual(self.registry.connections, set())
        self.assertEqual(len(self.parts.store.certificates.revoked(0.0)), 2)
        self.assertGreater(revocations.number, NOW)

    def test_bad_offset(self) -> None:
        """Is the caller's mistake; one behind the end is an empty piece."""
        self.failureResultOf(
            self.one.call(GetDocument, kind="revocations", number=0, offset=-1), BadArguments
        )
        self.registry.revocations.revoke(str(self.two.prefix), "", "uid 0")
        answer = self.ask(self.one, 0, 10_000)
        self.assertEqual(answer["piece"], b"")

    def test_long(self) -> None:
        """A list longer than one answer comes in pieces."""
        self.registry.revocations.revoke(str(self.two.prefix), "", "uid 0")
        many = [(str(n + 1), "0101", NOW + 1e6) for n in range(5000)]
        self.parts.store._db.executemany(
            "INSERT INTO revocation (serial, bits, revoked, not_after) VALUES (?, ?, 1, ?)", many
        )
        listed = self.fetch(self.one)
        assert listed is not None
        self.assertEqual(len(parse_revocations(listed.lines).serials), 5001)

    def test_many(self) -> None:
        """Thousands are told a hundred at a time; who has gone meanwhile is not."""

        class Connection:
            """One that counts."""

            serial = self.one.certificate.serial_number
            node: Prefix | None = self.one.prefix
            node = None
            told = 0

            def document_changed(self, kind: Kind, number: int) -> None:
                self.told += 1

            def abort(self) -> None:
                raise AssertionError("a good one")

        many = [Connection() for _ in range(AT_ONCE * 2)]
        for one in many:
            self.registry.connections.add(one)
        self.registry.revocations.revoke(str(self.two.prefix), "", "uid 0")
        # The one that is real may be among them, and has not read it yet.
        self.assertIn(sum(each.told for each in many), (AT_ONCE - 1, AT_ONCE))
        gone = next(each for each in many if not each.told)
        self.registry.connections.discard(gone)
        self.parts.clock.pump([0, 0, 0])
        self.assertEqual([each.told for each in many if each is not gone], [1] * (len(many) - 1))
        self.assertEqual(gone.told, 0)

    def test_expired(self) -> None:
        """An expired certificate is refused as what it is."""
        self.parts.clock.advance(366 * 24 * 3600)
        self.failureResultOf(self.one.call(GetPeers, count=5), CertificateExpired)
