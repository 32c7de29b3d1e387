"""The registry put together, on loopback."""

from __future__ import annotations

import socket
import ssl
import xmlrpc.client as xmlrpclib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.directories import short_directory
from tests.mailserver import MailServer
from tests.ports import free_port
from tests.unit.registry.parts import NETWORK, make_authority
from vifibnet.errors import BadInput
from vifibnet.pki.authorities import Authorities
from vifibnet.registry.service import RegistryConfig, RegistryService
from vifibnet.store.registry import TOKEN_LIFE, RegistryStore
from vifibnet.wire.invitation import Invitation

reactor: Any = _reactor


class ServiceTests(TestCase):
    """Start, answer, stop."""

    timeout = 30

    def setUp(self) -> None:
        """A CA, a mail server and ports."""
        self.directory = short_directory(self)
        self.authority = make_authority(self.directory, reactor.seconds())
        self.port, self.http = free_port(), free_port()
        self.mail = MailServer()
        self.mail_port = self.listen(self.mail)
        self.addCleanup(self.mail.when_idle)

    def listen(self, factory: Factory) -> int:
        """A port on loopback."""
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def start(self, mail_port: int | None = None) -> RegistryService:
        """Start a registry."""
        service = RegistryService(
            reactor,
            RegistryConfig(
                port=self.port,
                db=str(self.directory / "registry.db"),
                authorities=Authorities.of(self.authority),
                mailhost="127.0.0.1",
                mail_port=mail_port or self.mail_port,
                mail_from="vifibnet@registry.example",
                server="registry.example",
                names=("127.0.0.1", "::1"),
                plain_http=(f"tcp:{self.http}:interface=127.0.0.1",),
            ),
        )
        service.privilegedStartService()
        service.startService()
        return service

    def store(self, clock: Callable[[], float] = reactor.seconds) -> RegistryStore:
        """The database, from outside."""
        store = RegistryStore.open(self.directory / "registry.db", NETWORK, clock)
        self.addCleanup(store.close)
        return store

    def tokens(self) -> int:
        """How many tokens are in the database."""
        (count,) = self.store()._db.execute("SELECT count(*) FROM token").fetchone()
        return int(count)

    async def call(self, url: str, name: str, *arguments: str) -> Any:
        """One call as a program of today makes it."""
        context = ssl.create_default_context(cafile=str(self.directory / "ca.crt"))

        def call() -> Any:
            with xmlrpclib.ServerProxy(url, context=context) as server:
                return getattr(server, name)(*arguments)

        return await deferToThread(call)

    async def test_answers(self) -> None:
        """Over IPv4, IPv6 and plain HTTP; mails go out."""
        service = self.start()
        for url in (
            f"https://127.0.0.1:{self.port}",
            f"https://[::1]:{self.port}",
            f"http://127.0.0.1:{self.http}",
        ):
            self.assertEqual((await self.call(url, "getCa")).encode(), self.authority.ca_pem)
        await self.call(url, "requestToken", "a@b.example")
        [line] = [line for line in self.mail.mails[0].raw.decode().splitlines() if "vifibnet1:" in line]
        invitation = Invitation.parse(line.split()[-1])
        self.assertEqual((invitation.addresses, invitation.port), (("127.0.0.1", "::1"), self.port))
        self.assertEqual(self.tokens(), 1)
        await service.stopService()

    async def test_another_mail_server(self) -> None:
        """What is changed while it runs holds for the next mail and the next certificate."""
        service = self.start(mail_port=free_port())
        service.obey(replace(service._config, mail_port=self.mail_port, cert_days=5))
        await self.call(f"https://127.0.0.1:{self.port}", "requestToken", "a@b.example")
        self.assertEqual(len(self.mail.mails), 1)
        self.assertEqual(service._registry.cert_days, 5)
        await service.stopService()

    async def test_no_reverse_look_ups(self) -> None:
        """Nobody asks what name a caller's address has: that cost ten seconds a request in 2012."""
        asked: list[object] = []
        for name in ("getfqdn", "gethostbyaddr"):
            self.patch(socket, name, lambda *arguments: asked.append(arguments))
        write_numbers = socket.getnameinfo

        def getnameinfo(address: Any, flags: int) -> tuple[str, str]:
            if not flags & socket.NI_NUMERICHOST:
                asked.append(address)
            return write_numbers(address, flags)

        self.patch(socket, "getnameinfo", getnameinfo)
        self.patch(reactor, "resolve", lambda *arguments: asked.append(arguments))
        service = self.start()
        for host in ("127.0.0.1", "[::1]"):
            url = f"https://{host}:{self.port}"
            await self.call(url, "getCa")
            await self.call(url, "requestToken", "a@b.example")
            for name, *arguments in (("getBootstrapPeer",), ("requestCertificate", "x", "x")):
                await self.assertFailure(
                    Deferred.fromCoroutine(self.call(url, name, *arguments)), xmlrpclib.Fault
                )
        self.assertEqual(asked, [])
        await service.stopService()

    async def test_stop(self) -> None:
        """Nothing is left: no port, no connection, no token whose mail never went out."""
        silent: Factory = Factory.forProtocol(Protocol)
        silent.noisy = False
        service = self.start(self.listen(silent))
        idle = socket.create_connection(("127.0.0.1", self.port), 5)
        self.addCleanup(idle.close)
        calling: Deferred[Any] = Deferred.fromCoroutine(
            self.call(f"https://127.0.0.1:{self.port}", "requestToken", "a@b.example")
        )
        while not self.tokens():
            pause: Deferred[None] = Deferred()
            reactor.callLater(0.02, pause.callback, None)
            await pause
        await service.stopService()
        self.assertEqual(self.tokens(), 0)
        await self.assertFailure(calling, OSError, xmlrpclib.Error, xmlrpclib.Fault)
        await self.assertFailure(deferToThread(idle.recv, 1), ConnectionResetError)
        for port in (self.port, self.http):
            self.assertRaises(ConnectionRefusedError, socket.create_connection, ("127.0.0.1", port), 5)

    async def test_expires(self) -> None:
        """Old tokens are removed."""
        old = self.store(lambda: reactor.seconds() - TOKEN_LIFE - 1)
        old.add_token("x", "a@b.example")
        self.assertEqual(self.tokens(), 1)
        service = self.start()
        self.assertEqual(self.tokens(), 0)
        await service.stopService()

    async def test_port_taken(self) -> None:
        """A port that was taken between the check and the start."""
        with socket.socket() as other:
            other.bind(("127.0.0.1", self.port))
            other.listen()
            self.assertRaises(BadInput, self.start)
