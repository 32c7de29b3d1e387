"""``vifibnet setup`` with a real registry and real mail: unattended, on a terminal, interrupted, misled."""

from __future__ import annotations

import os
import shlex
import signal
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.amp import AMP

from tests.integration.namespaces import eventually
from tests.integration.registry_process import Command, RegistryCase, program, reactor
from tests.ports import free_port
from vifibnet.pki.certificates import Identity, fingerprint, load_certificate
from vifibnet.pki.tls import client_options
from vifibnet.store.peers import PeerStore
from vifibnet.wire.amp import ALPN, Declare

FILES = [
    "authorities", "ca.pem", "cert.crt", "cert.key", "dh2048.pem", "parameters", "peers.db", "vifibnet.conf"
]  # fmt: skip


class SetupCase(RegistryCase):
    """A registry and a directory for the node's files."""

    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.directory = self.home / "node"
        self.ca = fingerprint(load_certificate(self.home / "registry" / "ca.crt", "--ca"))

    def begin(self, *options: str, terminal: bool = False, port: int | None = None) -> Command:
        """Start one run for the node's directory."""
        return self.setup_command("--dir", str(self.directory), *options, terminal=terminal, port=port)

    async def joins(self, *options: str) -> str:
        """A run that must end well; what it printed."""
        command = self.begin(*options)
        self.assertEqual(await command.ended(), 0, command.output)
        return command.output

    async def fails(self, *options: str, status: int = 1, port: int | None = None) -> str:
        """A run that must end with one sentence; that sentence."""
        command = self.begin(*options, port=port)
        self.assertEqual(await command.ended(), status, command.output)
        self.assertNotIn("Traceback", command.output)
        return command.output.strip().splitlines()[-1]

    def there(self) -> list[str]:
        """The node's files."""
        return sorted(os.listdir(self.directory)) if self.directory.exists() else []

    def identity(self) -> Identity:
        """Who the node is, if its files fit together."""
        ca, certificate, key = (self.directory / name for name in ("ca.pem", "cert.crt", "cert.key"))
        return Identity.load(ca, certificate, key, datetime.now(UTC))


class UnattendedTests(SetupCase):
    """Nobody at the keyboard."""

    async def test_from_nothing(self) -> None:
        """No token: it is sent; with it all is made; it is good once; a second run finds all there."""
        pinned = ["--fingerprint", self.ca, "--no-boot", "--req", "O", "My club"]
        self.assertIn("--email", await self.fails(*pinned))
        self.assertEqual(self.there(), [])
        said = await self.fails(*pinned, "--email", "node@example.com", status=os.EX_TEMPFAIL)
        self.assertIn("--token", said)
        token = await self.token()
        said = await self.joins(*pinned, "--token", token)
        self.assertEqual(self.there(), FILES)
        self.assertIn(self.ca, said)
        identity = self.identity()
        self.assertIn("O=My club", identity.certificate.subject.rfc4514_string())
        self.assertIn(f"{identity.prefix}, address {identity.network.address(identity.prefix)}", said)
        await self.checked_by_openssl()
        self.assertEqual((await self.joins(*pinned)).count("there already"), len(FILES))

        os.remove(self.directory / "cert.crt")
        # As after an answer that got lost: for the same key the token still brings the same certificate.
        await self.joins(*pinned, "--token", token)
        self.assertEqual(self.identity().certificate, identity.certificate)
        os.remove(self.directory / "cert.crt")
        os.remove(self.directory / "cert.key")
        self.assertIn("unknown, was already used", await self.fails(*pinned, "--token", token))
        self.assertIn("unknown, was already used", await self.fails(*pinned, "--token", "x" * 32))

    async def checked_by_openssl(self) -> None:
        """What openssl, and so openvpn, thinks of the files."""
        ca, certificate, dh = (str(self.directory / name) for name in ("ca.pem", "cert.crt", "dh2048.pem"))
        for words in (
            ["verify", "-x509_strict", "-CAfile", ca, certificate],
            ["dhparam", "-check", "-in", dh],
        ):
            command = Command(["/usr/bin/openssl", *words])
            self.assertEqual(await command.ended(), 0, command.output)
            self.assertIn("ok", command.output.lower())

    async def test_what_the_mail_says(self) -> None:
        """The command in the mail, typed as it stands there but for the directory, does it."""
        await self.fails("--email", "a+b@example.com", "--no-boot", status=os.EX_TEMPFAIL)
        await self.token()
        [line] = [line for line in self.text().splitlines() if "vifibnet setup --dir" in line]
        words = shlex.split(line.replace("/var/lib/vifibnet", shlex.quote(str(self.directory))))
        command = Command([program("vifibnet"), *words[1:]])
        self.assertEqual(await command.ended(), 0, command.output)
        self.assertEqual(self.there(), FILES)

    async def test_modes(self) -> None:
        """--ca-only; no peer yet is a sentence; --no-boot; then a declared peer is found."""
        await self.joins("--ca-only")
        self.assertEqual(self.there(), ["ca.pem"])
        self.assertIn("--no-boot", await self.fails("--db-only"))
        self.assertEqual(self.there(), ["ca.pem"])
        await self.joins("--db-only", "--no-boot")
        self.assertEqual(self.there(), ["ca.pem", "peers.db"])
        await self.fails("--email", "node@example.com", "--no-boot", status=os.EX_TEMPFAIL)
        await self.joins("--token", await self.token(), "--no-boot")
        first, self.directory = self.identity(), self.home / "second"
        await self.declare(first, "192.0.2.7,1194,udp")
        self.assertIn("192.0.2.7,1194,udp", await self.joins("--db-only"))
        with closing(PeerStore.open(self.directory / "peers.db", first.network)) as peers:
            self.assertEqual([peer.prefix for peer in peers.candidates(reactor.seconds())], [first.prefix])

    async def declare(self, identity: Identity, endpoints: str) -> None:
        """Tell the registry where this node is."""
        tls = client_options([identity.ca], identity, [ALPN])
        endpoint = wrapClientTLS(tls, HostnameEndpoint(reactor, "127.0.0.1", self.port))
        protocol: Any = await connectProtocol(endpoint, AMP())
        await protocol.callRemote(Declare, endpoints=endpoints)
        protocol.transport.abortConnection()


class RefusalTests(SetupCase):
    """What is wrong is said in a sentence, and nothing is written."""

    async def test_wrong_registries(self) -> None:
        """Another fingerprint, nobody, somebody without TLS, another network's registry."""
        self.assertIn("--fingerprint", await self.fails("--ca-only", "--fingerprint", "ab" * 32))
        self.assertIn("does not answer", await self.fails("--ca-only", port=free_port()))

        class Web(Protocol):
            def dataReceived(self, data: bytes) -> None:
                assert self.transport is not None
                self.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                self.transport.loseConnection()

        web = reactor.listenTCP(0, Factory.forProtocol(Web), interface="127.0.0.1")
        self.addCleanup(web.stopListening)
        self.assertIn("TLS", await self.fails("--ca-only", port=web.getHost().port))
        self.assertEqual(self.there(), [])

        await self.joins("--ca-only")
        other = free_port()
        await self.start_registry(self.home / "other", "2001:db8:43::/48", other)
        self.assertIn("not the registry of this network", await self.fails("--ca-only", port=other))
        self.assertEqual(self.there(), ["ca.pem"])

    async def test_bad_input(self) -> None:
        """Directories, attributes and ports that cannot be: found out without the registry."""
        await self.registry.stop()
        for named, *options in (
            ("--dir", "--ca-only", "--dir", "/proc/vifibnet"),
            ("--dir", "--ca-only", "--dir", str(self.home / "registry" / "ca.crt")),
            ("--req", "--token", "t", "--req", "Planet", "Earth"),
            ("--port", "--port", "0"),
            ("--key-type", "--key-type", "dsa"),
            ("--server", "--server", "a b"),
        ):
            self.assertIn(named, await self.fails(*options))
        self.assertEqual(self.there(), [])


class InterruptionTests(SetupCase):
    """Whatever happens, files are whole or not there, and the next run goes on."""

    async def test_killed_while_waiting(self) -> None:
        """Killed, or stopped by Ctrl-C, while the registry does not answer."""
        await self.fails("--email", "node@example.com", "--no-boot", status=os.EX_TEMPFAIL)
        before = {name: (self.directory / name).read_bytes() for name in self.there()}
        self.assertEqual(sorted(before), ["ca.pem", "cert.key", "peers.db"])
        self.registry.send(signal.SIGSTOP)
        self.addCleanup(self.registry.send, signal.SIGCONT)
        for number, status in ((signal.SIGKILL, -9), (signal.SIGINT, 130)):
            command = self.begin("--token", "t")
            await eventually(partial(connected, command.process.pid), "the connection")
            await command.stop(number)
            self.assertEqual(command.status, status, command.output)
            self.assertNotIn("Traceback", command.output)
        self.registry.send(signal.SIGCONT)
        self.assertEqual({name: (self.directory / name).read_bytes() for name in self.there()}, before)
        await self.joins("--token", await self.token(), "--no-boot")
        self.assertEqual((self.directory / "cert.key").read_bytes(), before["cert.key"])
        self.identity()


def connected(pid: int) -> bool:
    """Whether the process has a connection to somewhere, as the kernel tells."""
    inodes = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            inodes.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            continue
    with open(f"/proc/{pid}/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    return any(row[3] == "01" and f"socket:[{row[9]}]" in inodes for row in rows)


def asleep(pid: int) -> bool:
    """Whether the process waits for something, as the kernel tells."""
    with open(f"/proc/{pid}/stat") as status:
        return status.read().rpartition(")")[2].split()[0] == "S"


class TerminalTests(SetupCase):
    """Somebody at the keyboard."""

    async def interrupt(self, command: Command) -> None:
        """Press Ctrl-C. One between a question and the wait for its answer would be heard with the answer."""
        await eventually(partial(asleep, command.process.pid), "the wait for an answer")
        command.types("\x03")

    async def test_answers(self) -> None:
        """The fingerprint is asked about, then the address, then the token, which may be mistyped."""
        command = self.begin("--no-boot", terminal=True)
        await command.prints(self.ca)
        await command.prints("(yes/no)? ")
        self.assertEqual(self.there(), [])
        command.types("well\n")
        await command.prints("(yes/no)? ")
        command.types("yes\n")
        await command.prints("e-mail address")
        command.types("node@example.com\n")
        await command.prints("Token: ")
        command.types("wrong\n")
        await command.prints("unknown, was already used")
        await command.prints("Token: ")
        command.types(f"  {await self.token()}\n")
        self.assertEqual(await command.ended(), 0, command.output)
        self.assertEqual(self.there(), FILES)
        self.identity()

    async def test_no_and_control_c(self) -> None:
        """No, Ctrl-C or Ctrl-D at the fingerprint: nothing is written. Ctrl-C at the token: go on later."""
        for answer, status in (("no\n", 1), (None, 130), ("\x04", 1)):
            command = self.begin("--no-boot", terminal=True)
            await command.prints("(yes/no)? ")
            if answer is None:
                await self.interrupt(command)
            else:
                command.types(answer)
            self.assertEqual(await command.ended(), status, command.output)
            self.assertNotIn("Traceback", command.output)
            self.assertEqual(self.there(), [])
        command = self.begin("--no-boot", "--fingerprint", self.ca, "--email", "a@b.example", terminal=True)
        await command.prints("Token: ")
        await self.interrupt(command)
        self.assertEqual(await command.ended(), 130, command.output)
        self.assertEqual(self.there(), ["ca.pem", "cert.key", "peers.db"])
        await self.joins("--token", await self.token())
