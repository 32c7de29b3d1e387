"""Registry databases of versions 1 and 2, written by those versions' schemas, become ones of today's."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.registry.parts import make_authority
from tests.unit.store.signing import sign
from tests.unit.store.space import check_space
from vifibnet.errors import BadInput, UnknownToken
from vifibnet.model.addresses import Network, Prefix
from vifibnet.pki.requests import make_key, make_request
from vifibnet.store.database import open_database, transaction
from vifibnet.store.lost import Remembered
from vifibnet.store.pem import key_hash
from vifibnet.store.registry import APPLICATION_ID, RegistryStore

NETWORK = Network.parse("2001:db8:42::/48")
NOW = 1_800_000_000.0
NODES = 5
OLD_SCHEMA = Path(__file__).parent / "schema"
WHERE = "192.0.2.1,1194,udp"


def shape(db: sqlite3.Connection) -> dict[str, str]:
    """Everything that the database is made of, without comments and spaces, by name."""
    rows = db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
    return {
        name: "".join(part for line in sql.splitlines() for part in line.partition("--")[0].split())
        for name, sql in rows
    }


class UpgradeTests(SynchronousTestCase):
    """From version 1 with nodes, tokens and peers in it."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        authority = make_authority(Path(self.mktemp()), NOW)
        self.keys = [make_key() for _ in range(NODES)]
        self.certificates = [
            authority.sign(make_request(key, [("O", f"node {n}")]), Prefix(n, 16), 1 << 126 | n, when())
            for n, key in enumerate(self.keys)
        ]
        with closing(
            open_database(self.path, "registry", application_id=APPLICATION_ID, schema=OLD_SCHEMA / "1")
        ) as db:
            self.fill(db)

    def fill(self, db: sqlite3.Connection) -> None:
        """What version 1 would have written."""
        self.assertEqual(db.execute("PRAGMA user_version").fetchone(), (1,))
        with transaction(db):
            db.execute("INSERT INTO network VALUES (1, ?)", (f"{NETWORK.serial:#x}",))
            db.execute("DELETE FROM prefix")
            for n, certificate in enumerate(self.certificates):
                pem = certificate.public_bytes(Encoding.PEM).decode()
                row = (f"{n:016b}", str(certificate.serial_number), f"{n}@example.com", pem, NOW - 5 + n)
                db.execute("INSERT INTO prefix VALUES (?, ?, ?, ?, ?)", row)
            free = ["0000000000000101", "000000000000011"] + ["0" * (n - 1) + "1" for n in range(1, 14)]
            db.executemany("INSERT INTO prefix (bits) VALUES (?)", [(bits,) for bits in free])
            for slot in (1, 2, 3):
                db.execute("INSERT INTO peer VALUES (?, ?, ?, ?)", (slot, f"{slot:016b}", WHERE, NOW - slot))
            for token, length, created in (("young", None, NOW - 3600), ("short", 8, NOW - 7200)):
                digest = hashlib.sha256(token.encode()).digest()
                db.execute("INSERT INTO token VALUES (?, 'new@example.com', ?, ?)", (digest, length, created))

    def open(self) -> RegistryStore:
        store = RegistryStore.open(self.path, NETWORK, lambda: NOW)
        self.addCleanup(store.close)
        return store

    def test_everything_is_there(self) -> None:
        """Nodes, peers and tokens are what they were, and the space is whole."""
        store = self.open()
        check_space(store._db)
        for n, certificate in enumerate(self.certificates):
            prefix = Prefix(n, 16)
            self.assertEqual(store.node_by_serial(certificate.serial_number), prefix)
            self.assertEqual(store.certificate(prefix), certificate.public_bytes(Encoding.PEM).decode())
            self.assertEqual(store.node_of_bits(prefix.bits + "0" * 64), prefix)
        self.assertEqual(store.expire(), 0)
        self.assertEqual({prefix.value for prefix, _ in store.peers(9)}, {1, 2, 3})
        self.assertEqual(store.mailed_since("New@example.com", NOW - 7000), 1)
        self.assertEqual(store.issue("young", b"key", 16, sign).split()[0], "5/16")
        self.assertEqual(store.issue("short", b"key", 16, sign).split()[0], "1/8")

    def test_what_is_new(self) -> None:
        """What version 2 knows besides is read from the certificates."""
        db = self.open()._db
        rows = db.execute(
            "SELECT email, joined, expires, last_seen, subject, key_hash, issued, not_after"
            " FROM prefix JOIN certificate USING (serial) ORDER BY prefix.bits"
        ).fetchall()
        ends = self.certificates[0].not_valid_after_utc.timestamp()
        expected = [
            (
                f"{n}@example.com", NOW - 5 + n, ends, NOW - n if n in (1, 2, 3) else None,
                self.certificates[n].subject.rfc4514_string(), key_hash(self.keys[n].public_key()),
                NOW - 5 + n, ends,
            )
            for n in range(NODES)
        ]  # fmt: skip
        self.assertEqual(rows, expected)
        self.assertIn("O=node 3", rows[3][4])
        self.assertEqual(
            db.execute("SELECT what, subject, by FROM audit").fetchall(),
            [("upgraded", f"the database to version {n}", "registry") for n in (2, 3)],
        )

    def test_tokens_end_as_they_would_have(self) -> None:
        """An old token is good for the 24 h that its mail said."""
        store = RegistryStore.open(self.path, NETWORK, lambda: NOW + 23 * 3600)
        self.addCleanup(store.close)
        with self.assertRaises(UnknownToken):
            store.issue("young", b"key", 16, sign)

    def test_same_as_new(self) -> None:
        """An upgraded database is made like a new one, and as sound."""
        upgraded = self.open()._db
        new = open_database(":memory:", "registry", application_id=APPLICATION_ID)
        self.addCleanup(new.close)
        self.assertEqual(shape(upgraded), shape(new))
        for pragma in ("user_version", "application_id"):
            self.assertEqual(
                upgraded.execute(f"PRAGMA {pragma}").fetchone(), new.execute(f"PRAGMA {pragma}").fetchone()
            )
        self.assertEqual(upgraded.execute("PRAGMA foreign_key_check").fetchall(), [])
        self.assertEqual(upgraded.execute("PRAGMA integrity_check").fetchall(), [("ok",)])

    def test_backed_up(self) -> None:
        """The copy that is kept is a database of version 1 with everything in it."""
        before = dump(self.path)
        self.open()
        self.assertEqual(dump(Path(f"{self.path}.version-1")), before)

    def test_failure_half_way(self) -> None:
        """A certificate that cannot be read ends the upgrade: the old database is as it was, for the old
        program to go on with."""
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute("UPDATE prefix SET certificate = 'rubbish' WHERE bits = '0000000000000011'")
        before = dump(self.path)
        for _ in range(2):
            with self.assertRaises(BadInput) as caught:
                self.open()
            self.assertIn("could not be upgraded from version 1 to 3", str(caught.exception))
            self.assertEqual(dump(self.path), before)
        with closing(
            open_database(self.path, "registry", application_id=APPLICATION_ID, schema=OLD_SCHEMA / "1")
        ) as db:
            self.assertEqual(db.execute("PRAGMA user_version").fetchone(), (1,))


class FromTwoTests(SynchronousTestCase):
    """From version 2, with a row in each table."""

    TABLES = ("network", "prefix", "certificate", "token", "peer", "parameter", "audit")

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        db = open_database(self.path, "registry", application_id=APPLICATION_ID, schema=OLD_SCHEMA / "2")
        with closing(db), transaction(db):
            self.assertEqual(db.execute("PRAGMA user_version").fetchone(), (2,))
            db.execute("INSERT INTO network VALUES (1, ?)", (f"{NETWORK.serial:#x}",))
            db.execute("DELETE FROM prefix")
            db.execute("INSERT INTO prefix VALUES ('0', '7', 'a@b.example', ?, 2e9, ?, NULL)", (NOW, NOW))
            db.execute("INSERT INTO prefix (bits) VALUES ('1')")
            db.execute("INSERT INTO certificate VALUES ('7', '0', 'PEM', 'CN=0/1', x'00', ?, 2e9)", (NOW,))
            db.execute("INSERT INTO certificate VALUES ('6', '0', 'PEM', 'CN=0/1', x'00', ?, 2e9)", (NOW,))
            db.execute("INSERT INTO revocation VALUES (1800000005, '6', '0', ?, 2e9, 'lost')", (NOW,))
            db.execute(
                "INSERT INTO token VALUES (x'00', 'mail', 'a@b.example', 1, ?, ?, '7')", (NOW, NOW + 9)
            )
            db.execute("INSERT INTO peer VALUES (1, '0', ?, ?)", (WHERE, NOW))
            db.execute("INSERT INTO parameter VALUES ('hello', '0.5', ?)", (NOW,))
            db.execute("UPDATE parameter_version SET number = 5")
            db.execute("INSERT INTO audit VALUES (1, ?, 'issued', '0/1', 'a@b.example')", (NOW,))
            self.before = {table: self.rows(db, table) for table in self.TABLES}

    @staticmethod
    def rows(db: sqlite3.Connection, table: str) -> list[object]:
        """What is in a table."""
        return db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()  # noqa: S608

    def test_everything_is_there(self) -> None:
        """All is what it was; the database is like a new one, and none that was lost."""
        store = RegistryStore.open(self.path, NETWORK, lambda: NOW)
        self.addCleanup(store.close)
        db = store._db
        after = {table: self.rows(db, table) for table in self.TABLES}
        (*audit, upgraded) = after["audit"]
        self.assertEqual({**after, "audit": audit}, self.before)
        self.assertIn("the database to version 3", str(upgraded))
        self.assertEqual(self.rows(db, "revocation"), [(1800000005, "6", "0", NOW, 2e9, "lost", 0)])
        self.assertEqual(self.rows(db, "parameter_version"), [(1, 5)])
        self.assertEqual(self.rows(db, "lost"), [])
        self.assertFalse(store.lost.takes_in)
        self.assertFalse(store.lost.begin(Remembered(), 2e9))
        new = open_database(":memory:", "registry", application_id=APPLICATION_ID)
        self.addCleanup(new.close)
        self.assertEqual(shape(db), shape(new))
        self.assertEqual(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        self.assertEqual(db.execute("PRAGMA foreign_key_check").fetchall(), [])


def when() -> datetime:
    """Now, as certificates have it."""
    return datetime.fromtimestamp(NOW, UTC)


def dump(path: Path) -> list[str]:
    """The whole content of a database."""
    with closing(sqlite3.connect(path)) as db:
        return list(db.iterdump())
