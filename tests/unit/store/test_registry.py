"""The registry's store, case by case."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.store.signing import KEY, sign
from tests.unit.store.space import check_space, prefixes
from vifibnet.errors import BadInput, NetworkFull, UnknownNode, UnknownToken
from vifibnet.model.addresses import Network, Prefix
from vifibnet.store.database import open_database
from vifibnet.store.pem import Signed
from vifibnet.store.registry import (
    APPLICATION_ID,
    EXPIRE_AT_ONCE,
    PEER_LIFE,
    TOKEN_LIFE,
    RegistryStore,
)
from vifibnet.store.revocations import revoke

NETWORK = Network.parse("2001:db8:42::/48")
WHERE = "192.0.2.1,1194,udp"


def never(_prefix: Prefix, _serial: int) -> Signed:
    """Stands for a CA that is not to be asked."""
    raise AssertionError("signed again")


class StoreTestCase(SynchronousTestCase):
    """A store in memory, a clock, and a seeded random source."""

    def setUp(self) -> None:
        self.now = 1e9
        self.count = 0
        self.db = open_database(":memory", "registry", application_id=APPLICATION_ID)
        self.store = RegistryStore(self.db, lambda: self.now, random.Random(7))
        self.addCleanup(self.store.close)

    def issue(self, length: int = 16) -> Prefix:
        """One more node."""
        self.count += 1
        token = f"token {self.count}"
        self.store.add_token(token, "a@example.com", length)
        signed: list[Prefix] = []

        def note(prefix: Prefix, serial: int) -> Signed:
            signed.append(prefix)
            return sign(prefix, serial)

        self.store.issue(token, KEY, 99, note)
        return signed[0]


class IssueTests(StoreTestCase):
    """Tokens, prefixes and certificates."""

    def test_in_order(self) -> None:
        """The lowest prefix of the longest free piece is given, so that large pieces stay whole."""
        given = [str(self.issue(length)) for length in (16, 16, 4, 16, 8, 16)]
        self.assertEqual(given, ["0/16", "1/16", "1/4", "2/16", "1/8", "3/16"])
        check_space(self.db)

    def test_length_of_the_token(self) -> None:
        """The token's length goes before the default."""
        self.store.add_token("short", "a@example.com", 8)
        self.store.add_token("default", "a@example.com")
        self.assertEqual(self.store.issue("short", KEY, 16, sign).split("/")[1][:2], "8 ")
        self.assertEqual(self.store.issue("default", KEY, 16, sign).split("/")[1][:3], "16 ")

    def test_once(self) -> None:
        """A token is good for one key's certificate."""
        self.store.add_token("token", "a@example.com")
        self.store.issue("token", KEY, 16, sign)
        with self.assertRaises(UnknownToken):
            self.store.issue("token", b"another", 16, sign)

    def test_again(self) -> None:
        """With token and key the same certificate is to be had again, until the token expires."""
        self.store.add_token("token", "a@example.com")
        pem = self.store.issue("token", KEY, 16, sign)
        self.now += TOKEN_LIFE - 1
        self.assertEqual(self.store.issue("token", KEY, 16, never), pem)
        self.assertEqual(prefixes(self.db, given=True), ["0" * 16])
        self.now += 1
        with self.assertRaises(UnknownToken):
            self.store.issue("token", KEY, 16, sign)

    def test_not_again_when_revoked(self) -> None:
        """A revoked certificate is not given out again."""
        self.store.add_token("token", "a@example.com")
        serial = int(self.store.issue("token", KEY, 16, sign).split()[1])
        revoke(self.db, serial, self.now)
        with self.assertRaises(UnknownToken):
            self.store.issue("token", KEY, 16, sign)

    def test_a_day(self) -> None:
        """A token is good for 24 h and not for longer, also if nobody has expired it."""
        self.store.add_token("early", "a@example.com")
        self.store.add_token("late", "a@example.com")
        self.now += TOKEN_LIFE - 1
        self.store.issue("early", KEY, 16, sign)
        self.now += 1
        with self.assertRaises(UnknownToken):
            self.store.issue("late", KEY, 16, sign)

    def test_dropped(self) -> None:
        """A dropped token is no longer one; dropping what is not there is fine."""
        self.store.add_token("token", "a@example.com")
        self.store.drop_token("token")
        self.store.drop_token("token")
        with self.assertRaises(UnknownToken):
            self.store.issue("token", KEY, 16, sign)

    def test_failed_signing(self) -> None:
        """When signing fails the token stays good and the prefix free."""
        before = list(self.db.iterdump())
        self.store.add_token("token", "a@example.com")

        def fail(_prefix: Prefix, _serial: int) -> Signed:
            raise ZeroDivisionError

        with self.assertRaises(ZeroDivisionError):
            self.store.issue("token", KEY, 16, fail)
        self.store.drop_token("token")
        self.db.execute("DELETE FROM audit")
        self.assertEqual(list(self.db.iterdump()), before)

    def test_full(self) -> None:
        """A full network says so and keeps the token, which is good for a longer prefix then."""
        self.assertEqual([str(self.issue(1)) for _ in range(2)], ["0/1", "1/1"])
        with self.assertRaises(NetworkFull) as caught:
            self.issue(1)
        self.assertIn("of 1 bits", str(caught.exception))
        self.assertEqual(prefixes(self.db, given=False), [])

    def test_serial_is_asked_again_when_taken(self) -> None:
        """A random number that was given before is not given again."""
        draws = iter([5, 5, 6])
        self.patch(__import__("secrets"), "randbits", lambda _bits: next(draws))
        self.issue()
        self.issue()
        self.assertEqual(self.store.node_by_serial((1 << 126) + 5), Prefix(0, 16))
        self.assertEqual(self.store.node_by_serial((1 << 126) + 6), Prefix(1, 16))

    def test_durable(self) -> None:
        """An issue waits for the disk, what is less important does not."""
        path = self.mktemp()
        store = RegistryStore.open(path, NETWORK, lambda: self.now)
        self.addCleanup(store.close)
        seen = []

        def spy(prefix: Prefix, serial: int) -> Signed:
            seen.append(store._db.execute("PRAGMA synchronous").fetchone()[0])
            return sign(prefix, serial)

        store.add_token("token", "a@example.com")
        store.issue("token", KEY, 16, spy)
        self.assertEqual(seen, [2])
        self.assertEqual(store._db.execute("PRAGMA synchronous").fetchone()[0], 1)

    def test_look_ups(self) -> None:
        """What nobody has is None; a free prefix is nobody's."""
        prefix = self.issue()
        (serial,) = self.db.execute("SELECT serial FROM prefix WHERE serial IS NOT NULL").fetchone()
        self.assertEqual(self.store.node_by_serial(int(serial)), prefix)
        self.assertIsNone(self.store.node_by_serial(1))
        self.assertIsNone(self.store.certificate(Prefix(1, 16)))
        self.assertIsNone(self.store.certificate(Prefix(1, 17)))
        host = NETWORK.host_bits(NETWORK.address(prefix))
        assert host is not None
        self.assertEqual(self.store.node_of_bits(host), prefix)
        self.assertIsNone(self.store.node_of_bits("1" * 80))
        self.assertIsNone(self.store.node_of_bits(""))


class PeersTests(StoreTestCase):
    """Who can be reached where."""

    def declared(self, count: int) -> list[Prefix]:
        """So many nodes that said where they are."""
        nodes = [self.issue() for _ in range(count)]
        for node in nodes:
            self.store.declare(node, WHERE)
        return nodes

    def test_random(self) -> None:
        """Every peer comes about as often as any other."""
        nodes = self.declared(20)
        counts = dict.fromkeys(nodes, 0)
        for _ in range(400):
            for prefix, where in self.store.peers(5):
                self.assertEqual(where, WHERE)
                counts[prefix] += 1
        self.assertEqual(sum(counts.values()), 2000)
        self.assertGreater(min(counts.values()), 70)
        self.assertLess(max(counts.values()), 130)

    def test_exclude(self) -> None:
        """Those who are not wanted do not come, however many; the others all do."""
        nodes = self.declared(30)
        for _ in range(20):
            found = {prefix for prefix, _ in self.store.peers(5, nodes[:25])}
            self.assertEqual(found, set(nodes[25:]))
        self.assertEqual(self.store.bootstrap(nodes[1:]), (nodes[0], WHERE))
        self.assertIsNone(self.store.bootstrap(nodes))

    def test_nobody(self) -> None:
        """Without peers there are none."""
        self.assertEqual(self.store.peers(10), [])
        self.assertIsNone(self.store.bootstrap())

    def test_a_day(self) -> None:
        """Who did not declare for 24 h is not named, and gone when all is expired; the others stay."""
        early, late = self.declared(2)
        self.now += 3600
        self.store.declare(late, "192.0.2.9,1194,udp")
        self.now += PEER_LIFE - 3600
        self.assertEqual(self.store.peers(10), [(late, "192.0.2.9,1194,udp")])
        # One peer, and the two tokens that they joined with.
        self.assertEqual(self.store.expire(), 3)
        self.assertEqual(self.store.expire(), 0)
        self.assertEqual(self.store.peers(10), [(late, "192.0.2.9,1194,udp")])
        self.store.declare(early, WHERE)
        self.assertEqual(len(self.store.peers(10)), 2)

    def test_unreachable(self) -> None:
        """Who says that it cannot be reached is no longer named."""
        first, second, third = self.declared(3)
        self.store.declare(first, "")
        self.store.declare(first, "")
        self.assertEqual({prefix for prefix, _ in self.store.peers(9)}, {second, third})

    def test_nobodys_declaration(self) -> None:
        """Only nodes can be declared."""
        with self.assertRaises(UnknownNode):
            self.store.declare(Prefix(5, 16), WHERE)

    def test_expires_by_parts(self) -> None:
        """One call does not hold up the registry, however much there is to drop."""
        for n in range(EXPIRE_AT_ONCE + 5):
            self.store.add_token(str(n), "a@example.com")
        self.now += TOKEN_LIFE
        self.assertEqual([self.store.expire() for _ in range(3)], [EXPIRE_AT_ONCE, 5, 0])


class FileTests(SynchronousTestCase):
    """The registry's file."""

    def test_kept(self) -> None:
        """What was there is there again, in a file that nobody else reads."""
        path = Path(self.mktemp())
        first = RegistryStore.open(path, NETWORK, lambda: 1e9)
        first.add_token("token", "a@example.com")
        first.issue("token", KEY, 16, sign)
        first.close()
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        second = RegistryStore.open(path, NETWORK, lambda: 1e9)
        self.addCleanup(second.close)
        self.assertIsNotNone(second.certificate(Prefix(0, 16)))

    def test_another_networks(self) -> None:
        """A registry does not go on with the prefixes of another network."""
        path = Path(self.mktemp())
        RegistryStore.open(path, NETWORK, lambda: 1e9).close()
        with self.assertRaises(BadInput) as caught:
            RegistryStore.open(path, Network.parse("2001:db8:43::/48"), lambda: 1e9)
        self.assertEqual(
            str(caught.exception),
            f"--db {path}: belongs to another network (serial 0x120010db80042); give this network's file.",
        )

    def test_no_secrets(self) -> None:
        """The file holds no token that somebody could use."""
        path = Path(self.mktemp())
        store = RegistryStore.open(path, NETWORK, lambda: 1e9)
        store.add_token("correct-horse-battery", "a@example.com")
        store.close()
        self.assertIn(b"a@example.com", path.read_bytes())
        self.assertNotIn(b"correct-horse", path.read_bytes())

    def test_constraints(self) -> None:
        """The file itself refuses what must not be."""
        db = open_database(":memory:", "registry", application_id=APPLICATION_ID)
        self.addCleanup(db.close)
        for statement in (
            "INSERT INTO prefix (bits) VALUES ('012')",
            "INSERT INTO prefix (bits, serial) VALUES ('0', '5')",
            "INSERT INTO prefix (bits, serial, joined, expires) VALUES ('0', '5', 1.0, 2.0)",
            "INSERT INTO prefix (bits, released) VALUES ('0', 1.0)",
            "INSERT INTO certificate VALUES ('5', '0101', 'pem', 'CN=5/4', x'00', 1.0, 2.0)",
            "INSERT INTO token VALUES (x'00', 'mail', NULL, NULL, 1.0, 2.0, NULL)",
            "INSERT INTO token VALUES (x'00', 'pigeon', NULL, NULL, 1.0, 2.0, NULL)",
            "INSERT INTO peer VALUES (1, '0101', 'x', 1.0)",
            "INSERT INTO network VALUES (2, '0x1')",
        ):
            with self.assertRaises(sqlite3.IntegrityError, msg=statement):
                db.execute(statement)
