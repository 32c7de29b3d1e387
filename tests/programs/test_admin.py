"""The operator's commands and the real ``twistd vifibnet-registry``."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.threads import deferToThread
from twisted.protocols.amp import AMP
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.directories import short_directory
from tests.integration.processes import PYTHON, ROOT, TWISTD, Process
from tests.ports import free_port
from tests.unit.registry.parts import make_authority
from tests.unit.store.space import check_space
from vifibnet.pki.certificates import Identity
from vifibnet.pki.document import read_document
from vifibnet.pki.tls import client_options
from vifibnet.wire.amp import ALPN, Declare, DocumentChanged, GetPeers
from vifibnet.wire.document import Document, Kind
from vifibnet.wire.invitation import Invitation

reactor: Any = _reactor
WIDTH = 100


class Node(AMP):
    """A node's side of a connection."""

    def __init__(self) -> None:
        AMP.__init__(self)
        self.gone: Deferred[None] = Deferred()
        self.told: DeferredQueue[str] = DeferredQueue()

    @DocumentChanged.responder
    def document_changed(self, kind: str, number: int) -> dict[str, Any]:
        """There is a new document."""
        self.told.put(kind)
        return {}

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell who waits for it."""
        AMP.connectionLost(self, reason)
        self.gone.callback(None)

    def close(self) -> Deferred[None]:
        """End it, if it has not ended."""
        if not self.gone.called:
            transport: Any = self.transport
            transport.abortConnection()
        return self.gone


class AdminCase(TestCase):
    """A registry on loopback, its database in a directory whose name is longer than a socket's may be."""

    timeout = 120

    def setUp(self) -> None:
        self.home = short_directory(self)
        self.directory = self.home / ("a long name " * 8)
        self.authority = make_authority(self.directory, time.time())
        self.database = self.directory / "registry.db"
        self.port = free_port()

    async def start(self, *options: str, prefix: Sequence[str] = ()) -> Process:
        """Start twistd and wait until it listens."""
        process = Process(
            [
                TWISTD, "-n", "--pidfile=", "vifibnet-registry", str(self.port), "--db", self.database,
                "--ca", self.directory / "ca.crt", "--key", self.directory / "ca.key",
                "--mailhost", "localhost", "--interface", "127.0.0.1", *options,
            ],
            self.home,
            prefix,
        )  # fmt: skip
        self.addCleanup(process.kill)
        await deferToThread(process.wait_for, "listens on port")
        return process

    async def run_command(
        self, *words: str | Path, status: int = 0, before: Sequence[str] = ()
    ) -> tuple[str, str]:
        """Run ``vifibnet`` with these words; what it prints on stdout and stderr."""

        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*before, PYTHON, "-m", "vifibnet", *map(str, words)],
                cwd=self.home,
                env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(WIDTH)},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

        done = await deferToThread(run)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        return done.stdout, done.stderr

    async def admin(self, *words: str | Path) -> str:
        """Run one of the operator's commands; what it prints."""
        out, _ = await self.run_command(*words, "--registry", self.database)
        return out

    async def refused(self, *words: str | Path) -> str:
        """The one sentence with which a command fails."""
        out, err = await self.run_command(*words, "--registry", self.database, status=1)
        self.assertEqual((out, err.count("\n")), ("", 1), err)
        return err.strip()

    async def nodes(self) -> list[dict[str, Any]]:
        """What ``vifibnet nodes --json`` prints."""
        nodes: list[dict[str, Any]] = json.loads(await self.admin("nodes", "--json"))
        return nodes

    async def join(self, name: str, *options: str) -> Path:
        """One machine joins by an invitation; its directory."""
        invitation = (await self.admin("invite", *options)).strip()
        out, err = await self.run_command("setup", invitation, "--dir", self.home / name)
        self.assertEqual(err, "")
        self.assertIn("Everything is there", out)
        return self.home / name

    def identity(self, directory: Path) -> Identity:
        """A node as its files have it."""
        ca, certificate, key = (directory / name for name in ("ca.pem", "cert.crt", "cert.key"))
        return Identity.load(ca, certificate, key, datetime.now(UTC))

    async def connect(self, directory: Path) -> Node:
        """Connect as that node."""
        options = client_options([self.authority.ca], self.identity(directory), [ALPN])
        factory: Factory = Factory.forProtocol(Node)
        factory.noisy = False
        endpoint = wrapClientTLS(options, HostnameEndpoint(reactor, "127.0.0.1", self.port))
        node: Any = await endpoint.connect(factory)
        self.addCleanup(node.close)
        connected: Node = node
        return connected

    def rows(self, query: str) -> list[Any]:
        """What the database holds."""
        with closing(sqlite3.connect(self.database)) as db:
            return db.execute(query).fetchall()


class LifeTests(AdminCase):
    """A network's administration from the first invitation to a restored backup."""

    async def test_life(self) -> None:
        """Invite, join, look, release, back up, restore."""
        registry = await self.start()
        self.assertIn("No node has joined yet", await self.admin("nodes"))
        one = await self.join("one", "--email", "one@example.com")
        two = await self.join("two", "--prefix-length", "12")
        node = await self.connect(two)
        await node.callRemote(Declare, endpoints="192.0.2.1,1194,udp;192.0.2.1,1194,tcp-client")

        text = await self.admin("nodes")
        lines = text.splitlines()
        self.assertLessEqual(max(map(len, lines)), WIDTH, text)
        self.assertRegex(lines[1], r"^0/16 +2001:db8:42::1 +\d+ s ago +20..-..-.. +one@example.com +–$")
        self.assertRegex(
            lines[2], r"^1/12 +2001:db8:42:10::1 +connected +20..-..-.. +– +192.0.2.1,1194,udp \+1$"
        )
        self.assertIn("2 nodes, 1 connected", text)
        found = await self.nodes()
        self.assertEqual([(n["prefix"], n["connected"]) for n in found], [("0/16", False), ("1/12", True)])
        tokens = await self.admin("tokens")
        self.assertLessEqual(max(map(len, tokens.splitlines())), WIDTH, tokens)
        self.assertRegex(tokens, r"invitation +one@example.com .* 0/16\n")
        self.assertRegex(tokens, r"invitation +anybody .* 12 +1/12\n")
        self.assertEqual(len(json.loads(await self.admin("tokens", "--json"))), 2)
        said = await self.admin("status")
        self.assertRegex(said, r"^registry of 2001:db8:42::/48, version \S+, up for \d+ s\n")
        self.assertIn("\n2 nodes, 1 connected, 1 can be reached by others\n", said)
        answer = json.loads(await self.admin("status", "--json"))
        self.assertEqual((answer["nodes"], answer["tokens"], answer["declared"]), (2, 2, 1))
        self.assertIn("\nvifibnet_nodes 2\n", await self.admin("status", "--metrics"))

        backup = self.home / "backup.db"
        self.assertRegex(await self.admin("backup", backup), r"2 nodes, \d+ bytes\n$")
        self.assertEqual(backup.stat().st_mode & 0o777, 0o600)
        self.assertIn("exists already", await self.refused("backup", backup))
        self.assertIn("is in use by a running registry", await self.refused("restore", backup))

        said = await self.admin("release", "2001:db8:42:10::99")
        self.assertRegex(said, r"^1/12 \(2001:db8:42:10::1\) is no node any more.*\n.*free.* 20\d\d-", said)
        await node.gone
        cut = await self.connect(two)
        failed: list[object] = []
        cut.callRemote(GetPeers, count=1).addErrback(failed.append)
        await cut.gone
        self.assertTrue(failed)
        self.assertIn("'1/12' is no node", await self.refused("release", "1/12"))
        self.assertIn("released", await self.admin("nodes"))
        three = await self.join("three", "--prefix-length", "12")
        self.assertEqual(str(self.identity(three).prefix), "2/12")
        audit = self.rows("SELECT what, subject, by FROM audit ORDER BY id")
        by = f"uid {os.getuid()}"
        self.assertEqual(audit[0], ("parameter set", "hello=1", "registry"))
        self.assertEqual(audit[2], ("parameter set", "babel-key", "registry"))
        self.assertEqual(audit[3], ("invited", "one@example.com", by))
        self.assertEqual(audit[-3], ("released", "1/12", by))
        self.assertEqual([what for what, _, _ in audit].count("certificate issued"), 3)

        await deferToThread(registry.terminate)
        await self.restored(backup, one)

    async def restored(self, backup: Path, one: Path) -> None:
        """The backup is put back, what happened since is not forgotten, and the registry goes on."""
        said = await self.admin("restore", backup)
        self.assertIn("Taken over from it: 1 node that joined since the backup, 1 revocation", said)
        (kept,) = self.directory.glob("registry.db.replaced-*")
        self.assertIn(str(kept), said)
        await self.start()
        found = {n["prefix"]: n for n in await self.nodes()}
        self.assertEqual(set(found), {"0/16", "1/12", "2/12"})
        self.assertIsNotNone(found["1/12"]["released"])
        self.assertIsNotNone(found["1/12"]["revoked"])
        node = await self.connect(one)
        self.assertEqual((await node.callRemote(GetPeers, count=9))["peers"], [])
        self.assertEqual(self.rows("SELECT what, subject FROM audit")[-1], ("restored", "backup.db"))
        with closing(sqlite3.connect(self.database)) as db:
            check_space(db)
            self.assertEqual(db.execute("PRAGMA foreign_key_check").fetchall(), [])

    async def test_lost_database(self) -> None:
        """With the database gone a backup brings the registry back."""
        registry = await self.start()
        one = await self.join("one")
        backup = self.home / "backup.db"
        await self.admin("backup", backup)
        await deferToThread(registry.kill)
        for file in self.directory.glob("registry.db*"):
            file.unlink()
        said = await self.admin("restore", backup)
        self.assertIn("must join again", said)
        await self.start()
        await (await self.connect(one)).callRemote(GetPeers, count=1)
        self.assertTrue((await self.nodes())[0]["connected"])

    async def test_sentences(self) -> None:
        """What goes wrong is told in one line, and nothing has happened."""
        for command in (["nodes"], ["tokens"], ["set"], ["invite"], ["release", "5/16"], ["backup", "x"]):
            self.assertIn("No registry answers at", await self.refused(*command))
        self.assertIn("there is no such file", await self.refused("restore", "x"))
        await self.start()
        for words, part in (
            (["invite", "--valid", "soon"], "--valid soon: is no time"),
            (["invite", "--valid", "1000d"], "one minute to one year"),
            (["invite", "--count", "0"], "--count 0"),
            (["invite", "--prefix-length", "99"], "1 to 79 bits"),
            (["invite", "--email", "nobody"], "is no e-mail address|is not an e-mail address"),
            (["release", "everything"], "'everything' is no node"),
            (["backup", "/nowhere/backup"], "No such file or directory"),
            (["backup", "/proc/backup"], "cannot be written"),
        ):
            self.assertRegex(await self.refused(*words), part)
        self.assertEqual(self.rows("SELECT * FROM token"), [])
        again = Process(
            [
                TWISTD, "-n", "--pidfile=", "vifibnet-registry", str(free_port()), "--db", self.database,
                "--ca", self.directory / "ca.crt", "--key", self.directory / "ca.key", "--mailhost", "x",
            ],
            self.home,
        )  # fmt: skip
        self.addCleanup(again.kill)
        self.assertEqual(await deferToThread(again.end), 1)
        self.assertIn("is in use by a running registry; stop that one first", again.errors)

    async def test_killed(self) -> None:
        """What a killed registry leaves does not hinder the next one, wherever its socket is."""
        place = str(self.home / "admin")
        for _ in range(2):
            registry = await self.start("--admin-socket", place)
            out, _ = await self.run_command("nodes", "--socket", place)
            self.assertIn("No node", out)
            await deferToThread(registry.kill)
        self.assertTrue(Path(place).is_socket())

    async def test_strangers(self) -> None:
        """The socket is for its owner and root, and whoever else got at it is hung up on."""
        await self.start("--admin-socket", f"/tmp/vifibnet-test-{os.getpid()}.sock")
        place = Path(f"/tmp/vifibnet-test-{os.getpid()}.sock")
        self.addCleanup(place.unlink, missing_ok=True)
        self.assertEqual(place.stat().st_mode & 0o777, 0o600)

        def ask() -> str:
            script = (
                "import os, socket, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
                "s = socket.socket(socket.AF_UNIX); s.settimeout(20)\n"
                "try: s.connect(sys.argv[1])\n"
                "except PermissionError: print('not allowed'); sys.exit()\n"
                "call = b'\\0\\4_ask\\0\\1a\\0\\10_command\\0\\12ListTokens\\0\\5after\\0\\0\\0\\0'\n"
                "try: s.sendall(call); print(len(s.recv(9)))\n"
                "except ConnectionError: print(0)\n"
            )
            return subprocess.run(
                ["/usr/bin/env", "python3", "-c", script, str(place)],
                capture_output=True, text=True, timeout=30, check=True, cwd="/",
            ).stdout.strip()  # fmt: skip

        self.assertEqual(await deferToThread(ask), "not allowed")
        place.chmod(0o666)
        self.assertEqual(await deferToThread(ask), "0")
        out, _ = await self.run_command("tokens", "--socket", place)
        self.assertIn("There are no tokens", out)

    async def test_many_invitations(self) -> None:
        """More than one answer holds; only they go to stdout; the code is as wide as a terminal."""
        await self.start("--name", "registry.example.com", "--name", "192.0.2.7")
        out, err = await self.run_command("invite", "--count", "150", "--registry", self.database)
        invitations = [Invitation.parse(line) for line in out.splitlines()]
        self.assertEqual(len({invitation.token for invitation in invitations}), 150)
        self.assertEqual(invitations[0].addresses, ("registry.example.com", "192.0.2.7"))
        self.assertEqual(invitations[0].port, self.port)
        self.assertIn("150 invitations to 2001:db8:42::/48 for anybody", err)
        self.assertLessEqual(max(map(len, err.splitlines())), WIDTH)
        for invitation in invitations[:3]:
            self.assertNotIn(invitation.token.encode(), self.database.read_bytes())
        code = await self.admin("invite", "--qr")
        self.assertLess(max(map(len, code.splitlines()[1:])), 60)
        self.assertTrue(set("".join(code.splitlines()[1:])) <= set("█▄▀ "), code)


class ParametersTests(AdminCase):
    """What holds for the whole network."""

    def document(self, directory: Path) -> Document:
        """What the setup wrote."""
        file = directory / "parameters"
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)
        return read_document(file.read_bytes(), Kind.PARAMETERS, [self.authority.ca])

    async def test_set(self) -> None:
        """List, change, refuse; who joins has them in a file, who is connected is told."""
        registry = await self.start()
        text = await self.admin("set")
        self.assertLessEqual(max(map(len, text.splitlines())), WIDTH, text)
        self.assertRegex(text, r"\n  babel-key +set \(since 20..-..-..\) ")
        self.assertRegex(text, r"\n  hello +1 +babel's hello interval")
        one = await self.join("one")
        first = self.document(one)
        [key] = [line for line in first.lines if line.startswith("babel-key ")]
        self.assertEqual(first.lines, (key, "hello 1", "update-interval 20"))

        node = await self.connect(one)
        await node.callRemote(GetPeers, count=1)
        said = await self.admin("set", "hello=0.1", "mtu=1380")
        self.assertIn("hello: 0.1 (was 1), applies when babeld is started anew, within", said)
        self.assertIn("1 node connected to the registry and told at once", said)
        self.assertIn("Mind: A hello below 0.2 s", said)
        self.assertEqual(await node.told.get(), "parameters")
        found = {each["name"]: each for each in json.loads(await self.admin("set", "--json"))}
        self.assertEqual((found["hello"]["value"], found["mtu"]["value"]), (0.1, 1380))
        self.assertEqual((found["babel-key"]["value"], found["roll"]["value"]), (True, None))
        second = self.document(await self.join("two"))
        self.assertEqual(second.lines, (key, "hello 0.1", "mtu 1380", "update-interval 20"))
        self.assertGreater(second.number, first.number)

        for words, part in (
            (["hello"], "hello: is no change; write NAME=VALUE"),
            (["hello=9999"], "The parameter hello=9999 is refused: it takes seconds from 0.05 to 600."),
            (["mtu=1300", "helo=1"], "there is none of that name, but hello, update-interval, "),
            (["hello=30", "update-interval=20"], "hello=30"),
            (["babel-key=00112233445566778899aabbccddeeff"], "babel-key=new makes one"),
        ):
            self.assertIn(part, await self.refused("set", *words))
        self.assertIn("nothing was changed", await self.admin("set", "mtu=1380", "roll="))

        await self.admin("set", "babel-key=new", "hello=", "mtu=", "update-interval=")
        await deferToThread(registry.terminate)
        output = registry.output
        registry = await self.start()
        third = self.document(await self.join("three"))
        [other] = third.lines
        self.assertNotEqual(other, key)
        self.assertIn("Mind: Without a key", await self.admin("set", "babel-key="))
        await deferToThread(registry.terminate)
        registry = await self.start()
        self.assertEqual(self.document(await self.join("four")).lines, ())
        output += registry.output
        for line in (key, other):
            self.assertNotIn(line.split()[1], output + str(self.rows("SELECT * FROM audit")))


class Pipe(Protocol):
    """One direction of the proxy's connection."""

    def __init__(self) -> None:
        self.other: Pipe | None = None
        self.kept: list[bytes] = []
        self.received = 0
        self.cutter = False
        self.greeting: int | None = None
        self.swallowed = 0

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        assert self.other is not None
        if self.greeting is None:
            # What the client said before the server did: its part of the handshake.
            self.greeting = self.other.received
        if self.cutter and self.other.received - self.greeting > 600:
            # The request has gone through; its answer does not.
            self.swallowed += len(data)
            if self.swallowed > 1000:
                for end in (self, self.other):
                    transport: Any = end.transport
                    transport.abortConnection()
            return
        self.pass_on(data)

    def pass_on(self, data: bytes) -> None:
        """To the other side, as soon as there is one."""
        self.kept.append(data)
        if self.other is not None and self.other.transport is not None:
            transport: Any = self.other.transport
            transport.write(b"".join(self.kept))
            self.kept.clear()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.other is not None and self.other.transport is not None:
            transport: Any = self.other.transport
            transport.loseConnection()


class Proxy(Factory):
    """Passes connections on to a port, and swallows the answers of those whose numbers are in ``cut``."""

    noisy = False

    def __init__(self, port: int, cut: set[int]) -> None:
        self.port = port
        self.cut = cut
        self.count = 0

    def buildProtocol(self, addr: object) -> Pipe:
        """One connection and the one behind it."""
        self.count += 1
        near, far = Pipe(), Pipe()
        near.other, far.other = far, near
        far.cutter = self.count in self.cut
        factory: Factory = Factory.forProtocol(lambda: far)
        factory.noisy = False
        connecting = HostnameEndpoint(reactor, "127.0.0.1", self.port).connect(factory)
        connecting.addCallback(lambda _: near.pass_on(b""))
        connecting.addErrback(lambda _: None)
        return near


class LostAnswerTests(AdminCase):
    """A token is never spent without its holder being able to get the certificate."""

    async def test_cut_after_signing(self) -> None:
        """The answer with the certificate is cut off twice; the third time the same one arrives."""
        await self.start()
        # For each call there is one connection; the fifth asks for the certificate, the eighth for what the
        # network has to say.
        proxy = Proxy(self.port, {5, 6})
        listening = reactor.listenTCP(0, proxy, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        line = (await self.admin("invite")).strip()
        invitation = Invitation.parse(line)
        through = str(
            Invitation(("127.0.0.1",), listening.getHost().port, invitation.fingerprint, invitation.token)
        )
        out, err = await self.run_command("setup", through, "--dir", self.home / "one")
        self.assertEqual(err, "")
        self.assertEqual(out.count("Asking again"), 2, out)
        self.assertEqual(proxy.count, 8)
        whats = [what for (what,) in self.rows("SELECT what FROM audit WHERE by <> 'registry' ORDER BY id")]
        self.assertEqual(
            whats, ["invited", "certificate issued", *["certificate fetched again"] * 2]
        )  # fmt: skip
        ((pem,),) = self.rows("SELECT pem FROM certificate")
        self.assertEqual((self.home / "one" / "cert.crt").read_text(), pem)
        # Without the key the token is worth nothing.
        _, err = await self.run_command("setup", line, "--dir", self.home / "two", status=1)
        self.assertIn("This token is unknown, was already used, or is too old", err)


class DiskTests(AdminCase):
    """The disk is full, and then it is not any more."""

    async def test_full(self) -> None:
        """Clear Faults while nothing can be written, the rest goes on; then all does, without a restart."""
        disk = self.directory / "disk"
        disk.mkdir()
        self.database = disk / "registry.db"
        mount = 'mount -t tmpfs -o size=2m none "$0" && exec "$@"'
        registry = await self.start(prefix=["unshare", "-m", "sh", "-c", mount, str(disk)])
        inside = ["nsenter", "-t", str(registry.pid), "-m"]

        async def admin(*words: str, status: int = 0) -> tuple[str, str]:
            return await self.run_command(*words, "--registry", self.database, status=status, before=inside)

        line = (await admin("invite"))[0].strip()
        second = (await admin("invite"))[0].strip()
        out, _ = await self.run_command("setup", line, "--dir", self.home / "one")
        node = await self.connect(self.home / "one")
        fill = [*inside, "sh", "-c", f'cat /dev/zero > "{disk}/filler"']
        filled = await deferToThread(subprocess.run, fill, capture_output=True, timeout=30, text=True)
        self.assertIn("No space left", filled.stderr)

        _, err = await self.run_command("setup", second, "--dir", self.home / "two", status=1)
        self.assertIn("The registry cannot write its database (database or disk is full)", err)
        _, err = await admin("invite", status=1)
        self.assertIn("The registry cannot write its database", err)
        self.assertEqual((await node.callRemote(GetPeers, count=5))["peers"], [])
        self.assertIn("1 node, 1 connected", (await admin("nodes"))[0])

        await deferToThread(subprocess.run, [*inside, "rm", str(disk / "filler")], check=True, timeout=30)
        await self.run_command("setup", second, "--dir", self.home / "two")
        self.assertIn("2 nodes", (await admin("nodes"))[0])
        self.assertNotIn("Traceback", registry.output)
