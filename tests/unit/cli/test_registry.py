"""The registry's command line: the manual's, and every way to get it wrong."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import run

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.ports import free_port
from tests.unit.registry.parts import NETWORK
from vifibnet.cli.hangup import Hangup
from vifibnet.cli.lost import REMEDY
from vifibnet.cli.registry import Options, makeService, reread
from vifibnet.errors import VifibnetError
from vifibnet.model.addresses import Network, Prefix
from vifibnet.pki.authority import create_authority
from vifibnet.pki.document import sign_document
from vifibnet.registry.service import RegistryConfig, RegistryService
from vifibnet.store.lost import Remembered
from vifibnet.store.registry import RegistryStore
from vifibnet.wire.document import Kind
from vifibnet.wire.revocation import Revoked, format_revocations

NOW = datetime.now(UTC)


class OptionTests(SynchronousTestCase):
    """Options and refusals."""

    def setUp(self) -> None:
        """A CA, and a free port."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.ca, self.key = self.authority("ca")
        self.port = free_port()
        self.db = self.directory / "registry.db"

    def authority(self, name: str, **how: object) -> tuple[Path, Path]:
        """Write a CA; its certificate and key."""
        key, certificate = create_authority(NETWORK, **{"now": NOW, **how})  # type: ignore[arg-type]
        paths = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        paths[0].write_bytes(certificate)
        paths[1].write_bytes(key)
        return paths

    def words(self, *more: str, **changed: object) -> list[str]:
        """The manual's command line, with some of it changed."""
        given = {"db": self.db, "ca": self.ca, "key": self.key, "mailhost": "mail.example", **changed}
        port = given.pop("port", self.port)
        options = [word for name, value in given.items() if value for word in (f"--{name}", str(value))]
        return [*([str(port)] if port else []), *options, *more]

    def parse(self, *more: str, **changed: object) -> RegistryConfig:
        """Parse and return the config."""
        options = Options()
        options.parseOptions(self.words(*more, **changed))
        return options.config

    def refused(self, *more: str, **changed: object) -> str:
        """The one sentence; nothing is written."""
        before = {path: path.read_bytes() for path in self.directory.rglob("*") if path.is_file()}
        text = self.assertRaises(SystemExit, self.parse, *more, **changed).code
        after = {path: path.read_bytes() for path in self.directory.rglob("*") if path.is_file()}
        self.assertEqual(before, after)
        assert isinstance(text, str)
        self.assertNotIn("\n", text)
        self.assertTrue(text.startswith("vifibnet-registry: "), text)
        self.assertTrue(text.endswith("."), text)
        return text.removeprefix("vifibnet-registry: ")

    def test_the_manuals(self) -> None:
        """PORT --db --ca --key --mailhost is all it takes, and it writes nothing yet."""
        config = self.parse()
        host = socket.gethostname()
        self.assertEqual(config.port, self.port)
        self.assertEqual(config.db, str(self.db))
        self.assertEqual(config.authorities.network, NETWORK)
        self.assertEqual((config.mailhost, config.mail_port), ("mail.example", 25))
        self.assertEqual((config.mail_from, config.server), (f"vifibnet@{host}", host))
        self.assertEqual((config.names, config.interfaces, config.plain_http), ((), (), ()))
        self.assertFalse(self.db.exists())
        self.assertNotIn("PRIVATE", repr(config))

    def test_more(self) -> None:
        """All the others."""
        http = free_port()
        config = self.parse(
            "--name", "r.example", "--name", "192.0.2.1", "--name", "r.example", "--interface", "127.0.0.1",
            "--interface", "::1", "--mail-from", "a@b.example", "--mail-port", "2525",
            "--plain-http", f"tcp:{http}:interface=127.0.0.1",
            "--plain-http", f"tcp6:{http}:interface=\\:\\:1",
        )  # fmt: skip
        self.assertEqual(config.names, ("r.example", "192.0.2.1"))
        self.assertEqual(config.server, "r.example")
        self.assertEqual(config.interfaces, ("127.0.0.1", "::1"))
        self.assertEqual((config.mail_from, config.mail_port), ("a@b.example", 2525))
        self.assertEqual(len(config.plain_http), 2)

    def test_temporary_databases(self) -> None:
        """The manual's name and SQLite's; other paths are made absolute."""
        for name in (":memory", ":memory:"):
            self.assertEqual(self.parse(db=name).db, name)
        self.assertEqual(self.parse(db="some.db").db, str(Path("some.db").absolute()))

    def test_admin_socket(self) -> None:
        """Beside the database, or elsewhere; its directory's name may be of any length, its own not."""
        self.assertEqual(self.parse(db="some.db").admin_socket, str(Path("some.db.sock").absolute()))
        deep = self.directory / ("x" * 100)
        deep.mkdir(parents=True)
        for name in ("s", "s" * 87):
            config = self.parse("--admin-socket", str(deep / name))
            self.assertEqual(config.admin_socket, str(deep / name))
        said = self.refused("--admin-socket", str(deep / ("s" * 88)))
        self.assertTrue(said.startswith(f"--admin-socket {deep}/s"), said)
        self.assertIn("may have 87 bytes, this has 88; give a shorter name", said)
        self.assertTrue(self.refused(db="d" * 90).startswith(f"--db {'d' * 90}: "))
        self.assertIn("is no directory", self.refused("--admin-socket", str(deep / "absent" / "s")))

    def test_lost_database(self) -> None:
        """A node's state directory, with documents of this network, or none; nothing else."""
        self.assertIsNone(self.parse().lost)
        config = self.parse("--lost-database", "none")
        self.assertEqual(config.lost, Remembered())
        revoked = (Revoked(7, Prefix(5, 16)),)
        by = config.authorities.known(datetime.now(UTC))
        there = Path(self.mktemp())
        self.assertIn("no document of a node's", self.refused("--lost-database", str(there)))
        there.mkdir()
        file = there / "revocations"
        file.write_bytes(sign_document(by, Kind.REVOCATIONS, 3, format_revocations(revoked)))
        self.assertEqual(self.parse("--lost-database", str(there)).lost, Remembered(3, revoked))
        (there / "parameters").write_bytes(sign_document(by, Kind.PARAMETERS, 4, ["hello 0.5"]))
        self.assertEqual(
            self.parse("--lost-database", str(there)).lost, Remembered(3, revoked, 4, {"hello": 0.5})
        )
        file.write_bytes(file.read_bytes().replace(b"revoked 7", b"revoked 8"))
        for path, problem in ((there, "authority did not sign it"), (file, "Not a directory")):
            said = self.refused("--lost-database", str(path))
            self.assertTrue(said.startswith(f"--lost-database {path}: "), said)
            self.assertIn(problem, said)
            self.assertTrue(said.endswith(f"; {REMEDY}."), said)

    def test_service(self) -> None:
        """twistd gets a service."""
        options = Options()
        options.parseOptions(self.words())
        service = makeService(options)
        assert isinstance(service, MultiService)
        self.assertEqual([type(each) for each in service], [Hangup, RegistryService])

    def test_hangup(self) -> None:
        """Mails and the certificates' life may change while it runs; the rest takes a restart."""
        file = self.directory / "options"
        file.write_text("\n".join(f"{name} {path}" for name, path in (("ca", self.ca), ("key", self.key))))
        options = Options()
        mail = ["--db", str(self.db), "--mailhost", "mail.example"]
        options.parseOptions([str(self.port), *mail, f"@{file}"])
        told: list[RegistryConfig] = []

        class Fake:
            """Keeps what it is told."""

            def obey(self, config: RegistryConfig) -> None:
                """Keep it."""
                told.append(config)

        def hangup() -> Deferred[None]:
            return Deferred.fromCoroutine(reread(options, Fake()))  # type: ignore[arg-type]

        with file.open("a") as lines, socket.create_server(("", self.port)):
            lines.write("\nmail-port 2525\ncert-days 7\ngrace 3\nname 192.0.2.1\n")
            lines.flush()
            with capturedLogs() as events:
                # Its own port is in use now, of course.
                self.successResultOf(hangup())
        self.assertEqual((told[0].mail_port, told[0].cert_days, told[0].names), (2525, 7.0, ()))
        self.assertEqual(
            [formatEvent(event) for event in events],
            [
                "SIGHUP: changed: --mail-port, --cert-days",
                "SIGHUP: --name, --grace stay as before: the registry has to be started anew for that",
            ],
        )
        file.write_text("mail-port x")
        self.assertIn("--mail-port", str(self.failureResultOf(hangup(), VifibnetError).value))
        self.assertEqual((len(told), options.config.mail_port), (1, 2525))

    def test_ports(self) -> None:
        """Out of range, no number, missing, in use."""
        for port in (0, 65536, -1, "x", "80x"):
            self.assertIn("give an integer from 1 to 65535", self.refused(port=port or "0"))
        self.assertIn("PORT: missing", self.refused(port=None))
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family) as other:
                other.bind((address, 0))
                other.listen()
                port = other.getsockname()[1]
                self.assertTrue(self.refused(port=port).startswith(f"PORT {port}: is in use; "))

    def test_missing(self) -> None:
        """The manual's options are all needed."""
        for name in ("db", "ca", "key", "mailhost"):
            self.assertIn(f"--{name}: missing", self.refused(**{name: None}))

    def test_unknown(self) -> None:
        """Other options, and what stands behind --."""
        self.assertIn("--nope: unknown option", self.refused("--nope"))
        self.assertIn("--fast-io: unexpected argument", self.refused("--", "--fast-io"))

    def test_ca_and_key(self) -> None:
        """Unreadable, mismatched, expired, not yet valid, without a network."""
        other_ca, other_key = self.authority("other")
        old, old_key = self.authority("old", now=NOW - timedelta(days=10), days=5)
        early, early_key = self.authority("early", now=NOW + timedelta(days=10))
        nonet, nonet_key = self.directory / "nonet.crt", self.directory / "nonet.key"
        run(
            ["openssl", "req", "-nodes", "-new", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:P-256", "-keyout", nonet_key, "-out", nonet, "-subj", "/CN=x",
             "-set_serial", "0x7"],
            check=True, capture_output=True,
        )  # fmt: skip
        none = self.directory / "none"
        self.assertTrue(self.refused(ca=none).startswith(f"--ca {none}: cannot be read ("))
        self.assertTrue(self.refused(key=none).startswith(f"--key {none}: cannot be read ("))
        self.assertIn("holds no certificate", self.refused(ca=self.key))
        self.assertIn("holds no private key", self.refused(key=self.ca))
        self.assertIn(f"--key {other_key}: is not the key of --ca {self.ca}", self.refused(key=other_key))
        self.assertIn("is not the key", self.refused(ca=other_ca))
        self.assertIn(f"--ca {old}: expired on ", self.refused(ca=old, key=old_key))
        self.assertIn(f"--ca {early}: is not valid before ", self.refused(ca=early, key=early_key))
        sentence = self.refused(ca=nonet, key=nonet_key)
        self.assertIn("its serial number 0x7 holds no IPv6 network; vifibnet ca --network", sentence)

    def test_databases(self) -> None:
        """No directory, a directory, somebody else's file, another network's."""
        self.assertIn("cannot be made (No such file", self.refused(db=self.directory / "no" / "x.db"))
        self.assertIn("cannot be made", self.refused(db="/proc/x.db"))
        self.assertIn("Is a directory", self.refused(db=self.directory))
        foreign = self.directory / "foreign.db"
        foreign.write_text("hello\n" * 1000)
        self.assertIn("is not a vifibnet registry database", self.refused(db=foreign))
        another = Network.parse("2001:db8:43::/48")
        RegistryStore.open(self.db, another, NOW.timestamp).close()
        self.assertIn("belongs to another network", self.refused())

    def test_words(self) -> None:
        """Names, interfaces, mail addresses and endpoints."""
        for option, value, problem in (
            ("--name", "a b", "is neither an IP address nor a DNS name"),
            ("--name", "", "is neither an IP address nor a DNS name"),
            ("--interface", "203.0.113.7", "is no address of this machine"),
            ("--interface", "nope", "is no IP address"),
            ("--mail-from", "nobody", "is no e-mail address"),
            ("--mail-from", "", "is no e-mail address"),
            ("--mail-port", "0", "'0' is out of range or no number"),
            ("--plain-http", "nope", "is no server endpoint"),
            ("--plain-http", "", "is no server endpoint"),
            ("--plain-http", "tcp:x", "is no server endpoint"),
            ("--plain-http", "tcp:80:nope=1", "is no server endpoint"),
            ("--plain-http", "tcp:99999", "is no server endpoint"),
            ("--plain-http", "tcp:8080:interface=203.0.113.7", "cannot listen (Cannot assign requested"),
            ("--plain-http", f"tcp:{self.port}", "cannot listen (Address already in use)"),
        ):
            sentence = self.refused(option, value)
            self.assertTrue(sentence.startswith(f"{option} {value}: " if option != "--mail-port" else option))
            self.assertIn(problem, sentence)
        self.assertIn("is neither an IP address nor a name", self.refused(mailhost="a b"))
