"""A mail server that delivers nothing: it keeps every mail as a file, for the lab to read its tokens from."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable
from itertools import count
from pathlib import Path

from twisted.application.internet import StreamServerEndpointService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.mail.smtp import ESMTP, Address, IMessage, IMessageDelivery, SMTPFactory, User
from zope.interface import implementer

from vifibnet.lab.children import Reactor
from vifibnet.pki.files import write_atomically

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


@implementer(IMessage)
class _Message:
    """One mail on its way into a file."""

    def __init__(self, recipient: str, keep: Callable[[bytes], None]) -> None:
        self.lines = [b"X-Lab-Recipient: " + recipient.encode()]
        self.size = 0
        self.keep = keep

    def lineReceived(self, line: bytes) -> None:
        self.size += len(line)
        if self.size < MAX_BYTES:
            self.lines.append(line)

    def eomReceived(self) -> Deferred[None]:
        self.keep(b"\n".join(self.lines) + b"\n")
        return succeed(None)

    def connectionLost(self) -> None:
        """Forget a mail that did not come to its end."""


@implementer(IMessageDelivery)
class _Delivery:
    """Accept everything for everybody."""

    def __init__(self, keep: Callable[[bytes], None]) -> None:
        self.keep = keep

    def receivedHeader(self, helo: tuple[bytes, bytes], origin: Address, recipients: list[User]) -> bytes:
        return b"Received: by the lab"

    def validateFrom(self, helo: tuple[bytes, bytes], origin: Address) -> Address:
        return origin

    def validateTo(self, user: User) -> Callable[[], IMessage]:
        return lambda: _Message(str(user.dest), self.keep)


class MailboxFactory(SMTPFactory):
    """Serves SMTP; the mails become ``0001.eml`` onwards in ``directory``, each appearing whole."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.numbers = count(len(mails(directory)) + 1)

    def buildProtocol(self, addr: IAddress | None) -> ESMTP:
        """One connection."""
        protocol = ESMTP()
        protocol.factory = self
        protocol.delivery = _Delivery(self._keep)
        protocol.host = b"mailbox.lab"
        return protocol

    def _keep(self, content: bytes) -> None:
        path = self.directory / f"{next(self.numbers):04d}.eml"
        write_atomically(path, content)
        log.info("kept {path}", path=str(path))


def mailbox_service(reactor: Reactor, directory: Path, endpoint: str) -> StreamServerEndpointService:
    """The server as a service; ``endpoint`` says where it listens, e.g. ``tcp:25:interface=192.0.2.1``."""
    service = StreamServerEndpointService(serverFromString(reactor, endpoint), MailboxFactory(directory))
    # Without this, an address in use would only be logged and twistd would claim to have started it.
    service._raiseSynchronously = True
    return service
