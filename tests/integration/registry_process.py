"""A real registry with a real mail server around it on the loopback, and real ``vifibnet`` commands."""

from __future__ import annotations

import email
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.mail.smtp import ESMTP, IMessage, IMessageDelivery, SMTPFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from vifibnet.model.addresses import Network
from vifibnet.pki.authority import create_authority

reactor: Any = global_reactor
DEADLINE = 20.0
"""Seconds that nothing here may take."""


class Command(ProcessProtocol):
    """One run of a program; ``output`` grows, ``ended`` fires with the exit status (negative: a signal)."""

    def __init__(self, arguments: list[str], terminal: bool = False) -> None:
        self.output = ""
        self._ended: list[Deferred[int]] = []
        self.status: int | None = None
        self.process = reactor.spawnProcess(
            self, arguments[0], arguments, env=dict(os.environ), usePTY=terminal
        )

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Keep whatever it prints."""
        self.output += data.decode()

    def processEnded(self, reason: Failure) -> None:
        """Tell those who wait."""
        value: Any = reason.value
        self.status = int(-value.signal if value.signal else value.exitCode or 0)
        for waiting in self._ended:
            waiting.callback(self.status)

    async def ended(self) -> int:
        """Wait for its end; the exit status."""
        if self.status is None:
            self._ended.append(Deferred())
            await self._ended[-1].addTimeout(DEADLINE, reactor)
        assert self.status is not None
        return self.status

    async def prints(self, text: str) -> None:
        """Wait until it has printed this since the last wait."""
        await eventually(lambda: text in self.output or self.status is not None, text)
        if text not in self.output:
            raise AssertionError(f"{text!r} is not in what it printed: {self.output}")
        self.output = self.output.partition(text)[2]

    def types(self, text: str) -> None:
        """Type at its terminal."""
        self.process.write(text.encode())

    def send(self, number: int) -> None:
        """Send it a signal, if it is still there."""
        with suppress(ProcessExitedAlready):
            self.process.signalProcess(int(number))

    async def stop(self, number: int = signal.SIGTERM) -> None:
        """End it."""
        self.send(number)
        await self.ended()


async def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait until something outside is as it should be."""
    end = reactor.seconds() + DEADLINE
    while not condition():
        if reactor.seconds() > end:
            raise AssertionError(f"in vain waited for {what}")
        await deferLater(reactor, 0.02)


@implementer(IMessage)
class _Mail:
    def __init__(self, mails: list[str]) -> None:
        self.mails = mails
        self.lines: list[bytes] = []

    def lineReceived(self, line: bytes) -> None:
        self.lines.append(line)

    def eomReceived(self) -> Deferred[None]:
        self.mails.append(str(email.message_from_bytes(b"\n".join(self.lines)).get_payload()))
        return succeed(None)

    def connectionLost(self) -> None:
        """Nothing to undo."""


@implementer(IMessageDelivery)
class _Sink:
    def __init__(self, mails: list[str]) -> None:
        self.mails = mails

    def receivedHeader(self, helo: object, origin: object, recipients: object) -> bytes:
        return b"Received: here"

    def validateFrom(self, helo: object, origin: object) -> object:
        return origin

    def validateTo(self, user: object) -> Callable[[], _Mail]:
        return lambda: _Mail(self.mails)


def free_port() -> int:
    """A port of the loopback on which nobody listens at this moment."""
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        number: int = some.getsockname()[1]
    return number


class RegistryCase(TestCase):
    """Each test has a registry of its own on ``self.port``, and its mails in ``self.mails``."""

    network = "2001:db8:42::/48"

    async def setUp(self) -> None:  # type: ignore[override]
        self.home = Path(self.mktemp()).absolute()
        self.home.mkdir()
        self.mails: list[str] = []
        self.mail_port = self.serve_mail()
        self.port = free_port()
        self.registry = await self.start_registry(self.home / "registry", self.network, self.port)

    def serve_mail(self) -> int:
        """Start the mail server; its port."""

        def protocol() -> ESMTP:
            made = ESMTP()
            made.delivery = _Sink(self.mails)
            return made

        factory = SMTPFactory.forProtocol(protocol)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    async def start_registry(self, home: Path, network: str, port: int) -> Command:
        """Make a CA and start a registry with it, which ends with the test."""
        home.mkdir()
        key, certificate = create_authority(
            Network.parse(network), name="test", email=None, days=2, now=datetime.now(UTC)
        )
        (home / "ca.key").write_bytes(key)
        (home / "ca.crt").write_bytes(certificate)
        registry = Command(
            [
                *(program("twistd"), "-n", "--pidfile=", "vifibnet-registry", str(port)),
                *("--db", str(home / "registry.db"), "--interface", "127.0.0.1", "--name", "127.0.0.1"),
                *("--ca", str(home / "ca.crt"), "--key", str(home / "ca.key")),
                *("--mailhost", "127.0.0.1", "--mail-port", str(self.mail_port)),
            ]
        )
        self.addCleanup(registry.stop)
        await eventually(lambda: registry.status is not None or listens(port), "the registry")
        self.assertIsNone(registry.status, registry.output)
        return registry

    def setup_command(self, *options: str, port: int | None = None, terminal: bool = False) -> Command:
        """Start ``vifibnet setup`` with this registry; it is gone when the test ends."""
        where = ["--server", "127.0.0.1", "--port", str(port or self.port)]
        command = Command([program("vifibnet"), "setup", *where, *options], terminal)
        self.addCleanup(command.stop, signal.SIGKILL)
        return command

    async def token(self) -> str:
        """Wait for a mail and take the token out of it."""
        await eventually(lambda: self.mails, "a mail")
        found = re.search(r"^Token: (\S+)$", self.mails[-1], re.MULTILINE)
        assert found is not None, self.mails
        return found[1]


def program(name: str) -> str:
    """A program of this very installation."""
    return str(Path(sys.executable).with_name(name))


def listens(port: int) -> bool:
    """Whether somebody accepts connections there, as the kernel tells without connecting."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1] == f"0100007F:{port:04X}" and line.split()[3] == "0A" for line in lines)
