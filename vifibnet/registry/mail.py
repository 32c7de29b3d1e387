"""The mail that brings a token, and handing it to the mail server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from io import BytesIO
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.logger import Logger
from twisted.mail.smtp import ESMTPClient, SMTPClientError
from twisted.python.failure import Failure
from zope.interface import implementer

from vifibnet.errors import MailFailed
from vifibnet.interfaces import IMailer
from vifibnet.model.addresses import Network
from vifibnet.wire.invitation import Invitation

log = Logger()

CONNECT_TIMEOUT = 10.0
"""Seconds for the mail server to accept a connection."""

TIMEOUT = 30.0
"""Seconds for a whole mail; who asked for the token waits meanwhile."""

HANG_UP_TIMEOUT = 5.0
"""Seconds for the mail server to hang up when all is said."""


@dataclass(frozen=True)
class TokenMail:
    """What a mail with a token says; ``invite`` makes the invitation that it is part of."""

    network: Network
    invite: Callable[[str], Invitation]

    @property
    def subject(self) -> str:
        """The mail's subject; the network's address would only break a line here."""
        return f"Your token for the network {self.network}"

    def body(self, token: str) -> str:
        """The mail's text, plain ASCII. The only place where a token is ever written."""
        invitation = self.invite(token)
        # A line of a mail has at most 998 characters (RFC 5322): enough for two of the longest names.
        line = replace(invitation, addresses=invitation.addresses[:2])
        return (
            f"Somebody, probably you, asked for a token to join the private network\n"
            f"{self.network} with this e-mail address.\n"
            f"\n"
            f"Token: {token}\n"
            f"\n"
            f"Where vifibnet setup is waiting for it, type it in. Otherwise this one line, on\n"
            f"the machine that is to join, is all that it takes:\n"
            f"\n"
            f"    vifibnet setup --dir /var/lib/vifibnet {line}\n"
            f"\n"
            f"The token works once, within 24 hours. If it was not you who asked, do nothing.\n"
        )


@implementer(IMailer)
class SMTPMailer:
    """Hands mails to one mail server, over TLS when it offers STARTTLS.

    That TLS keeps out who only listens: the server's certificate is not checked, as usual between mail
    servers, for without TLS the mail would travel all the same.
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        sender: str,
        timeout: float = TIMEOUT,
        endpoint: IStreamClientEndpoint | None = None,
    ) -> None:
        """``sender`` is the address that mails come from, and its domain is our name towards the server."""
        self._reactor = reactor
        self._clock: IReactorTime = reactor
        self._timeout = timeout
        self._sending: set[Deferred[None]] = set()
        self.change(host, port, sender, endpoint)

    def change(
        self, host: str, port: int, sender: str, endpoint: IStreamClientEndpoint | None = None
    ) -> None:
        """Hand the mails that follow to this server."""
        self._endpoint = endpoint or HostnameEndpoint(self._reactor, host, port, timeout=CONNECT_TIMEOUT)
        self._where = f"{host} port {port}"
        self._sender = sender
        self._domain = sender.rpartition("@")[2]

    async def send(self, to: str, subject: str, body: str) -> None:
        """Hand one mail to the mail server. Raises MailFailed."""
        sending = Deferred.fromCoroutine(self._send(to, self._message(to, subject, body)))
        self._sending.add(sending)
        try:
            await sending.addTimeout(self._timeout, self._clock)
        except (TimeoutError, CancelledError):
            raise self._failed(to, "the mail server did not answer in time") from None
        except SMTPClientError as error:
            raise self._failed(to, f"the mail server says {_said(error)}") from None
        except Exception as error:
            # What else there is depends on the reactor and on TLS; it is all the connection's fault.
            raise self._failed(to, f"the mail server cannot be reached: {error}"[:300].rstrip(".")) from None
        finally:
            self._sending.discard(sending)

    def close(self) -> None:
        """Give up what is being sent."""
        for sending in list(self._sending):
            sending.cancel()

    def _message(self, to: str, subject: str, body: str) -> bytes:
        message = EmailMessage(policy=SMTP.clone(linesep="\n"))
        message["From"] = f"vifibnet <{self._sender}>"
        message["To"] = to
        message["Subject"] = subject
        message["Date"] = format_datetime(datetime.fromtimestamp(self._clock.seconds(), UTC))
        # With a domain of our own it asks no resolver for one.
        message["Message-ID"] = make_msgid(domain=self._domain)
        message["Auto-Submitted"] = "auto-generated"
        # Anything else would break the long line of the invitation in two.
        message.set_content(body, charset="us-ascii", cte="7bit")
        return message.as_bytes()

    async def _send(self, to: str, message: bytes) -> None:
        sender = _Sender(self._domain, self._sender, to, message)
        factory = Factory.forProtocol(lambda: sender)
        factory.noisy = False
        await self._endpoint.connect(factory)
        try:
            await sender.done
        finally:
            sender.hang_up(self._clock)

    def _failed(self, to: str, problem: str) -> MailFailed:
        log.warn("no mail to {to} over {server}: {problem}", to=to, server=self._where, problem=problem)
        return MailFailed(problem=problem)


class _Sender(ESMTPClient):
    """One connection for one mail."""

    # Keeps no transcript.
    debug = False

    def __init__(self, domain: str, sender: str, to: str, message: bytes) -> None:
        options = CertificateOptions()
        ESMTPClient.__init__(self, None, options, identity=domain.encode("ascii"))
        self.done: Deferred[None] = Deferred(lambda _: self._abort())
        self._sender = sender.encode("ascii")
        self._to = to.encode("ascii")
        self._message = message
        self._gone = False
        self._aborting: IDelayedCall | None = None

    def getMailFrom(self) -> bytes:  # noqa: N802
        """The sender."""
        return self._sender

    def getMailTo(self) -> list[bytes]:  # noqa: N802
        """The recipient."""
        return [self._to]

    def getMailData(self) -> BytesIO:  # noqa: N802
        """The mail with its headers."""
        return BytesIO(self._message)

    def smtpState_msgSent(self, code: int, resp: bytes) -> None:  # noqa: N802
        """The server's last word on the mail: accepted, or refused with its data or its recipient."""
        if not self.successAddresses and self.toAddressesResult:
            _, code, resp = self.toAddressesResult[0]
        accepted = self.successAddresses and 200 <= code < 300
        self._finish(None if accepted else Failure(SMTPClientError(code, resp)))

    def sendError(self, exc: Exception) -> None:  # noqa: N802
        """It did not come to the mail."""
        self._finish(Failure(exc))

    def hang_up(self, clock: IReactorTime) -> None:
        """Take leave, and do not wait long for the other side to hang up as well."""
        transport: Any = self.transport
        if not self._gone:
            self.sendLine(b"QUIT")
            transport.loseConnection()
            self._aborting = clock.callLater(HANG_UP_TIMEOUT, transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """The connection is gone, after the mail or before."""
        ESMTPClient.connectionLost(self, reason)
        self._gone = True
        if self._aborting is not None and self._aborting.active():
            self._aborting.cancel()
        self._finish(reason)

    def _finish(self, result: Failure | None) -> None:
        if not self.done.called:
            self.done.callback(result)

    def _abort(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()


def _said(error: SMTPClientError) -> str:
    """What the mail server answered, on one line."""
    resp = error.resp.decode("utf-8", "replace") if isinstance(error.resp, bytes) else str(error.resp)
    text = " ".join("".join(c if c.isprintable() else " " for c in resp).split())[:200]
    return f"{error.code} {text}".strip() if error.code > 0 else text
