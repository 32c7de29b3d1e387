"""Files whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.errors import BadInput
from vifibnet.files import NewFile, write_atomically, write_together


class FilesTestCase(SynchronousTestCase):
    """A directory."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "file"

    def names(self) -> list[str]:
        """All that is in the directory."""
        return sorted(os.listdir(self.directory))


class WriteTests(FilesTestCase):
    """One file."""

    @given(st.binary(max_size=5000))
    def test_writes(self, data: bytes) -> None:
        """The file holds what was given, and nothing else was left."""
        write_atomically(self.path, data, overwrite=True)
        self.assertEqual(self.path.read_bytes(), data)
        self.assertEqual(self.names(), ["file"])

    def test_mode(self) -> None:
        """The mode is the one asked for, whatever the umask."""
        for umask in (0, 0o077):
            self.addCleanup(os.umask, os.umask(umask))
            for mode in (0o600, 0o644):
                write_atomically(self.path, b"x", mode, overwrite=True)
                self.assertEqual(self.path.stat().st_mode & 0o777, mode)

    def test_secret_from_the_start(self) -> None:
        """A secret file is nobody else's business at any moment, under any name."""
        os.umask(os.umask(0))
        seen = []

        def spy(descriptor: int) -> None:
            seen.append(os.fstat(descriptor).st_mode & 0o777)

        with mock.patch("os.fsync", spy):
            write_atomically(self.path, b"secret", 0o600)
        self.assertEqual(seen[0], 0o600)

    def test_exists(self) -> None:
        """What exists stays, also a dangling link, unless it may be overwritten."""
        self.path.write_bytes(b"old")
        with self.assertRaises(BadInput) as caught:
            write_atomically(self.path, b"new")
        self.assertEqual(
            str(caught.exception), f"{self.path}: exists already; move it away or give another path."
        )
        self.assertEqual(self.path.read_bytes(), b"old")
        write_atomically(self.path, b"new", overwrite=True)
        self.assertEqual(self.path.read_bytes(), b"new")
        self.path.unlink()
        self.path.symlink_to(self.directory / "elsewhere")
        with self.assertRaises(BadInput):
            write_atomically(self.path, b"new")
        self.assertEqual(self.names(), ["file"])

    def test_made_meanwhile(self) -> None:
        """A file that another process makes at the last moment is not overwritten."""
        with mock.patch("os.path.lexists", return_value=False):
            self.path.write_bytes(b"theirs")
            with self.assertRaises(BadInput):
                write_atomically(self.path, b"ours")
        self.assertEqual(self.path.read_bytes(), b"theirs")
        self.assertEqual(self.names(), ["file"])

    def test_no_hard_links(self) -> None:
        """A file system without hard links will do."""
        refusal = OSError(errno.EPERM, "Operation not permitted")
        with mock.patch.object(Path, "hardlink_to", side_effect=refusal):
            write_atomically(self.path, b"x")
            with self.assertRaises(BadInput):
                write_atomically(self.path, b"y")
        self.assertEqual((self.path.read_bytes(), self.names()), (b"x", ["file"]))

    def test_cannot(self) -> None:
        """Where nothing can be written nothing is, and the sentence names the file."""
        self.path.write_bytes(b"no directory")
        for path in (self.path / "below", self.directory / "no" / "file", self.directory / ("x" * 300)):
            with self.assertRaises(BadInput) as caught:
                write_atomically(path, b"x")
            self.assertTrue(
                str(caught.exception).startswith(f"{path}: cannot be written ("), caught.exception
            )
        self.assertEqual(self.names(), ["file"])

    def test_full_disk(self) -> None:
        """A disk that fills up leaves no part of a file."""
        full = OSError(errno.ENOSPC, "No space left on device")
        with mock.patch("os.fsync", side_effect=full), self.assertRaises(BadInput) as caught:
            write_atomically(self.path, b"x")
        self.assertIn("No space left on device", str(caught.exception))
        self.assertEqual(self.names(), [])

    def test_secrets_do_not_show(self) -> None:
        """A file's content is not in its repr."""
        self.assertNotIn("secret", repr(NewFile(Path("ca.key"), b"secret")))


class TogetherTests(FilesTestCase):
    """Several files or none."""

    def test_all(self) -> None:
        """All are there."""
        write_together([NewFile(self.directory / name, name.encode()) for name in "abc"])
        self.assertEqual(self.names(), ["a", "b", "c"])

    def test_second_cannot_be_written(self) -> None:
        """The first is not there when there is no place for the second."""
        with self.assertRaises(BadInput):
            write_together([NewFile(self.path, b"1"), NewFile(self.directory / "no" / "2", b"2")])
        self.assertEqual(self.names(), [])

    def test_second_exists(self) -> None:
        """The first is not there when the second was there before, or came meanwhile."""
        (self.directory / "2").write_bytes(b"old")
        files = [NewFile(self.path, b"1"), NewFile(self.directory / "2", b"2")]
        for blind in (False, True):
            answer = mock.Mock(return_value=False) if blind else os.path.lexists
            with mock.patch("os.path.lexists", answer), self.assertRaises(BadInput) as caught:
                write_together(files)
            self.assertIn("/2: exists already", str(caught.exception))
            self.assertEqual(self.names(), ["2"])
        self.assertEqual((self.directory / "2").read_bytes(), b"old")
