"""The lab's SMTP server, which keeps what it gets in memory, or refuses it."""

from __future__ import annotations

import json
import sys
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress
from twisted.mail.smtp import ESMTP, SMTPBadRcpt, User

from vifibnet.lab import mailbox
from vifibnet.lab.mailbox import Mail

reactor: Any = _reactor


def message(mail: Mail) -> EmailMessage:
    """What is in a mail."""
    return message_from_bytes(mail.raw, policy=policy.default)


class MailServer(mailbox.MailServer):
    """Listens where it is told to; ``tls`` (a context factory) makes it offer STARTTLS."""

    def __init__(self, tls: object = None, *, refusing: bool = False) -> None:
        super().__init__()
        self.tls = tls
        self.refusing = refusing
        self.mails: list[Mail] = []
        self.connections: set[ESMTP] = set()
        self.idle: list[Deferred[None]] = []

    def buildProtocol(self, addr: IAddress | None) -> ESMTP:
        """One connection, until it is lost."""
        protocol: Any = super().buildProtocol(addr)
        lost = protocol.connectionLost

        def connection_lost(*reason: object) -> None:
            lost(*reason)
            self.connections.discard(protocol)
            if not self.connections:
                idle, self.idle = self.idle, []
                for each in idle:
                    each.callback(None)

        protocol.connectionLost = connection_lost
        self.connections.add(protocol)
        made: ESMTP = protocol
        return made

    def check(self, user: User) -> None:
        """Refuse everybody, if that is wanted."""
        if self.refusing:
            raise SMTPBadRcpt(user, 550, "nobody here\r\nby that name")

    def keep(self, mail: Mail) -> None:
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
        def keep(self, mail: Mail) -> None:
            print(json.dumps({"recipient": mail.recipient, "raw": mail.raw.decode()}), flush=True)

    reactor.listenTCP(int(sys.argv[1]), Printing(), interface="127.0.0.1")
    print(json.dumps("ready"), flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
