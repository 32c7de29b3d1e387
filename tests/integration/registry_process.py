"""A real registry with a real mail server around it on the loopback, and real ``vifibnet`` commands."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.directories import short_directory
from tests.integration.namespaces import eventually
from tests.mailserver import MailServer
from tests.ports import free_port
from tests.unit.registry.parts import token_in
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


class RegistryCase(TestCase):
    """Each test has a registry of its own on ``self.port``, and its mails in ``self.mail``."""

    network = "2001:db8:42::/48"

    async def setUp(self) -> None:  # type: ignore[override]
        self.home = short_directory(self)
        self.mail = MailServer()
        listening = reactor.listenTCP(0, self.mail, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        self.mail_port = listening.getHost().port
        self.port = free_port()
        self.registry = await self.start_registry(self.home / "registry", self.network, self.port)

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
        await eventually(lambda: self.mail.mails, "a mail")
        return token_in(self.text())

    def text(self) -> str:
        """What the last mail says."""
        return self.mail.mails[-1].raw.decode()


def program(name: str) -> str:
    """A program of this very installation."""
    return str(Path(sys.executable).with_name(name))


def listens(port: int) -> bool:
    """Whether somebody accepts connections there, as the kernel tells without connecting."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1] == f"0100007F:{port:04X}" and line.split()[3] == "0A" for line in lines)
