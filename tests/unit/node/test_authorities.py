"""The authorities that a node trusts, from one run to the next, and as openvpn finds them."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fakes import NOW, FakeRegistry, clock
from tests.unit.pki.making import NETWORK, authority_of, openssl, revocation_list, successor
from vifibnet.errors import BadDocument, BadInput
from vifibnet.model.addresses import Network, Prefix
from vifibnet.node.authorities import Authorities, ca_directory_of, vouched_for, write_directory
from vifibnet.node.revocations import RevocationFiles
from vifibnet.pki.authority import Authority, create_authority
from vifibnet.pki.certificates import CA, load_cas, newest_first
from vifibnet.pki.document import authority_lines, sign_document
from vifibnet.wire.document import Kind
from vifibnet.wire.revocation import Revoked

BEGAN = datetime.fromtimestamp(NOW, UTC)
OLD = authority_of(*create_authority(NETWORK, now=BEGAN, days=100))
NEW = successor(OLD, now=BEGAN, wait=timedelta(days=30))
BOTH = (NEW.ca, OLD.ca)


def document(by: Authority, number: int, *cas: CA) -> bytes:
    """The document that names these."""
    return sign_document(by, Kind.AUTHORITIES, number, authority_lines(cas))


class AuthoritiesTests(SynchronousTestCase):
    """A node whose file holds the old one."""

    def setUp(self) -> None:
        self.state, self.run_in = Path(self.mktemp()), Path(self.mktemp())
        self.state.mkdir(mode=0o700)
        self.clock = clock()
        self.file = self.state / "ca.pem"
        self.file.write_bytes(OLD.ca_pem)
        self.authorities = self.start()

    def start(self) -> Authorities:
        """A run begins."""
        given = load_cas(self.file, "--ca")
        trusted = newest_first([*given, *vouched_for(self.state, given)])
        made = Authorities(self.clock.seconds, self.state, self.file, trusted, run=self.run_in)
        made.open()
        return made

    def files(self) -> set[bytes]:
        """What openvpn finds."""
        return {path.read_bytes() for path in ca_directory_of(self.state, self.run_in).iterdir()}

    def test_follows(self) -> None:
        """The new one is trusted as well, in this run and the next, and then alone."""
        self.assertEqual((self.authorities.cas(), self.authorities.number), ((OLD.ca,), 0))
        self.assertEqual(self.files(), {OLD.ca_pem})
        self.authorities.take(document(OLD, 5, *BOTH))
        for each in (self.authorities, self.start()):
            self.assertEqual((each.cas(), each.number), (BOTH, 5))
            self.assertEqual(each.signing(), OLD.ca)
        self.assertEqual(self.files(), {OLD.ca_pem, NEW.ca_pem})
        self.assertEqual(load_cas(self.file, "--ca"), BOTH)
        self.clock.advance(31 * 24 * 3600)
        self.assertEqual(self.authorities.signing(), NEW.ca)
        self.authorities.take(document(NEW, 6, NEW.ca))
        for each in (self.authorities, self.start()):
            self.assertEqual((each.cas(), each.number), ((NEW.ca,), 6))
        self.assertEqual(self.files(), {NEW.ca_pem})
        self.authorities.close()
        self.assertEqual(list(self.run_in.glob("*/*")), [])

    def test_not_believed(self) -> None:
        """Older ones, those of strangers or of another network, and what is none."""
        self.authorities.take(document(OLD, 5, *BOTH))
        for number in (5, 4):
            self.authorities.take(document(OLD, number, OLD.ca))
        other = authority_of(*create_authority(Network.parse("2001:db8:43::/48"), now=BEGAN))
        stranger = successor(OLD, now=BEGAN)
        for data in (
            document(stranger, 9, stranger.ca),
            document(other, 9, other.ca),
            document(OLD, 9, OLD.ca, other.ca),
            sign_document(OLD, Kind.AUTHORITIES, 9, []),
            sign_document(OLD, Kind.AUTHORITIES, 9, ["authority AAAA"]),
            revocation_list(OLD, 9, []),
            b"",
        ):
            self.assertRaises(BadDocument, self.authorities.take, data)
        self.assertEqual((self.authorities.cas(), self.start().cas()), (BOTH, BOTH))

    def test_expired(self) -> None:
        """What has expired vouches for nobody, but what it vouched for before still counts."""
        self.authorities.take(document(OLD, 5, *BOTH))
        self.clock.advance(101 * 24 * 3600)
        self.assertEqual((self.authorities.cas(), self.authorities.known()), ((NEW.ca,), BOTH))
        again = self.start()
        self.assertEqual((again.cas(), again.number), ((NEW.ca,), 0))
        third = successor(NEW, now=BEGAN + timedelta(days=101))
        self.assertRaises(BadDocument, again.take, document(OLD, 7, third.ca))
        # The same, signed by one that counts, is wanted and taken.
        again.take(document(NEW, 5, *BOTH))
        self.assertEqual(again.number, 5)
        self.assertRaises(BadDocument, again.take, document(third, 8, third.ca))

    def test_operators_file(self) -> None:
        """A file that cannot be written is no obstacle; another one that the operator put there wins over
        what an earlier one vouched for."""
        self.file.unlink()
        (self.state / "elsewhere").mkdir()
        self.file.symlink_to((self.state / "elsewhere" / "ca.pem").absolute())
        self.file.write_bytes(OLD.ca_pem)
        self.authorities.take(document(OLD, 5, *BOTH))
        self.assertTrue(self.file.is_symlink())
        self.assertEqual(load_cas(self.file, "--ca"), BOTH)
        self.file.write_bytes(OLD.ca_pem)
        self.assertEqual(self.start().cas(), BOTH)
        other = authority_of(*create_authority(NETWORK, now=BEGAN))
        self.file.write_bytes(other.ca_pem)
        self.assertEqual(self.start().cas(), (other.ca,))
        self.authorities._file = self.state / "nowhere" / "ca.pem"
        self.authorities.take(document(OLD, 6, OLD.ca))
        self.assertEqual(self.authorities.cas(), (OLD.ca,))

    def test_asked(self) -> None:
        """What the registry hands out is taken, or said to be none."""
        registry = FakeRegistry()
        for data in (None, b"x"):
            registry.documents = {} if data is None else {Kind.AUTHORITIES: data}
            self.successResultOf(Deferred.fromCoroutine(self.authorities.ask(registry)))
            self.assertEqual(self.authorities.number, 0)
        registry.documents[Kind.AUTHORITIES] = document(OLD, 5, *BOTH)
        self.successResultOf(Deferred.fromCoroutine(self.authorities.ask(registry)))
        self.assertEqual(registry.calls, ["authorities 0"] * 3)
        self.assertEqual(self.authorities.number, 5)

    def test_no_directory(self) -> None:
        """Without the directory openvpn would trust nobody: the node does not start."""
        Path("file").touch()
        made = Authorities(self.clock.seconds, self.state, self.file, [OLD.ca], run=Path("file"))
        self.assertRaises(BadInput, made.open)

    def test_modes(self) -> None:
        """Openvpn reads it as nobody, whatever the umask."""
        before = os.umask(0o077)
        self.addCleanup(os.umask, before)
        self.run_in = Path(self.mktemp())
        self.start()
        directory = ca_directory_of(self.state, self.run_in)
        [path] = directory.iterdir()
        places = (self.run_in, directory.parent, directory, path)
        self.assertEqual([place.stat().st_mode & 0o777 for place in places], [0o755] * 3 + [0o644])


class DirectoryTests(SynchronousTestCase):
    """As OpenSSL looks for them."""

    def test_names(self) -> None:
        """The names are those that openssl rehash gives, also of two with the same subject."""
        one, two = Path(self.mktemp()), Path(self.mktemp())
        same = authority_of(*create_authority(NETWORK, now=BEGAN, days=50))
        cas = [OLD.ca, NEW.ca, same.ca]
        for directory in (one, two):
            directory.mkdir()
        (one / "left-over.tmp").touch()
        write_directory(one, cas)
        for number, ca in enumerate(cas):
            (two / f"{number}.pem").write_bytes(ca.pem)
        openssl("rehash .", cwd=two)
        links = {path.name: path.read_bytes() for path in two.iterdir() if path.is_symlink()}
        self.assertEqual({path.name for path in one.iterdir()}, set(links))
        self.assertEqual(sorted(path.read_bytes() for path in one.iterdir()), sorted(links.values()))
        before = {path.name: path.stat().st_ino for path in one.iterdir()}
        write_directory(one, cas)
        self.assertEqual({path.name: path.stat().st_ino for path in one.iterdir()}, before)


class RevocationTests(SynchronousTestCase):
    """A list that was signed by an authority that is gone."""

    def test_signed_anew(self) -> None:
        """It holds, and is wanted anew; the same list is taken once, an older one never."""
        state, run = Path(self.mktemp()), Path(self.mktemp())
        state.mkdir()
        trusted: list[CA] = [*BOTH]
        kept = [*BOTH]
        start = partial(RevocationFiles, state, lambda: trusted, lambda: kept, run)
        files = start()
        files.open()
        revoked = [Revoked(11, Prefix(1, 16))]
        files.take(revocation_list(OLD, 5, revoked))
        self.assertEqual(files.number, 5)
        trusted.remove(OLD.ca)
        for each in (files, start()):
            each.open()
            self.assertEqual((each.number, each.listed.revoked), (0, tuple(revoked)))
        self.assertFalse(files.take(revocation_list(NEW, 4, [])))
        self.assertTrue(files.take(revocation_list(NEW, 5, revoked)))
        self.assertEqual(files.number, 5)
        self.assertFalse(files.take(revocation_list(NEW, 5, revoked)))
        kept.remove(OLD.ca)
        again = start()
        again.open()
        self.assertEqual((again.number, again.listed.revoked), (5, tuple(revoked)))
