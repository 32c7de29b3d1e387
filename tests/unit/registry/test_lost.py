"""A registry whose database is lost: which nodes come back, and what newcomers get."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.registry.parts import NETWORK, Parts, request_pem
from tests.unit.registry.test_amp import ENDPOINTS, Node
from tests.unit.store.space import check_space
from vifibnet.errors import CertificateRevoked, NetworkFull, RegistryRefusal, UnknownNode
from vifibnet.model.addresses import Prefix
from vifibnet.model.parameters import Values
from vifibnet.pki.certificates import prefix_of
from vifibnet.pki.document import read_document
from vifibnet.pki.requests import make_key, make_request
from vifibnet.registry.amp import LINGER
from vifibnet.store.lost import Remembered
from vifibnet.store.registry import RegistryStore
from vifibnet.wire.amp import Declare, GetDocument, GetPeers, Renew
from vifibnet.wire.document import Kind
from vifibnet.wire.revocation import RevocationList, parse_revocations

DAY = 24 * 3600.0


class LostTests(SynchronousTestCase):
    """Three nodes whose registry loses its database after a day."""

    def setUp(self) -> None:
        self.parts = Parts(Path(self.mktemp()))
        self.addCleanup(self.close)
        self.old = [self.parts.new_node() for _ in range(3)]
        self.parts.clock.advance(DAY)

    def close(self) -> None:
        """Close the latest database."""
        self.parts.store.close()

    def show(self, certificate: x509.Certificate) -> Node:
        """Connect with it."""
        return Node(self.parts, certificate=certificate)

    def refused(self, certificate: x509.Certificate, why: type[RegistryRefusal] = UnknownNode) -> None:
        """It gets nothing, and is cut off."""
        node = self.show(certificate)
        self.failureResultOf(node.call(GetPeers, count=1), why)
        self.failureResultOf(node.call(Renew, request=request_pem()), why)
        self.parts.clock.advance(LINGER)
        transport: Any = node.face.transport
        self.assertTrue(transport.disconnecting)

    def audit(self) -> list[tuple[str, str]]:
        """What was noted since the database was made."""
        rows = self.parts.store._db.execute("SELECT what, subject FROM audit ORDER BY id").fetchall()
        return [(what, subject) for what, subject in rows if "token" not in what]

    def listed(self) -> dict[Prefix, str | None]:
        """The nodes and their mail addresses, as ``vifibnet nodes`` has them."""
        nodes, _ = self.parts.store.nodes("", 100)
        return {node.prefix: node.email for node in nodes}

    def test_taken_in(self) -> None:
        """Who connects is what it was before; all that its certificate tells is recorded again."""
        request = make_request(make_key(), [("emailAddress", "c@d.example")])
        now = datetime.fromtimestamp(self.parts.clock.seconds(), UTC)
        self.old.append(self.parts.authority.sign(request, Prefix(9, 16), 77, now))
        self.parts.lose()
        nodes = [self.show(certificate) for certificate in self.old]
        self.successResultOf(nodes[1].call(Declare, endpoints=ENDPOINTS))
        self.assertEqual(len(self.successResultOf(nodes[0].call(GetPeers, count=9))["peers"]), 1)
        self.assertEqual(
            self.listed(), {**{Prefix(n, 16): None for n in range(3)}, Prefix(9, 16): "c@d.example"}
        )
        made, first, *_ = self.audit()
        self.assertEqual(made, ("made anew", "0 revocations of list 0"))
        self.assertEqual(first, ("taken in again", f"0/16 serial {self.old[0].serial_number}"))
        self.assertEqual(len(self.parts.registry.connections), 4)
        check_space(self.parts.store._db)
        # Once is enough, and they renew as they always did.
        self.successResultOf(self.show(self.old[0]).call(GetPeers, count=9))
        renewed = self.successResultOf(nodes[0].call(Renew, request=request_pem()))["certificate"]
        self.assertEqual(prefix_of(x509.load_pem_x509_certificate(renewed.encode())), Prefix(0, 16))
        self.assertEqual(sum(what == "taken in again" for what, _ in self.audit()), 4)

    def test_not_declared(self) -> None:
        """A database that is empty for another reason, e.g. a slip in --db, takes in nobody."""
        self.parts.lose(declared=False)
        for certificate in self.old:
            self.refused(certificate)
        self.assertEqual(self.listed(), {})

    def test_parameters(self) -> None:
        """They are those that the nodes keep, babel's key among them, or that there is none."""
        both: Values = {"hello": 0.5, "babel-key": bytes(32)}
        one: Values = {"hello": 0.5}
        for values, key in ((both, "00" * 32), (one, "")):
            store = RegistryStore.open(":memory:", NETWORK, self.parts.clock.seconds)
            self.addCleanup(store.close)
            self.assertTrue(store.lost.begin(Remembered(parameters=7, values=values), 2e9))
            settings = {name: each.value for name, each in store.parameters.settings().items()}
            self.assertEqual(settings, {"hello": "0.5", "babel-key": key})
            self.assertEqual(store.parameters.number(), 7)

    def test_in_use(self) -> None:
        """To declare one lost that is in use means nothing."""
        self.assertFalse(self.parts.store.lost.begin(Remembered(), 2e9))
        self.assertFalse(self.parts.store.lost.takes_in)

    def test_forgotten(self) -> None:
        """What the new database issued itself and has forgotten stays forgotten."""
        self.parts.lose()
        self.parts.clock.advance(60)
        new = self.parts.new_node()
        self.parts.store._db.execute("PRAGMA foreign_keys = OFF")
        self.parts.store._db.execute("DELETE FROM certificate WHERE serial = ?", (str(new.serial_number),))
        self.refused(new)

    def test_expired(self) -> None:
        """One that expired may be somebody else's prefix by now: it joins again."""
        self.parts.clock.advance(365 * DAY)
        self.parts.lose()
        self.refused(self.old[0])

    def test_no_node(self) -> None:
        """The CA's other certificates are nobody's."""
        now = datetime.fromtimestamp(self.parts.clock.seconds(), UTC)
        _, server = self.parts.authority.server_certificate([], now)
        self.parts.lose()
        with self.assertRaises(UnknownNode):
            self.parts.registry.know(server)

    def test_revoked(self) -> None:
        """With a node's list, what was revoked stays revoked, and the next list holds all of it."""
        registry = self.parts.registry
        spared = self.parts.identity()
        key = make_key()
        renewed = registry.renew(spared.certificate.serial_number, request_pem(key))
        registry.revocations.revoke("0/16", "stolen", "uid 0")
        registry.revocations.revoke(str(spared.certificate.serial_number), "", "uid 0")
        number, before = self.revoked_list()
        self.parts.clock.advance(60)
        self.parts.lose(number, before.revoked)
        self.assertEqual(self.revoked_list(), (number, before))
        self.refused(self.old[0], CertificateRevoked)
        self.refused(spared.certificate, CertificateRevoked)
        self.successResultOf(self.show(self.old[1]).call(GetPeers, count=1))
        self.parts.registry.revocations.revoke("1/16", "stolen, too", "uid 0")
        later, after = self.revoked_list()
        self.assertGreater(later, number)
        self.assertEqual(after.serials, before.serials | {self.old[1].serial_number})
        self.assertEqual(after.nodes, {Prefix(0, 16), Prefix(1, 16)})
        # The one that goes on with another certificate has not come yet, and does.
        other = x509.load_pem_x509_certificate(renewed.encode())
        self.successResultOf(self.show(other).call(GetPeers, count=1))

    def revoked_list(self) -> tuple[int, RevocationList]:
        """The registry's list and its number."""
        number, data = self.parts.registry.documents.current(Kind.REVOCATIONS)
        document = read_document(data, Kind.REVOCATIONS, [self.parts.authority.ca])
        return number, parse_revocations(document.lines)

    def test_list_forgotten(self) -> None:
        """Without it, the operator is told so once, as soon as a node comes that has the list."""
        self.parts.lose()
        node = self.show(self.old[0])
        with capturedLogs() as events:
            for number in (0, 7, 7):
                self.successResultOf(node.call(GetDocument, kind="revocations", number=number, offset=0))
        said = [event for event in events if event["log_level"] is LogLevel.error]
        self.assertEqual([event["number"] for event in said], [7])

    def test_prefix_given(self) -> None:
        """Who comes when its prefix, or a part of it, is another's has to join again."""
        self.parts.lose()
        now = datetime.fromtimestamp(self.parts.clock.seconds(), UTC)
        self.parts.clock.advance(60)
        given = prefix_of(self.parts.new_node())
        for bits in (given.bits, given.bits[:-3], given.bits + "01", ""):
            prefix, serial = Prefix.from_bits(bits), 1000 + len(bits)
            request = make_request(make_key(), [])
            self.refused(self.parts.authority.sign(request, prefix, serial, now))
        self.assertEqual(self.listed(), {given: "a@b.example"})
        check_space(self.parts.store._db)

    def test_two_certificates(self) -> None:
        """A node has all its certificates again, the newest of them last, in whatever order it shows them."""
        renewed = x509.load_pem_x509_certificate(
            self.parts.registry.renew(self.old[0].serial_number, request_pem()).encode()
        )
        for certificates in ((self.old[0], renewed), (renewed, self.old[0])):
            self.parts.lose()
            for certificate in certificates:
                self.successResultOf(self.show(certificate).call(GetPeers, count=1))
            (node,), _ = self.parts.store.nodes("", 9)
            self.assertEqual((node.prefix, node.serial), (Prefix(0, 16), renewed.serial_number))
            self.assertEqual(node.joined, (self.parts.clock.seconds() - DAY))

    def test_put_out_meanwhile(self) -> None:
        """A node that was revoked or released since does not come back with another of its certificates."""
        renewed = [
            self.parts.registry.renew(certificate.serial_number, request_pem()) for certificate in self.old
        ]
        self.parts.lose()
        for certificate in self.old:
            self.show(certificate)
        self.parts.registry.revocations.revoke("0/16", "", "uid 0")
        self.parts.store.release(Prefix(1, 16), "uid 0")
        self.parts.registry.revocations.revoke(str(self.old[2].serial_number), "", "uid 0")
        for pem in renewed:
            self.refused(x509.load_pem_x509_certificate(pem.encode()), CertificateRevoked)
        self.assertEqual(len(self.revoked_list()[1].revoked), 6)

    def test_disk_full(self) -> None:
        """Who cannot be recorded is told so, and is recorded on the same connection when there is room."""
        self.parts.lose()
        self.parts.store._db.execute("PRAGMA query_only = ON")
        node = self.show(self.old[0])
        failure = self.failureResultOf(node.call(GetPeers, count=1))
        self.assertIn("cannot write its database", str(failure.value))
        self.parts.store._db.execute("PRAGMA query_only = OFF")
        self.successResultOf(node.call(GetPeers, count=1))
        self.assertEqual(len(self.parts.registry.connections), 1)

    def test_newcomers(self) -> None:
        """Newcomers get none of the prefixes of nodes that have not come back, nor a neighbour's gap."""
        for come in (0, 1):
            self.parts.lose()
            for certificate in self.old[1:][:come]:
                self.show(certificate)
            given = {prefix_of(self.parts.new_node()) for _ in range(5)}
            self.assertEqual(len(given), 5)
            self.assertTrue(all(prefix.value >= 1 << 15 for prefix in given), given)
            for certificate in self.old:
                self.successResultOf(self.show(certificate).call(GetPeers, count=1))
            check_space(self.parts.store._db)

    @settings(max_examples=20, deadline=None)
    @given(
        st.lists(st.tuples(st.booleans(), st.sampled_from((3, 4, 5, 6))), max_size=40),
        st.lists(st.integers(3, 6), min_size=1, max_size=12),
    )
    def test_space(self, steps: list[tuple[bool, int]], lengths: list[int]) -> None:
        """In any order of returns and newcomers, all prefixes are apart, until the network is full."""
        parts = self.parts
        parts.lose(declared=False)
        waiting = [certificate for length in lengths if (certificate := self.join(parts, length))]
        parts.lose()
        parts.clock.advance(60)
        for returns, length in steps:
            if not returns:
                self.join(parts, length)
            elif waiting:
                Node(parts, certificate=waiting.pop())
            check_space(parts.store._db)

    def join(self, parts: Parts, length: int) -> x509.Certificate | None:
        """A new node with a prefix of this length; None when there is none left."""
        parts.store.add_token("t", None, length, kind="invitation")
        try:
            pem = parts.registry.request_certificate("t", request_pem(KEY))
        except NetworkFull:
            parts.store.drop_token("t")
            return None
        parts.store._db.execute("DELETE FROM token")
        return x509.load_pem_x509_certificate(pem.encode())


KEY = make_key()
