"""Database files: new, ours, somebody else's, older, newer."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.errors import BadInput
from vifibnet.store.database import back_up, open_database, statements, transaction

OURS = 0x12345678


class DatabaseTestCase(SynchronousTestCase):
    """A schema of its own with two versions."""

    def setUp(self) -> None:
        self.schema = Path(self.mktemp()).absolute()
        self.schema.mkdir()
        self.write("thing-1.sql", "CREATE TABLE thing (name TEXT); -- first; of all\n")
        self.path = Path(self.mktemp())

    def write(self, name: str, script: str) -> None:
        (self.schema / name).write_text(script)

    def second_version(self, script: str) -> None:
        """A newer program, whose upgrade is ``script``."""
        self.write("thing-2.sql", "CREATE TABLE thing (name TEXT, size INTEGER DEFAULT 7);")
        self.write("thing-1-to-2.sql", script)

    def open(self, path: Path | str | None = None, **how: Any) -> sqlite3.Connection:
        db = open_database(
            path or self.path, "thing", application_id=OURS, schema=self.schema, **how
        )  # fmt: skip
        self.addCleanup(db.close)
        return db

    def refusal(self, **how: Any) -> str:
        """The one sentence with which the file is refused."""
        with self.assertRaises(BadInput) as caught:
            self.open(**how)
        sentence = str(caught.exception)
        self.assertTrue(sentence.startswith(f"{self.path}: "), sentence)
        return sentence

    def with_one_thing(self) -> None:
        db = self.open()
        db.execute("INSERT INTO thing VALUES ('old')")
        db.close()


class OpenTests(DatabaseTestCase):
    """What is opened, and how."""

    def test_new(self) -> None:
        """A file that is not there is made, for us alone, whatever the umask."""
        self.addCleanup(os.umask, os.umask(0))
        db = self.open()
        db.execute("INSERT INTO thing VALUES ('a')")
        for path in (self.path, Path(f"{self.path}-wal")):
            self.assertEqual(path.stat().st_mode & 0o777, 0o600, path)
        self.assertEqual(db.execute("PRAGMA journal_mode").fetchone(), ("wal",))
        self.assertEqual(db.execute("PRAGMA foreign_keys").fetchone(), (1,))
        self.assertEqual(db.execute("PRAGMA user_version").fetchone(), (1,))

    def test_again(self) -> None:
        """What was written is there again."""
        self.with_one_thing()
        self.assertEqual(self.open().execute("SELECT * FROM thing").fetchall(), [("old",)])

    def test_in_memory(self) -> None:
        """Both names of the temporary database make no file, and each opening is a new one."""
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.schema)
        for name in (":memory:", ":memory"):
            self.open(name).execute("INSERT INTO thing VALUES ('a')")
            self.assertEqual(self.open(name).execute("SELECT * FROM thing").fetchall(), [])
        self.assertEqual([p.name for p in Path().iterdir()], ["thing-1.sql"])

    def test_empty_file(self) -> None:
        """An empty file is taken as new, unless something should be there."""
        self.path.touch()
        self.assertIn("is not a vifibnet thing database", self.refusal(create=False))
        self.open().execute("INSERT INTO thing VALUES ('a')")

    def test_missing(self) -> None:
        """A file that should be there and is not is not made."""
        self.assertIn("No such file", self.refusal(create=False))
        self.assertFalse(self.path.exists())

    def test_not_a_database(self) -> None:
        """Another file is left as it is."""
        self.path.write_bytes(b"-----BEGIN CERTIFICATE-----\n" * 100)
        self.assertIn("is not a vifibnet thing database", self.refusal())
        self.assertEqual(self.path.read_bytes(), b"-----BEGIN CERTIFICATE-----\n" * 100)

    def test_somebody_elses(self) -> None:
        """Another program's database, and another of ours, are left as they are."""
        for owner in (0, 99, OURS + 1):
            self.path = Path(self.mktemp())
            db = sqlite3.connect(self.path)
            db.execute("CREATE TABLE bookmarks (url)")
            db.execute(f"PRAGMA application_id = {owner}")
            db.close()
            before = self.path.read_bytes()
            self.assertIn("is not a vifibnet thing database", self.refusal())
            self.assertEqual(self.path.read_bytes(), before)

    def test_newer(self) -> None:
        """A newer program's file is left to it."""
        db = self.open()
        db.execute("PRAGMA user_version = 2")
        db.close()
        self.assertIn("has version 2, newer than this program's 1", self.refusal())

    def test_directories(self) -> None:
        """A directory is no file, and a missing one is not made."""
        self.path.mkdir()
        self.assertIn("Is a directory", self.refusal())
        self.path = self.path / "no" / "file"
        self.assertIn("No such file or directory", self.refusal())

    def test_sentence_names_the_option(self) -> None:
        """The caller says how the operator named the file."""
        self.path.write_bytes(b"x" * 5000)
        with self.assertRaises(BadInput) as caught:
            self.open(what="--db here")
        self.assertTrue(str(caught.exception).startswith("--db here: "))


class UpgradeTests(DatabaseTestCase):
    """From one version to the next."""

    def test_upgrade(self) -> None:
        """Old content in the new form, and a copy of the file as it was."""
        self.with_one_thing()
        self.second_version("ALTER TABLE thing ADD size INTEGER DEFAULT 7; UPDATE thing SET name = 'new';")
        self.assertEqual(self.open().execute("SELECT * FROM thing").fetchall(), [("new", 7)])
        copy = Path(f"{self.path}.version-1")
        self.assertEqual(copy.stat().st_mode & 0o777, 0o600)
        db = sqlite3.connect(copy)
        self.addCleanup(db.close)
        self.assertEqual(db.execute("SELECT * FROM thing").fetchall(), [("old",)])
        self.assertEqual(db.execute("PRAGMA user_version").fetchone(), (1,))

    def test_several_steps(self) -> None:
        """Each numbered upgrade runs once, in order; a new file starts with the newest."""
        self.with_one_thing()
        self.second_version("ALTER TABLE thing ADD size INTEGER DEFAULT 7;")
        self.write("thing-3.sql", "CREATE TABLE thing (name TEXT, size INTEGER, colour TEXT);")
        self.write("thing-2-to-3.sql", "ALTER TABLE thing ADD colour TEXT;\nUPDATE thing SET colour = size;")
        self.assertEqual(self.open().execute("SELECT * FROM thing").fetchall(), [("old", 7, "7")])
        self.assertEqual(self.open().execute("PRAGMA user_version").fetchone(), (3,))
        self.assertEqual(self.open(":memory:").execute("PRAGMA user_version").fetchone(), (3,))

    def test_failure_half_way(self) -> None:
        """An upgrade that fails at its last statement has not happened."""
        self.with_one_thing()
        self.second_version(
            "ALTER TABLE thing ADD size INTEGER;\nUPDATE thing SET name = 'new';\nDROP TABLE missing;"
        )
        for _ in range(2):
            sentence = self.refusal()
            self.assertIn("could not be upgraded from version 1 to 2 (no such table: missing)", sentence)
            self.assertIn(f"{self.path}.version-1", sentence)
        db = sqlite3.connect(self.path)
        self.addCleanup(db.close)
        self.assertEqual(db.execute("SELECT * FROM thing").fetchall(), [("old",)])
        self.assertEqual(db.execute("PRAGMA user_version").fetchone(), (1,))

    def test_backup_appears_whole(self) -> None:
        """A copy that cannot be completed does not appear."""
        db = self.open()
        copy = self.path / "below-a-file"
        with self.assertRaises(OSError):
            back_up(db, copy)
        self.assertEqual([p for p in self.path.parent.iterdir() if "tmp" in p.name and p.is_file()], [])


class TransactionTests(DatabaseTestCase):
    """All or nothing."""

    def test_all(self) -> None:
        """What is done inside is there afterwards, for others too."""
        db, other = self.open(), self.open()
        with transaction(db):
            db.execute("INSERT INTO thing VALUES ('a')")
            self.assertEqual(other.execute("SELECT * FROM thing").fetchall(), [])
        self.assertEqual(other.execute("SELECT * FROM thing").fetchall(), [("a",)])

    def test_nothing(self) -> None:
        """After an error nothing was done, and the next transaction is none the worse."""
        db = self.open()
        for durable in (False, True):
            with self.assertRaises(ZeroDivisionError), transaction(db, durable=durable):
                db.execute("INSERT INTO thing VALUES ('a')")
                raise ZeroDivisionError
            self.assertFalse(db.in_transaction)
            self.assertEqual(db.execute("SELECT * FROM thing").fetchall(), [])
        self.assertEqual(db.execute("PRAGMA synchronous").fetchone(), (1,))


class StatementsTests(SynchronousTestCase):
    """Scripts cut into statements."""

    def test_cut(self) -> None:
        """Semicolons in texts, comments and triggers do not end a statement."""
        trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN\n  DELETE FROM b;\n  DELETE FROM c;\nEND;\n"
        script = f"-- one; two\nSELECT ';';\n\n{trigger}SELECT 2; -- last\n-- end\n"
        cut = list(statements(script))
        self.assertEqual(len(cut), 3)
        self.assertEqual(cut[1].strip(), trigger.strip())

    def test_several_on_a_line(self) -> None:
        """Statements that share a line are told apart."""
        self.assertEqual([s.strip() for s in statements("SELECT 1; SELECT ';2'; SELECT 3;")],
                         ["SELECT 1;", "SELECT ';2';", "SELECT 3;"])  # fmt: skip

    def test_unfinished(self) -> None:
        """A script whose last statement has no end is a mistake of ours."""
        with self.assertRaises(ValueError):
            list(statements("SELECT 1;\nSELECT 2"))
