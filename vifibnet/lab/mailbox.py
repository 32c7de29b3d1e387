"""A mail server that delivers nothing: it keeps every mail as a file, for the lab to read its tokens from."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from twisted.application.internet import StreamServerEndpointService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.mail.smtp import ESMTP, Address, IMessage, IMessageDelivery, SMTPFactory, User
from zope.interface import implementer

from vifibnet.files import write_atomically
from vifibnet.lab.children import Reactor

log = Logger()
MAX_BYTES = 1 << 20


def mails(directory: Path) -> list[Path]:
    """The mails that have come so far, oldest first."""
    return sorted(directory.glob("*.eml"))


def read_mail(path: Path) -> tuple[str, str]:
    """Whom a mail is for and its text."""
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    body = message.get_body(("plain",))
    return str(message["X-Lab-Recipient"]), "" if body is None else body.get_content()


@dataclass(frozen=True)
class Mail:
    """One mail as it arrived: the envelope, whether over TLS, and what was in it."""

    sender: str
    recipient: str
    tls: bool
    raw: bytes


@implementer(IMessage)
class _Incoming:
    """One mail on its way."""

    def __init__(self, server: MailServer, protocol: ESMTP, user: User) -> None:
        self._server = server
        self._protocol = protocol
        self._user = user
        self._lines: list[bytes] = []
        self._size = 0

    def lineReceived(self, line: bytes) -> None:
        self._size += len(line)
        if self._size < MAX_BYTES:
            self._lines.append(line)

    def eomReceived(self) -> Deferred[None]:
        raw, user = b"\n".join(self._lines) + b"\n", self._user
        self._server.keep(Mail(str(user.orig), str(user.dest), self._protocol.startedTLS, raw))
        return succeed(None)

    def connectionLost(self) -> None:
        """Forget a mail that did not come to its end."""


@implementer(IMessageDelivery)
class _Delivery:
    """Asks the server whom it accepts."""

    def __init__(self, server: MailServer, protocol: ESMTP) -> None:
        self._server = server
        self._protocol = protocol

    def receivedHeader(self, helo: tuple[bytes, bytes], origin: Address, recipients: list[User]) -> bytes:
        return b"Received: by the lab"

    def validateFrom(self, helo: tuple[bytes, bytes], origin: Address) -> Address:
        return origin

    def validateTo(self, user: User) -> Callable[[], IMessage]:
        self._server.check(user)
        return lambda: _Incoming(self._server, self._protocol, user)


class MailServer(SMTPFactory):
    """Serves SMTP, with STARTTLS where ``tls`` is a context factory; a subclass keeps the mails."""

    noisy = False
    tls: object = None

    def buildProtocol(self, addr: IAddress | None) -> ESMTP:
        """One connection."""
        protocol = ESMTP(contextFactory=self.tls)
        protocol.noisy = False
        protocol.factory = self
        protocol.delivery = _Delivery(self, protocol)
        protocol.host = b"mailbox.lab"
        return protocol

    def check(self, user: User) -> None:
        """Raise SMTPBadRcpt for who gets no mail here."""

    def keep(self, mail: Mail) -> None:
        """A mail has come."""
        raise NotImplementedError


class MailboxFactory(MailServer):
    """The mails become ``0001.eml`` onwards in ``directory``, each appearing whole."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.numbers = count(len(mails(directory)) + 1)

    def keep(self, mail: Mail) -> None:
        """Write the file."""
        path = self.directory / f"{next(self.numbers):04d}.eml"
        write_atomically(path, b"X-Lab-Recipient: " + mail.recipient.encode() + b"\n" + mail.raw)
        log.info("kept {path}", path=str(path))


def mailbox_service(reactor: Reactor, directory: Path, endpoint: str) -> StreamServerEndpointService:
    """The server as a service; ``endpoint`` says where it listens, e.g. ``tcp:25:interface=192.0.2.1``."""
    service = StreamServerEndpointService(serverFromString(reactor, endpoint), MailboxFactory(directory))
    # Without this, an address in use would only be logged and twistd would claim to have started it.
    service._raiseSynchronously = True
    return service
