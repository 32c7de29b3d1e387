"""A real SMTP server (twisted.mail's) that keeps what it gets, or refuses it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import Factory, connectionDone
from twisted.mail.smtp import ESMTP, IMessage, IMessageDelivery, SMTPBadRcpt
from twisted.python.failure import Failure
from zope.interface import implementer

reactor: Any = _reactor


@dataclass(frozen=True)
class Mail:
    """One mail as it arrived: the envelope, whether over TLS, and what was in it."""

    sender: str
    recipient: str
    tls: bool
    raw: bytes
    message: EmailMessage = field(repr=False)


@implementer(IMessage)
class _Incoming:
    def __init__(self, server: MailServer, protocol: Any, user: Any) -> None:
        self._server = server
        self._protocol = protocol
        self._user = user
        self._lines: list[bytes] = []

    def lineReceived(self, line: bytes) -> None:
        self._lines.append(line)

    def eomReceived(self) -> Deferred[None]:
        raw = b"\n".join(self._lines) + b"\n"
        message = message_from_bytes(raw, policy=policy.default)
        self._server.deliver(
            Mail(str(self._user.orig), str(self._user.dest), self._protocol.startedTLS, raw, message)
        )
        return succeed(None)

    def connectionLost(self) -> None:
        self._lines = []


@implementer(IMessageDelivery)
class _Delivery:
    def __init__(self, server: MailServer) -> None:
        self._server = server
        self.protocol: Any = None

    def receivedHeader(self, helo: object, origin: object, recipients: object) -> bytes:
        return b"X-Received: yes"

    def validateFrom(self, helo: object, origin: object) -> object:
        return origin

    def validateTo(self, user: Any) -> Any:
        if self._server.refusing:
            raise SMTPBadRcpt(user, 550, "nobody here\r\nby that name")
        return lambda: _Incoming(self._server, self.protocol, user)


class _Connection(ESMTP):
    noisy = False

    def __init__(self, server: MailServer) -> None:
        ESMTP.__init__(self, contextFactory=server.tls)
        self._server = server

    def connectionMade(self) -> None:
        ESMTP.connectionMade(self)
        self._server.connections.add(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        ESMTP.connectionLost(self, reason)
        self._server.connections.discard(self)
        if not self._server.connections:
            for idle in self._server.idle:
                idle.callback(None)
            self._server.idle = []


class MailServer(Factory):
    """Listens where it is told to; ``tls`` (a context factory) makes it offer STARTTLS."""

    noisy = False

    def __init__(self, tls: object = None, *, refusing: bool = False) -> None:
        self.tls = tls
        self.refusing = refusing
        self.mails: list[Mail] = []
        self.connections: set[ESMTP] = set()
        self.idle: list[Deferred[None]] = []

    def buildProtocol(self, addr: object) -> ESMTP:
        """One connection."""
        protocol = _Connection(self)
        protocol.delivery = _Delivery(self)
        protocol.delivery.protocol = protocol
        protocol.factory = self
        return protocol

    def deliver(self, mail: Mail) -> None:
        """Keep a mail."""
        self.mails.append(mail)

    def when_idle(self) -> Deferred[None]:
        """Fires when nobody is connected any more."""
        idle: Deferred[None] = Deferred()
        self.idle.append(idle)
        return idle if self.connections else succeed(None)


def main() -> None:
    """Listen on the port of 127.0.0.1 that is the first argument, and print each mail as a line of JSON."""

    class Printing(MailServer):
        def deliver(self, mail: Mail) -> None:
            print(json.dumps({"recipient": mail.recipient, "raw": mail.raw.decode()}), flush=True)

    reactor.listenTCP(int(sys.argv[1]), Printing(), interface="127.0.0.1")
    print(json.dumps("ready"), flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
