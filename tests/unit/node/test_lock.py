"""Paths of sockets, and names of taps. (Who holds the lock is tested in namespaces.)"""

import errno
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.errors import BadInput
from vifibnet.node import lock
from vifibnet.node.lock import SOCKET_PATH_MAX, check_state_path
from vifibnet.node.taps import client_taps, is_ours, server_taps


class StatePathTests(SynchronousTestCase):
    """Unix sockets must fit behind --state."""

    def test_limit(self) -> None:
        """The longest path that fits is accepted, the next one is not; bytes count."""
        longest = SOCKET_PATH_MAX - len("/vifc9999.sock")
        check_state_path(Path("/" + "x" * (longest - 1)))
        check_state_path(Path("/" + "é" * ((longest - 1) // 2)))
        for path in ("/" + "x" * longest, "/" + "é" * (longest // 2 + 1)):
            with self.assertRaises(BadInput) as caught:
                check_state_path(Path(path))
            sentence = str(caught.exception)
            self.assertTrue(sentence.startswith(f"--state {path}: "), sentence)
            self.assertIn(f"at most {longest} bytes", sentence)

    def test_relative(self) -> None:
        """A relative path is as long as where it leads."""
        self.assertRaises(BadInput, check_state_path, Path("x" * 93))


class LockTests(SynchronousTestCase):
    """The lock on a disk that is full."""

    def test_disk_full(self) -> None:
        """It is held nevertheless; who holds it is not said."""
        # Another process may be running this test.
        self.patch(lock, "NAME", f"\0vifibnet-test-lock-{os.getpid()}")
        state = Path(self.mktemp())
        state.mkdir()

        def write(*_: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.patch(os, "pwrite", write)
        held = lock.Lock(state)
        self.addCleanup(held.release)
        error = self.assertRaises(BadInput, lock.Lock, state)
        self.assertIn("another node uses this directory", str(error))


class TapTests(SynchronousTestCase):
    """The pool of names."""

    def test_names(self) -> None:
        """Ours are known, and fit Linux's 15 bytes."""
        names = (*client_taps(1000), *server_taps(20))
        self.assertEqual((names[0], names[-1], len(set(names))), ("vifc0", "vifs19", 1020))
        for name in names:
            self.assertTrue(is_ours(name))
            self.assertLessEqual(len(name), 15)

    @given(st.text())
    def test_others(self, name: str) -> None:
        """Nobody else's are."""
        self.assertEqual(is_ours(name), name in {*client_taps(10000), *server_taps(10000)})
        self.assertFalse(is_ours(f"x{name}"))
        self.assertFalse(is_ours("vifc0\n"))
