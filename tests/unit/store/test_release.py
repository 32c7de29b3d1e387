"""Prefixes that come back, tokens that are looked at, and what is noted of it all."""

from __future__ import annotations

import sqlite3

from tests.unit.store.signing import ENDS, KEY, sign
from tests.unit.store.space import check_space, prefixes
from tests.unit.store.test_registry import WHERE, StoreTestCase
from vifibnet.errors import NoSuchNode, StorageFailed, UnknownToken
from vifibnet.model.addresses import Prefix
from vifibnet.store.certificates import MARGIN
from vifibnet.store.registry import GRACE, TOKEN_LIFE

ONE = Prefix(0, 16)


class ReleaseTests(StoreTestCase):
    """A node that is gone for good."""

    def test_release(self) -> None:
        """It counts no longer from now on; nobody gets its prefix before its certificate has expired."""
        node = self.issue()
        (serial,) = self.db.execute("SELECT serial FROM certificate").fetchone()
        self.store.declare(node, WHERE)
        self.assertEqual(self.store.release(node, "uid 7"), ("a@example.com", ENDS + MARGIN))
        self.assertIsNone(self.store.node_by_serial(int(serial)))
        self.assertIsNone(self.store.certificate(node))
        self.assertIsNone(self.store.node_of_bits(node.bits + "0" * 64))
        self.assertEqual(self.store.peers(9), [])
        self.assertEqual(
            self.db.execute("SELECT serial, reason FROM revocation").fetchall(), [(serial, "released")]
        )
        self.assertEqual(self.issue(), Prefix(1, 16))
        self.now = ENDS + MARGIN - 1
        self.store.expire()
        self.assertEqual(self.issue(), Prefix(2, 16))
        self.now += 1
        self.assertEqual(self.store.expire(), 1)
        self.assertEqual(self.store.expire(), 0)
        self.assertEqual(self.issue(), node)
        check_space(self.db)

    def test_not_a_node(self) -> None:
        """What is nobody's cannot be released, nor what was."""
        with self.assertRaises(NoSuchNode):
            self.store.release(ONE, "uid 0")
        node = self.issue()
        self.store.release(node, "uid 0")
        with self.assertRaises(NoSuchNode):
            self.store.release(node, "uid 0")

    def test_certificate_is_not_to_be_had_again(self) -> None:
        """The token of a released node is worth nothing."""
        self.store.add_token("token", "a@example.com")
        self.store.issue("token", KEY, 16, sign)
        self.store.release(ONE, "uid 0")
        with self.assertRaises(UnknownToken):
            self.store.issue("token", KEY, 16, sign)

    def test_grace(self) -> None:
        """Who was not released keeps the prefix for the whole grace period after its certificate."""
        self.issue()
        self.now = ENDS + GRACE - 1
        self.store.expire()
        self.assertEqual(prefixes(self.db, given=True), ["0" * 16])
        self.now += 1
        self.assertEqual(self.store.expire(), 1)
        self.assertEqual(prefixes(self.db, given=True), [])
        self.assertEqual(prefixes(self.db, given=False), [""])

    def test_seen(self) -> None:
        """When a node was last seen is known; of others nothing is."""
        node = self.issue()
        self.store.seen(Prefix(9, 16))
        ((listed,), _) = self.store.nodes("", 9)
        self.assertIsNone(listed.seen)
        self.now += 5
        self.store.seen(node)
        ((listed,), _) = self.store.nodes("", 9)
        self.assertEqual(listed.seen, self.now)


class AuditTests(StoreTestCase):
    """Who did what."""

    def test_everything(self) -> None:
        """Each change with its time, its subject and who did it, and no token."""
        self.store.add_token("secret-1", "a@example.com")
        self.now += 1
        self.store.issue("secret-1", KEY, 16, sign)
        self.store.issue("secret-1", KEY, 16, sign)
        self.store.add_token("secret-2", None, kind="invitation", by="uid 7")
        self.store.drop_token("secret-2")
        self.store.drop_token("secret-1")
        self.store.note("backed up", "/backup", "uid 7")
        self.store.release(ONE, "uid 7")
        self.now = ENDS + MARGIN
        self.store.expire()
        (serial,) = self.db.execute("SELECT serial FROM revocation").fetchone()
        rows = self.db.execute("SELECT at, what, subject, by FROM audit ORDER BY id").fetchall()
        node, mail, here = f"0/16 serial {serial}", "a@example.com", 1e9 + 1
        self.assertEqual(
            rows,
            [
                (1e9, "token mailed", mail, mail),
                (here, "certificate issued", node, mail),
                (here, "certificate fetched again", node, mail),
                (here, "invited", "anybody", "uid 7"),
                (here, "token dropped", "anybody", "registry"),
                (here, "backed up", "/backup", "uid 7"),
                (here, "released", "0/16", "uid 7"),
                (self.now, "freed", "0/16", "registry"),
            ],
        )
        self.assertNotIn("secret", str(rows))

    def test_nothing_happened(self) -> None:
        """What was refused is not noted."""
        for call in (
            lambda: self.store.issue("no", KEY, 16, sign),
            lambda: self.store.release(ONE, "uid 0"),
        ):
            with self.assertRaises((UnknownToken, NoSuchNode)):
                call()
        self.store.drop_token("no")
        self.assertEqual(self.db.execute("SELECT * FROM audit").fetchall(), [])


class TokenTests(StoreTestCase):
    """Tokens by mail and by invitation."""

    def test_life(self) -> None:
        """An invitation is good for as long as it was made for."""
        self.store.add_token("short", None, kind="invitation", life=60)
        self.store.add_token("long", None, kind="invitation", life=7 * 86400)
        self.now += 60
        with self.assertRaises(UnknownToken):
            self.store.issue("short", KEY, 16, sign)
        self.now += 7 * 86400 - 61
        self.store.issue("long", KEY, 16, sign)

    def test_mailed(self) -> None:
        """Mails are counted by address, whatever its case; invitations are not mails."""
        for address in ("a@example.com", "A@Example.com", "b@example.com"):
            self.now += 100
            self.store.add_token(address, address)
        self.store.add_token("i", "a@example.com", kind="invitation")
        self.assertEqual(self.store.mailed_since("a@EXAMPLE.com", 1e9), 2)
        self.assertEqual(self.store.mailed_since("a@example.com", 1e9 + 100), 1)
        self.assertEqual(self.store.mailed_since("c@example.com", 1e9), 0)

    def test_mails_have_addresses(self) -> None:
        """Only an invitation may be for nobody in particular."""
        with self.assertRaises(sqlite3.IntegrityError):
            self.store.add_token("token", None)


class ListingTests(StoreTestCase):
    """Nodes and tokens, page by page."""

    def test_nodes(self) -> None:
        """Every node once, in the order of the prefixes, whatever the size of a page."""
        nodes = [self.issue(length) for length in (16, 16, 4, 12, 16, 8)]
        self.store.declare(nodes[2], WHERE)
        self.store.release(nodes[4], "uid 0")
        for size in range(1, 8):
            listed, start = [], ""
            while True:
                page, start = self.store.nodes(start, size)
                self.assertLessEqual(len(page), size)
                listed += page
                if not start:
                    break
            self.assertEqual([node.prefix for node in listed], sorted(nodes, key=lambda node: node.bits))
        by_prefix = {node.prefix: node for node in listed}
        declared, released, other = (by_prefix[nodes[n]] for n in (2, 4, 0))
        self.assertEqual((declared.endpoints, declared.seen), (WHERE, 1e9))
        self.assertEqual((released.released, released.revoked), (1e9, 1e9))
        self.assertEqual((other.endpoints, other.seen, other.released, other.revoked), ("", None, None, None))
        self.assertEqual((other.email, other.subject), ("a@example.com", "CN=0/16"))
        self.assertEqual((other.joined, other.expires), (1e9, ENDS))

    def test_whole_network(self) -> None:
        """A node whose prefix is the whole network is listed as well."""
        self.issue(0)
        (listed,), following = self.store.nodes("", 1)
        self.assertEqual((listed.prefix, following), (Prefix(0, 0), ""))

    def test_old_endpoints(self) -> None:
        """Where a node was a day ago is not shown."""
        self.store.declare(self.issue(), WHERE)
        self.now += 24 * 3600
        ((listed,), _) = self.store.nodes("", 9)
        self.assertEqual(listed.endpoints, "")

    def test_tokens(self) -> None:
        """Every token that is good once, the oldest first, also those of one moment."""
        for n in range(5):
            self.store.add_token(f"{n}", f"{n}@example.com", n or None)
            self.now += n % 2 * 0.1
        self.store.add_token("short", None, kind="invitation", life=0.5)
        self.store.issue("2", KEY, 16, sign)
        self.now += 1
        for size in range(1, 7):
            listed, start = [], ""
            while True:
                page, start = self.store.tokens(start, size)
                listed += page
                if not start:
                    break
            self.assertEqual(
                sorted(token.email or "" for token in listed), [f"{n}@example.com" for n in range(5)]
            )
            self.assertEqual([token.created for token in listed], sorted(token.created for token in listed))
        by_mail = {token.email: token for token in listed}
        self.assertEqual(by_mail["2@example.com"].used, Prefix(0, 2))
        self.assertEqual(by_mail["3@example.com"].used, None)
        self.assertEqual(by_mail["3@example.com"].prefix_length, 3)
        self.assertEqual(by_mail["0@example.com"].expires, 1e9 + TOKEN_LIFE)


class StorageTests(StoreTestCase):
    """What happens when nothing can be written."""

    def all_changes_fail(self) -> None:
        """Each says so, and what is there can be read."""
        before = list(self.db.iterdump())
        for change in (
            lambda: self.store.add_token("x" * 99, "a@example.com"),
            lambda: self.store.issue("token", KEY, 16, sign),
            lambda: self.store.drop_token("token"),
            lambda: self.store.declare(ONE, WHERE * 9999),
            lambda: self.store.note("x" * 9999, "x", "x"),
        ):
            with self.assertRaises(StorageFailed):
                change()
        self.assertEqual(list(self.db.iterdump()), before)
        self.assertIsNotNone(self.store.certificate(ONE))

    def test_read_only(self) -> None:
        """A database that cannot be written; then it can again."""
        self.issue()
        self.store.add_token("token", "a@example.com")
        self.db.execute("PRAGMA query_only = ON")
        self.all_changes_fail()
        self.db.execute("PRAGMA query_only = OFF")
        self.store.issue("token", KEY, 16, sign)
        self.assertEqual(self.issue(), Prefix(2, 16))
