"""Copies of the registry's database, and one put back."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.store.signing import KEY, sign
from tests.unit.store.space import check_space, prefixes
from vifibnet.errors import BadInput, UnknownToken
from vifibnet.model.addresses import Network, Prefix
from vifibnet.store.backup import copy_database
from vifibnet.store.lock import DatabaseLock
from vifibnet.store.registry import RegistryStore
from vifibnet.store.restore import Restored, restore_database
from vifibnet.store.takeover import Taken

NETWORK = Network.parse("2001:db8:42::/48")
NOW = 1e9


class BackupCase(SynchronousTestCase):
    """A registry's database in a directory of its own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.path = self.directory / "registry.db"
        self.backup = self.directory / "backup.db"
        self.now = NOW
        self.count = 0

    def open(self, path: Path | None = None, network: Network = NETWORK) -> RegistryStore:
        """A store that is closed with the test."""
        store = RegistryStore.open(path or self.path, network, lambda: self.now)
        self.addCleanup(store.close)
        return store

    def issue(self, store: RegistryStore, length: int = 16) -> Prefix:
        """One more node; its token is ``token N``."""
        self.count += 1
        store.add_token(f"token {self.count}", "a@example.com", length)
        return Prefix.parse(store.issue(f"token {self.count}", KEY, length, sign).split()[0])

    def files(self) -> set[str]:
        """What is in the directory."""
        return set(os.listdir(self.directory))


class CopyTests(BackupCase):
    """While the registry goes on."""

    def test_copy(self) -> None:
        """All of it as it is at one moment, in one file that only its owner reads."""
        store = self.open()
        for _ in range(5):
            self.issue(store)
        copied = copy_database(store.path, self.backup)
        self.assertEqual((copied.nodes, copied.size), (5, self.backup.stat().st_size))
        self.assertEqual(self.backup.stat().st_mode & 0o777, 0o600)
        self.issue(store)
        copy = self.open(self.backup)
        self.assertEqual(len(copy.nodes("", 99)[0]), 5)
        check_space(copy._db)

    def test_meanwhile(self) -> None:
        """Certificates are issued while a thread copies; each copy is sound."""
        store = self.open()
        failures: list[BaseException] = []

        def copy() -> None:
            try:
                for n in range(20):
                    copy_database(str(self.path), self.directory / f"copy-{n}")
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=copy)
        thread.start()
        issued = 0
        while thread.is_alive() and issued < 2000:
            self.issue(store)
            issued += 1
        thread.join(30)
        self.assertEqual(failures, [])
        self.assertGreater(issued, 3)
        for n in range(20):
            with closing(sqlite3.connect(self.directory / f"copy-{n}")) as db:
                check_space(db)
                self.assertEqual(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
                self.assertEqual(db.execute("PRAGMA foreign_key_check").fetchall(), [])
        # The locks of SQLite are still ours.
        self.issue(store)

    def test_refused(self) -> None:
        """What cannot be is said in a sentence, and leaves nothing."""
        self.issue(self.open())
        before = self.files()
        self.backup.write_text("mine")
        for target, problem in (
            (self.backup, "exists already"),
            (self.directory / "no" / "where", "No such file or directory"),
            (Path("/proc/backup"), "cannot be written"),
        ):
            with self.assertRaisesRegex(BadInput, problem):
                copy_database(str(self.path), target)
        with self.assertRaisesRegex(BadInput, "in memory"):
            copy_database("", self.directory / "copy")
        self.assertEqual(self.backup.read_text(), "mine")
        self.assertEqual(self.files(), {*before, "backup.db"})


class RestoreTests(BackupCase):
    """With no registry running."""

    def restore(self) -> Restored:
        """Put the backup back."""
        return restore_database(self.backup, self.path, "uid 7", self.now)

    def test_lost(self) -> None:
        """Where there is no database any more, the backup is it."""
        store = self.open()
        self.issue(store)
        copy_database(store.path, self.backup)
        store.close()
        self.path.unlink()
        self.assertEqual(self.restore(), Restored(1, None, None))
        self.assertEqual(self.files(), {"backup.db", "registry.db"})
        again = self.open()
        # Who joined since the backup was made may have any of the first prefixes.
        self.assertGreaterEqual(self.issue(again).value, 1 << 15)
        self.assertEqual(
            again._db.execute("SELECT subject, by FROM audit WHERE what = 'restored'").fetchall(),
            [("backup.db", "uid 7")],
        )

    def test_damaged(self) -> None:
        """A database that cannot be read is kept as it is, with what lies beside it."""
        store = self.open()
        self.issue(store)
        copy_database(store.path, self.backup)
        store.close()
        self.path.write_bytes(b"garbage" * 999)
        Path(f"{self.path}-wal").write_bytes(b"old")
        done = self.restore()
        self.assertEqual((done.nodes, done.taken), (1, None))
        assert done.kept is not None
        self.assertEqual(done.kept.read_bytes(), b"garbage" * 999)
        self.assertEqual(self.files(), {"backup.db", "registry.db", done.kept.name, f"{done.kept.name}-wal"})
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        check_space(self.open()._db)

    def test_taken_over(self) -> None:
        """Nodes, revocations and used tokens since the backup are not forgotten."""
        store = self.open()
        stays, goes = self.issue(store), self.issue(store)
        store.add_token("open", "a@example.com")
        store.add_token("used", "a@example.com")
        copy_database(store.path, self.backup)
        self.now += 10
        used = Prefix.parse(store.issue("used", KEY, 16, sign).split()[0])
        joined = self.issue(store, 4)
        store.release(goes, "uid 0")
        store._db.execute("INSERT INTO parameter VALUES ('hello', '0.5', 1.0)")
        store._db.execute("UPDATE parameter_version SET number = ?", (int(NOW) + 5,))
        store.close()
        self.now += 10
        done = self.restore()
        self.assertEqual((done.nodes, done.taken), (3, Taken(2, 1, 0)))
        again = self.open()
        check_space(again._db)
        self.assertEqual(again._db.execute("PRAGMA foreign_key_check").fetchall(), [])
        listed = {node.prefix: node for node in again.nodes("", 9)[0]}
        self.assertEqual(set(listed), {stays, goes, used, joined})
        self.assertEqual((listed[goes].released, listed[stays].released), (NOW + 10, None))
        self.assertIsNotNone(listed[goes].revoked)
        with self.assertRaises(UnknownToken):
            again.issue("used", b"another key", 16, sign)
        self.assertEqual(again.issue("used", KEY, 16, sign).split()[0], str(used))
        again.issue("open", KEY, 16, sign)
        self.assertEqual(again._db.execute("SELECT * FROM parameter").fetchall(), [])
        ((number,),) = again._db.execute("SELECT number FROM parameter_version").fetchall()
        self.assertGreater(number, NOW + 5)

    def test_killed(self) -> None:
        """What a killed registry left only in its -wal file is taken over, and kept."""
        store = self.open()
        self.issue(store)
        copy_database(store.path, self.backup)
        self.issue(store)
        for suffix in ("", "-wal"):
            # As the machine has it after a SIGKILL.
            (self.directory / f"crashed{suffix}").write_bytes(Path(f"{self.path}{suffix}").read_bytes())
        crashed = self.directory / "crashed"
        done = restore_database(self.backup, crashed, "uid 7", self.now)
        self.assertEqual((done.nodes, done.taken), (2, Taken(1, 0, 0)))
        assert done.kept is not None
        with closing(sqlite3.connect(done.kept)) as kept:
            self.assertEqual(len(prefixes(kept, given=True)), 2)
        check_space(self.open(crashed)._db)

    def test_somebody_elses_by_now(self) -> None:
        """A backup in which the prefix is another node's: that is told, and the space stays whole."""
        store = self.open()
        self.issue(store)
        copy_database(store.path, self.backup)
        store.close()
        self.path.unlink()
        other = self.open()
        self.now += 1
        self.issue(other, 12)
        self.issue(other, 4)
        other.close()
        done = self.restore()
        self.assertEqual(done.taken, Taken(1, 0, 1))
        check_space(self.open()._db)

    def test_old_backup(self) -> None:
        """A backup that version 1 wrote is upgraded on the way, itself left as it is."""
        from tests.unit.store.test_upgrade import UpgradeTests, dump

        made = UpgradeTests()
        made._testMethodName = "test_backed_up"
        made.setUp()
        made.path.rename(self.backup)
        before = dump(self.backup)
        self.assertEqual(self.restore().nodes, 5)
        self.assertEqual(dump(self.backup), before)
        self.assertEqual(self.files(), {"backup.db", "registry.db"})
        check_space(self.open()._db)

    def test_refused(self) -> None:
        """Whatever is wrong with the backup, or a registry that runs: one sentence, and nothing happened."""
        self.issue(self.open())
        other = self.open(self.directory / "other.db", Network.parse("2001:db8:43::/48"))
        copy_database(other.path, self.directory / "other")
        (self.directory / "text").write_text("hello" * 999)
        (self.directory / "empty").touch()
        sound = copy_database(str(self.path), self.directory / "sound")
        damaged = bytearray((self.directory / "sound").read_bytes())
        damaged[sound.size // 2 : sound.size // 2 + 9000] = b"x" * 9000
        (self.directory / "damaged").write_bytes(damaged)
        before = self.files()
        for name, problem in (
            ("none", "there is no such file"),
            ("text", "is not a vifibnet registry database"),
            ("empty", "is not a vifibnet registry database"),
            ("damaged", "is damaged"),
            ("other", "belongs to another network"),
        ):
            with self.assertRaisesRegex(BadInput, problem):
                restore_database(self.directory / name, self.path, "uid 7", self.now)
        lock = DatabaseLock(self.path, "--db")
        with self.assertRaisesRegex(BadInput, "is in use by a running registry"):
            restore_database(self.directory / "sound", self.path, "uid 7", self.now)
        lock.release()
        self.assertEqual(self.files(), before)
        restore_database(self.directory / "sound", self.path, "uid 7", self.now)


class LockTests(BackupCase):
    """One registry for one database."""

    def test_lock(self) -> None:
        """One holds it at a time; it makes the file for its owner alone."""
        lock = DatabaseLock(self.path, "--db x")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        with self.assertRaisesRegex(
            BadInput, "^--db x: is in use by a running registry; stop that one first"
        ):
            DatabaseLock(self.path, "--db x")
        self.issue(self.open())
        lock.release()
        DatabaseLock(self.path, "--db x").release()
        with self.assertRaisesRegex(BadInput, "cannot be opened"):
            DatabaseLock(self.directory, "--db x")
