"""The real ``twistd vifibnet-registry``, called by whoever it is there for."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import time
import xmlrpc.client as xmlrpclib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.threads import deferToThread
from twisted.protocols.amp import AMP
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.directories import short_directory
from tests.integration.processes import PYTHON, TWISTD, Namespace, Process, wait_for
from tests.mailserver import MailServer, message
from tests.ports import free_port
from tests.unit.registry.parts import NETWORK, make_authority, request_pem, token_in
from vifibnet.errors import NoPeerYet
from vifibnet.pki.certificates import Identity, prefix_of
from vifibnet.pki.requests import make_key
from vifibnet.pki.tls import client_options
from vifibnet.store.registry import RegistryStore
from vifibnet.wire.amp import ALPN, Declare, GetBootstrapPeer, GetPeers

reactor: Any = _reactor

ENDPOINTS = "192.0.2.1,1194,udp"
STOP = 2.0
"""Seconds that a registry may take to stop."""


class Node(AMP):
    """A node's side of a connection."""

    def __init__(self) -> None:
        AMP.__init__(self)
        self._gone: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Remember it."""
        AMP.connectionLost(self, reason)
        self._gone.callback(None)

    def close(self) -> Deferred[None]:
        """End it, if it has not ended."""
        if not self._gone.called:
            transport: Any = self.transport
            transport.abortConnection()
        return self._gone


class LoopbackCase(TestCase):
    """One registry on loopback, with its mail server in the test."""

    timeout = 60

    def setUp(self) -> None:
        """Make a CA and a mail server."""
        self.directory = short_directory(self)
        self.authority = make_authority(self.directory, time.time())
        self.mail = MailServer()
        listening = reactor.listenTCP(0, self.mail, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        self.addCleanup(self.mail.when_idle)
        self.mail_port = listening.getHost().port
        self.port, self.http = free_port(), free_port()

    async def start(self, *prefix: str, db: str = "registry.db") -> Process:
        """Start twistd and wait until it listens."""
        process = self.process(*prefix, db=db)
        await deferToThread(process.wait_for, "listens on port")
        return process

    def process(self, *prefix: str, db: str = "registry.db") -> Process:
        """Start twistd, by another program if need be."""
        process = Process(
            [
                TWISTD, "-n", "--pidfile=", "vifibnet-registry", str(self.port), "--db", db,
                "--ca", "ca.crt", "--key", "ca.key", "--mailhost", "localhost",
                "--mail-port", str(self.mail_port), "--name", "127.0.0.1", "--name", "::1",
                "--plain-http", f"tcp:{self.http}:interface=127.0.0.1",
            ],
            self.directory,
            prefix,
        )  # fmt: skip
        self.addCleanup(process.kill)
        return process

    async def call(self, name: str, *arguments: Any, host: str = "127.0.0.1", path: str = "") -> Any:
        """One call by the standard library's client, with an ssl context of its own that checks all."""
        context = ssl.create_default_context(cafile=str(self.directory / "ca.crt"))

        def call() -> Any:
            with xmlrpclib.ServerProxy(f"https://{host}:{self.port}{path}", context=context) as server:
                return getattr(server, name)(*arguments)

        return await deferToThread(call)

    async def node(self) -> Identity:
        """Enrol a node with a token from a mail."""
        await self.call("requestToken", "a@b.example")
        token = token_in(message(self.mail.mails[-1]).get_content())
        key = make_key()
        pem = await self.call("requestCertificate", token, request_pem(key))
        certificate = x509.load_pem_x509_certificate(pem.encode())
        return Identity(certificate, key, self.authority.ca, NETWORK, prefix_of(certificate))

    async def connect(self, identity: Identity | None, host: str = "127.0.0.1") -> AMP:
        """Connect as a node does."""
        endpoint = HostnameEndpoint(reactor, host, self.port)
        options = client_options([self.authority.ca], identity, [ALPN])
        factory: Factory = Factory.forProtocol(Node)
        factory.noisy = False
        amp: Any = await wrapClientTLS(options, endpoint).connect(factory)
        self.addCleanup(amp.close)
        return amp


class LoopbackTests(LoopbackCase):
    """What it is there for."""

    async def test_life(self) -> None:
        """Enrolment, both faces, a stop with nodes connected, and everything remembered afterwards."""
        registry = await self.start()
        for host, path in (("127.0.0.1", ""), ("[::1]", "/RPC2"), ("127.0.0.1", "/")):
            pem = await self.call("getCa", host=host, path=path)
            self.assertEqual(pem.encode(), self.authority.ca_pem)
        self.assertIn("getPeerList", await self.call("system.listMethods"))
        self.assertIn("certificate", await self.call("system.methodHelp", "requestCertificate"))
        one, two = await self.node(), await self.node()
        self.assertEqual([str(one.prefix), str(two.prefix)], ["0/16", "1/16"])

        first, second = await self.connect(one), await self.connect(two, "::1")
        await self.assertFailure(first.callRemote(GetBootstrapPeer), NoPeerYet)
        answer = await first.callRemote(Declare, endpoints=ENDPOINTS)
        self.assertEqual(answer, {"seen": "127.0.0.1"})
        peer = {"prefix": "0/16", "endpoints": ENDPOINTS}
        self.assertEqual(await second.callRemote(GetPeers, count=9), {"peers": [peer], "seen": "::1"})
        self.assertEqual(await second.callRemote(GetBootstrapPeer), {**peer, "seen": "::1"})
        await self.assertFailure(first.callRemote(GetBootstrapPeer), NoPeerYet)
        self.assertEqual(await self.call("getBootstrapPeer"), ["0" * 16, ENDPOINTS])

        nobody = await self.connect(None)
        await self.assertFailure(nobody.callRemote(GetBootstrapPeer), ConnectionDone, ConnectionLost)

        self.assertLess(await deferToThread(registry.terminate), STOP)
        # twistd ends by the signal that it caught.
        self.assertEqual((registry.end(), registry.errors), (-signal.SIGTERM, ""))
        self.assertEqual(sorted(path.name for path in self.directory.glob("registry.db*")), ["registry.db"])
        for mail in self.mail.mails:
            self.assertNotIn(token_in(message(mail).get_content()), registry.output)
        self.assertNotIn("Traceback", registry.output)

        again = await self.start()
        self.assertEqual(await self.call("getBootstrapPeer"), ["0" * 16, ENDPOINTS])
        self.assertEqual((await (await self.connect(two)).callRemote(GetPeers, count=1))["peers"], [peer])
        self.assertEqual(str((await self.node()).prefix), "2/16")
        await deferToThread(again.terminate)

    async def test_mails(self) -> None:
        """With STARTTLS, without, and refused: then there is a Fault, and no token."""
        registry = await self.start()
        await self.call("requestToken", "a@b.example")
        key, certificate = self.authority.server_certificate([], datetime.now(UTC))
        options: Any = {"privateKey": key, "certificate": certificate}
        self.mail.tls = CertificateOptions(**options)
        await self.call("requestToken", "a@b.example")
        self.assertEqual([mail.tls for mail in self.mail.mails], [False, True])
        self.assertEqual(self.mail.mails[0].sender, f"vifibnet@{socket.gethostname()}")
        self.mail.refusing = True
        try:
            await self.call("requestToken", "a@b.example")
        except xmlrpclib.Fault as fault:
            self.assertEqual(fault.faultCode, 17)
            self.assertIn("550 nobody here", fault.faultString)
        else:
            self.fail("the mail was refused, and nobody noticed")
        await deferToThread(registry.terminate)
        store = RegistryStore.open(self.directory / "registry.db", NETWORK, time.time)
        self.addCleanup(store.close)
        self.assertEqual(store._db.execute("SELECT count(*) FROM token").fetchone(), (2,))

    async def test_plain_http(self) -> None:
        """The same methods without TLS, for a proxy."""
        registry = await self.start()

        def call() -> object:
            with xmlrpclib.ServerProxy(f"http://127.0.0.1:{self.http}") as server:
                return server.getCa()

        self.assertEqual(str(await deferToThread(call)).encode(), self.authority.ca_pem)
        await deferToThread(registry.terminate)


class CommandTests(SynchronousTestCase):
    """What twistd does with it."""

    def setUp(self) -> None:
        """Make a CA."""
        self.directory = short_directory(self)
        make_authority(self.directory, time.time())
        self.port = str(free_port())

    def test_daemon(self) -> None:
        """Without -n it goes to the background, and by then it answers."""
        started = Process(
            [
                TWISTD, "--pidfile", "pid", "--logfile", "log", "vifibnet-registry", self.port,
                "--db", "registry.db", "--ca", "ca.crt", "--key", "ca.key", "--mailhost", "localhost",
            ],
            self.directory,
        )  # fmt: skip
        self.addCleanup(started.kill)
        self.assertEqual(started.end(), 0, started.errors)
        pid = int((self.directory / "pid").read_text())
        running = Path(f"/proc/{pid}")
        self.addCleanup(lambda: running.exists() and subprocess.run(["kill", "-KILL", str(pid)], check=False))
        context = ssl.create_default_context(cafile=str(self.directory / "ca.crt"))
        context.check_hostname = False
        with xmlrpclib.ServerProxy(f"https://127.0.0.1:{self.port}", context=context) as server:
            self.assertIn("BEGIN CERTIFICATE", str(server.getCa()))
        subprocess.run(["kill", "-TERM", str(pid)], check=True)
        wait_for(lambda: not running.exists(), "the daemon's end")
        self.assertIn("stopped", (self.directory / "log").read_text())

    def test_bad_input(self) -> None:
        """One sentence on stderr, status 1, and nothing is written."""
        manual = ["--db", "registry.db", "--ca", "ca.crt", "--key", "ca.key", "--mailhost", "localhost"]
        before = sorted(self.directory.iterdir())
        for words, sentence in (
            (["70000", *manual], "PORT: '70000' is out of range"),
            (
                [self.port, *manual, "--db", "/nowhere/registry.db"],
                "--db /nowhere/registry.db: cannot be made",
            ),
            ([self.port, *manual, "--nope"], "--nope: unknown option"),
        ):
            process = Process([TWISTD, "vifibnet-registry", *words], self.directory)
            self.addCleanup(process.kill)
            self.assertEqual(process.end(), 1)
            self.assertEqual(process.output, "")
            (line,) = process.errors.splitlines()
            self.assertTrue(line.startswith(f"vifibnet-registry: {sentence}"), line)
            for path in self.directory.glob("process-*"):
                path.unlink()
        self.assertEqual(sorted(self.directory.iterdir()), before)


CALL = """
import json, ssl, sys, time, xmlrpc.client
url, ca, calls = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
answers = []
for name, arguments in calls:
    context = ssl.create_default_context(cafile=ca)
    # The manual's command line knows no --name, so that no address is in the certificate.
    context.check_hostname = "[" not in url
    server = xmlrpc.client.ServerProxy(url, context=context)
    begin = time.monotonic()
    try:
        answers.append(getattr(server, name)(*arguments))
    except xmlrpc.client.Fault as fault:
        answers.append({"code": fault.faultCode, "text": fault.faultString})
    assert time.monotonic() - begin < 1.5, (name, time.monotonic() - begin)
print(json.dumps(answers))
"""

LOOK_UP = """
import socket, time
begin = time.monotonic()
socket.getfqdn("2001:db8:42::1")
print(time.monotonic() - begin)
"""


class NamespaceTests(SynchronousTestCase):
    """A machine that is part of the VPN, whose name server never answers."""

    def setUp(self) -> None:
        """Two nodes' addresses on loopback, names only in a file, and a name server that is a black hole."""
        self.directory = short_directory(self)
        self.namespace = Namespace(
            hosts=f"127.0.0.1 localhost registry.vifibnet {socket.gethostname()}\n",
            resolv="nameserver 192.0.2.53\noptions timeout:3 attempts:1\n",
        )
        self.addCleanup(self.namespace.close)
        for arguments in (
            "link add hole type veth peer name end", "link set hole up", "link set end up",
            "addr add 192.0.2.1/24 dev hole",
            "addr add 2001:db8:42::1/128 dev lo", "addr add 2001:db8:42:1::1/128 dev lo",
            "addr add 2001:db8:42:2::1/128 dev lo", "addr add 2001:db8:42:2::2/128 dev lo",
            "neigh add 192.0.2.53 lladdr 02:00:00:00:00:53 dev hole",
        ):  # fmt: skip
            self.namespace.ip(*arguments.split())

    def process(self, *command: str | Path) -> Process:
        """Start a process inside."""
        process = Process(command, self.directory, self.namespace.prefix)
        self.addCleanup(process.kill)
        return process

    def call(self, host: str, *calls: tuple[str, list[Any]]) -> list[Any]:
        """Call the registry from the address that it is called at; each call must be quick."""
        answers = self.namespace.run(
            PYTHON, "-c", CALL, f"https://{host}:8080", self.directory / "ca.crt", json.dumps(calls)
        )
        return list(json.loads(answers))

    def authority(self) -> None:
        """The manual's own command, with Enter as the answer to all of its questions."""
        subprocess.run(
            ["openssl", "genrsa", "-out", "ca.key", "2048"],
            cwd=self.directory,
            check=True,
            capture_output=True,
        )
        manual = "openssl req -nodes -new -x509 -key ca.key -set_serial 0x120010db80042 -days 365 -out ca.crt"
        subprocess.run(
            manual.split(), cwd=self.directory, check=True, capture_output=True, input=b"\n" * 7, timeout=20
        )

    def test_the_manual(self) -> None:
        """The manual's command lines as they stand there, its methods, and its note on reverse DNS."""
        looking = self.namespace.run(PYTHON, "-c", LOOK_UP)
        self.assertGreater(float(looking), 2.5, "the black hole answers, so that what follows proves nothing")
        self.authority()
        mails = self.process(PYTHON, "-m", "tests.mailserver", "25")
        mails.wait_for("ready")
        manual = "vifibnet-registry 8080 --db registry.db --ca ca.crt --key ca.key --mailhost localhost"
        registry = self.process(TWISTD, "-n", "--pidfile=", *manual.split())
        registry.wait_for("listens on port")

        for expected in ("0000000000000000", "0000000000000001"):
            self.assertEqual(
                self.call("registry.vifibnet", ("requestToken", [f"{expected}@b.example"])), [True]
            )
            mails.wait_for(expected)
            token = token_in(json.loads(mails.output.splitlines()[-1])["raw"])
            (pem,) = self.call("registry.vifibnet", ("requestCertificate", [token, request_pem()]))
            self.assertEqual(prefix_of(x509.load_pem_x509_certificate(pem.encode())).bits, expected)
        self.identities()
        self.assertLess(registry.terminate(), STOP)

    def identities(self) -> None:
        """Who is who, by the address inside the VPN that a call comes from."""
        one, two, free = "2001:db8:42::1", "2001:db8:42:1::1", "2001:db8:42:2::1"
        answers = self.call(
            f"[{one}]",
            ("getBootstrapPeer", []),
            ("declare", [[one, ENDPOINTS]]),
            ("declare", [[two, ENDPOINTS]]),
            ("declare", [[free, ENDPOINTS]]),
            ("declare", [["x", ENDPOINTS]]),
            ("declare", [[one, "192.0.2.1,1194,icmp"]]),
            ("getBootstrapPeer", []),
            ("getPeerList", [10, one]),
            ("getPeerList", [10, two]),
            ("getPeerList", [0, one]),
            ("getCa", []),
        )
        self.assertIn("BEGIN CERTIFICATE", answers.pop())
        codes = [answer["code"] if isinstance(answer, dict) else answer for answer in answers]
        # The only peer is the caller itself, which it is never told.
        self.assertEqual(codes, [13, True, 14, 14, 14, 15, 13, [], 14, 3])
        peer = ["0" * 16, ENDPOINTS]
        answers = self.call(f"[{two}]", ("getPeerList", [10, two]), ("getBootstrapPeer", []))
        self.assertEqual(answers, [[peer], peer])
        # An address inside the network that nobody was given, and one outside.
        for host in (f"[{free}]", "registry.vifibnet"):
            answers = self.call(host, ("getPeerList", [10, free]), ("getBootstrapPeer", []))
            self.assertEqual([answers[0]["code"], answers[1]], [14, peer])
