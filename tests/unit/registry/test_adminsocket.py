"""The operator's socket: where it may be, and what it leaves."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.amp import AMP
from twisted.trial.unittest import TestCase

from tests.directories import short_directory
from tests.unit.registry.parts import Parts
from vifibnet.errors import BadInput
from vifibnet.registry.administration import Administration
from vifibnet.registry.adminsocket import AdminSocket
from vifibnet.wire.admin import ListTokens

reactor: Any = _reactor


class AdminSocketTests(TestCase):
    """On a real unix socket."""

    timeout = 20

    def setUp(self) -> None:
        self.parts = Parts(Path(self.mktemp()))
        self.addCleanup(self.parts.store.close)
        self.administration = Administration(
            self.parts.registry.renewal, self.parts.store, self.parts.registry.revocations,
            self.parts.registry.parameters, self.parts.clock, self.parts.invite,
        )  # fmt: skip
        self.directory = short_directory(self)
        self.path = self.directory / "s"

    def listen(self, path: Path | None = None) -> AdminSocket:
        """A socket that is closed with the test."""
        made = AdminSocket(reactor, path or self.path, "--admin-socket x")
        self.addCleanup(made.close)
        made.listen(self.administration)
        return made

    def refusal(self, path: Path | None = None) -> str:
        """The sentence with which a place is refused."""
        with self.assertRaises(BadInput) as caught:
            self.listen(path)
        return str(caught.exception)

    async def test_life(self) -> None:
        """Who is let in is answered; at the end nobody is connected and nothing is left."""
        listening = self.listen()
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        factory: Factory = Factory.forProtocol(AMP)
        factory.noisy = False
        amp: Any = await UNIXClientEndpoint(reactor, str(self.path)).connect(factory)
        self.assertEqual((await amp.callRemote(ListTokens, after=""))["tokens"], [])
        failing = amp.callRemote(ListTokens, after="")
        await listening.close()
        self.assertFalse(self.path.exists())
        failing.addErrback(lambda _: None)
        await failing

    def test_places(self) -> None:
        """Only a dead registry's socket is removed."""
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(self.path))
        self.listen()
        self.assertIn("--admin-socket x: is another registry's; stop that one", self.refusal())
        file = self.directory / "file"
        file.write_text("mine")
        self.assertIn("is there and is no socket", self.refusal(file))
        self.assertEqual(file.read_text(), "mine")
        self.assertIn("cannot listen (No such file or directory)", self.refusal(self.directory / "no" / "s"))
        self.assertIn("cannot listen", self.refusal(self.directory / ("x" * 300)))
