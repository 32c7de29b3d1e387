"""The revocation list on the node's disk."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fakes import node
from tests.unit.pki.making import NETWORK, NOW, authority, authority_of, revocation_list
from vifibnet.errors import BadDocument, BadInput
from vifibnet.node import revocations
from vifibnet.node.revocations import RevocationFiles, directory_of
from vifibnet.pki.authority import create_authority
from vifibnet.wire.document import Kind
from vifibnet.wire.revocation import RevocationList, Revoked

ONE, TWO = Revoked(11, node(1)), Revoked(22, node(2), node=False)


class FilesTests(SynchronousTestCase):
    """What is kept, and what openvpn sees."""

    def setUp(self) -> None:
        """A state directory that only its owner may enter."""
        self.state, self.run_in = Path(self.mktemp()), Path(self.mktemp())
        self.state.mkdir(mode=0o700)
        self.files = self.opened()

    def opened(self) -> RevocationFiles:
        """A node starts."""
        files = RevocationFiles(self.state, lambda: [authority().ca], run=self.run_in)
        files.open()
        return files

    def names(self) -> set[str]:
        """What openvpn finds."""
        return {path.name for path in directory_of(self.state, self.run_in).iterdir()}

    def test_life(self) -> None:
        """A list is kept from one run to the next; what it does not name any more openvpn forgets."""
        self.assertEqual((self.files.number, self.files.listed, self.names()), (0, RevocationList(), set()))
        self.assertTrue(self.files.welcome(node(1), 11))
        self.assertTrue(self.files.take(revocation_list(authority(), 5, [ONE, TWO])))
        self.assertEqual((self.files.number, self.files.nodes()), (5, {node(1)}))
        self.assertEqual(self.names(), {"11", "22"})
        self.assertFalse(self.files.welcome(node(1), 99))
        self.assertFalse(self.files.welcome(node(1), None))
        self.assertFalse(self.files.welcome(node(2), 22))
        self.assertTrue(self.files.welcome(node(2), 99))
        self.assertTrue(self.files.welcome(node(2), None))
        other = RevocationFiles(self.run_in, lambda: [authority().ca], run=self.run_in)
        other.open()
        self.files.close()
        self.assertEqual(len(list(self.run_in.iterdir())), 1)
        other.close()
        self.assertFalse(self.run_in.exists())
        again = self.opened()
        self.assertEqual((again.number, self.names()), (5, {"11", "22"}))
        self.assertTrue(again.take(revocation_list(authority(), 6, [TWO])))
        self.assertEqual(self.names(), {"22"})
        # As after a SIGKILL: what openvpn looks at is still there.
        (directory_of(self.state, self.run_in) / "99").touch()
        self.assertEqual((self.opened().number, self.names()), (6, {"22"}))

    def test_never_back(self) -> None:
        """An older list, or another of the same number, changes nothing; nor does one that is none."""
        self.files.take(revocation_list(authority(), 5, [ONE]))
        for number in (4, 5, 0):
            self.assertFalse(self.files.take(revocation_list(authority(), number, [])))
        stranger = authority_of(*create_authority(NETWORK, now=NOW))
        for document in (revocation_list(stranger, 9, []), b"", b"x"):
            self.assertRaises(BadDocument, self.files.take, document)
        self.assertEqual((self.files.number, self.opened().number), (5, 5))

    def test_damaged(self) -> None:
        """A damaged file is no reason not to start."""
        (self.state / Kind.REVOCATIONS).write_bytes(b"vifibnet revocation")
        self.assertEqual(self.opened().number, 0)
        (self.state / Kind.REVOCATIONS).unlink()
        (self.state / Kind.REVOCATIONS).mkdir()
        files = self.opened()
        # Nor is a disk that cannot be written a reason to trust somebody.
        self.assertTrue(files.take(revocation_list(authority(), 5, [ONE])))
        self.assertEqual((files.number, self.names()), (5, {"11"}))

    def test_modes(self) -> None:
        """Everybody may look, whatever the umask, and nobody else may write."""
        before = os.umask(0o077)
        self.addCleanup(os.umask, before)
        run_in = Path(self.mktemp())
        files = RevocationFiles(self.state, lambda: [authority().ca], run=run_in)
        files.open()
        files.take(revocation_list(authority(), 5, [ONE]))
        directory = directory_of(self.state, run_in)
        modes = [path.stat().st_mode & 0o777 for path in (run_in, directory, directory / "11")]
        self.assertEqual(modes, [0o755, 0o755, 0o644])

    def test_no_directory(self) -> None:
        """Without the directory openvpn would accept everybody: the node does not start."""
        Path("file").touch()
        files = RevocationFiles(self.state, lambda: [authority().ca], run=Path("file"))
        self.assertRaises(BadInput, files.open)

    def test_two_nodes(self) -> None:
        """Each state directory has a directory of its own."""
        self.assertNotEqual(directory_of(Path("/a")), directory_of(Path("/b")))
        self.assertEqual(directory_of(Path("/a")).parent, revocations.RUN)
