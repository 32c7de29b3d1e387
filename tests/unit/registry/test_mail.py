"""Handing mails to real SMTP servers on loopback."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.mailserver import MailServer, message
from tests.unit.registry.parts import NETWORK, make_authority, token_in
from vifibnet.errors import MailFailed
from vifibnet.registry.mail import SMTPMailer, TokenMail
from vifibnet.wire.invitation import MAX_ADDRESSES, Invitation

reactor: Any = _reactor


class Says(Protocol):
    """Says one thing to whoever connects, and nothing more."""

    def __init__(self, words: bytes, hang_up: bool, gone: Deferred[None]) -> None:
        self._words = words
        self._hang_up = hang_up
        self._gone = gone

    def connectionMade(self) -> None:
        """Say it."""
        assert self.transport is not None
        self.transport.write(self._words)
        if self._hang_up:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The other side has gone, too."""
        self._gone.callback(None)


class MailTests(TestCase):
    """One mail, and every way for it to fail."""

    async def mailer(self, server: Factory, timeout: float = 10.0) -> SMTPMailer:
        """A mailer that talks to this server."""
        port = reactor.listenTCP(0, server, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        if isinstance(server, MailServer):
            self.addCleanup(server.when_idle)
        return SMTPMailer(reactor, "127.0.0.1", port.getHost().port, "vifibnet@registry.example", timeout)

    async def failure(self, sending: Coroutine[Any, Any, None]) -> str:
        """The sentence with which it fails."""
        try:
            await sending
        except MailFailed as error:
            return str(error)
        raise self.failureException("the mail was sent")

    def says(self, words: bytes, *, hang_up: bool = False) -> Factory:
        """A server that says nothing but this."""
        gone: Deferred[None] = Deferred()
        factory: Factory = Factory.forProtocol(lambda: Says(words, hang_up, gone))
        factory.noisy = False
        self.addCleanup(lambda: gone)
        return factory

    async def saying(self, words: bytes, *, hang_up: bool = False, timeout: float = 10.0) -> str:
        """How a mail fails when the server says nothing but this."""
        mailer = await self.mailer(self.says(words, hang_up=hang_up), timeout)
        return await self.failure(mailer.send("a@b.example", "subject", "body\n"))

    async def test_plain(self) -> None:
        """A mail arrives as it was written, long lines included."""
        longest = ("a." * 126 + "b",) * MAX_ADDRESSES
        text = TokenMail(NETWORK, lambda token: Invitation(longest, 443, ":".join(["ab"] * 32), token))
        body = text.body("f" * 32) + ".\n.dot\n"
        self.assertIn(max(map(len, body.splitlines())), range(900, 998))
        server = MailServer()
        await (await self.mailer(server)).send("a@b.example", "subject", body)
        (mail,) = server.mails
        self.assertEqual(
            (mail.sender, mail.recipient, mail.tls), ("vifibnet@registry.example", "a@b.example", False)
        )
        self.assertEqual(message(mail).get_content(), body)
        self.assertIn(body.encode(), mail.raw)
        self.assertEqual(token_in(mail.raw.decode()), "f" * 32)
        headers = message(mail)
        self.assertEqual(headers["Subject"], "subject")
        self.assertEqual(headers["From"], "vifibnet <vifibnet@registry.example>")
        self.assertEqual(headers["Auto-Submitted"], "auto-generated")
        self.assertTrue(headers["Message-ID"].endswith("@registry.example>"))
        age = datetime.now(UTC) - headers["Date"].datetime
        self.assertLess(abs(age.total_seconds()), 60)

    async def test_starttls(self) -> None:
        """STARTTLS is used when offered, whatever certificate the server has."""
        authority = make_authority(Path(self.mktemp()), reactor.seconds())
        key, certificate = authority.server_certificate([], datetime.now(UTC))
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        options: Any = {"privateKey": key, "certificate": certificate}
        server = MailServer(CertificateOptions(**options))
        await (await self.mailer(server)).send("a@b.example", "subject", "body\n")
        (mail,) = server.mails
        self.assertTrue(mail.tls)
        self.assertEqual(message(mail).get_content(), "body\n")

    async def test_refused_recipient(self) -> None:
        """The server's words reach who asked, on one line."""
        mailer = await self.mailer(MailServer(refusing=True))
        sentence = await self.failure(mailer.send("a@b.example", "subject", "body\n"))
        self.assertEqual(
            sentence,
            "The mail with the token could not be sent (the mail server says 550 nobody here by that name):"
            " try again later.",
        )

    async def test_refused_connection(self) -> None:
        """A server that greets with 554."""
        self.assertIn("says 554 go away)", await self.saying(b"554 go away\r\n"))

    async def test_rubbish(self) -> None:
        """A server that speaks something else, and one that hangs up."""
        self.assertIn("Invalid response", await self.saying(b"HTTP/1.1 200 OK\r\n\r\n"))
        self.assertIn("cannot be reached", await self.saying(b"220 hi\r\n", hang_up=True))
        self.assertIn("cannot be reached", await self.saying(b"220 hi\r\n250-\r\n250 \r\n"))
        # Twisted's client stumbles over the empty line.
        self.assertEqual(len(self.flushLoggedErrors(IndexError)), 1)

    async def test_silence(self) -> None:
        """A server that says nothing, before the greeting or after, is given up."""
        self.assertIn("did not answer in time", await self.saying(b"", timeout=0.1))
        self.assertIn("did not answer in time", await self.saying(b"220 hi\r\n", timeout=0.1))

    async def test_nobody(self) -> None:
        """No server at all."""
        port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        host: IPv4Address = port.getHost()
        await port.stopListening()
        mailer = SMTPMailer(reactor, "127.0.0.1", host.port, "a@b.example")
        self.assertIn("refused", await self.failure(mailer.send("a@b.example", "subject", "body\n")))

    async def test_close(self) -> None:
        """What is under way when the registry stops ends as a failure, at once."""
        mailer = await self.mailer(self.says(b""), timeout=60)
        sending = Deferred.fromCoroutine(self.failure(mailer.send("a@b.example", "subject", "body\n")))
        reactor.callLater(0.1, mailer.close)
        self.assertIn("did not answer", await sending)
