"""A drained node remembers it, and its operator hears of it over a socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectionClosed
from twisted.internet.protocol import Factory
from twisted.protocols.amp import AMP, Command
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.directories import short_directory
from tests.unit.node.fakes import FakeHeartbeats, clock
from vifibnet.errors import NodeRefusal
from vifibnet.model.status import DrainedStatus, LeftStatus
from vifibnet.node import control
from vifibnet.node.control import ControlServer
from vifibnet.node.draining import FILE, Draining
from vifibnet.wire.control import CONTROL, Drain, Undrain

reactor: Any = _reactor
LEFT = LeftStatus("7/16", "vifc0", True, ())


class Tunnels:
    """Only whether they may be replaced."""

    drained = False


class Node:
    """What is drained."""

    def __init__(self, directory: Path) -> None:
        self.clock = clock()
        self.hearts = FakeHeartbeats()
        self.tunnels = Tunnels()
        self.draining = Draining(self.clock, directory, self.hearts, lambda: (LEFT,), self.tunnels)


class DrainingTests(SynchronousTestCase):
    """From one run to the next."""

    def setUp(self) -> None:
        """A new node."""
        self.directory = short_directory(self)
        self.node = Node(self.directory)

    def test_and_back(self) -> None:
        """All taps are left, and none is replaced; twice is as good as once."""
        node, draining = self.node, self.node.draining
        draining.remember()
        self.assertEqual((draining.status(), node.hearts.left, draining.undrain()), (None, set(), False))
        since = node.clock.seconds()
        self.assertFalse(draining.drain())
        self.assertEqual((node.hearts.left, node.tunnels.drained), ({None}, True))
        node.clock.advance(5)
        self.assertTrue(draining.drain())
        self.assertEqual(draining.status(), DrainedStatus(since, (LEFT,)))
        self.assertTrue(draining.undrain())
        self.assertEqual((draining.status(), node.hearts.left, node.tunnels.drained), (None, set(), False))
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_started_again(self) -> None:
        """It is drained since then, whatever became of the file's content."""
        self.node.draining.drain()
        since = self.node.clock.seconds()
        for content in (None, "nonsense"):
            if content is not None:
                (self.directory / FILE).write_text(content)
            again = Node(self.directory)
            again.draining.remember()
            self.assertEqual((again.hearts.left, again.tunnels.drained), ({None}, True))
            self.assertEqual(again.draining.status(), DrainedStatus(since, (LEFT,)))

    def test_refused(self) -> None:
        """Where nobody would hear of it, or it could not be remembered, nothing is done."""
        self.node.hearts.startService()
        self.node.hearts.works = False
        self.assertRaises(NodeRefusal, self.node.draining.drain)
        other = Node(self.directory / "gone")
        self.assertRaises(NodeRefusal, other.draining.drain)
        for node in (self.node, other):
            self.assertEqual((node.draining.status(), node.hearts.left), (None, set()))


class ControlTests(TestCase):
    """A real socket."""

    timeout = 20

    def setUp(self) -> None:
        """One that listens, where a killed run has left one."""
        self.directory = short_directory(self)
        (self.directory / CONTROL).touch()
        self.node = Node(self.directory)
        server = ControlServer(reactor, self.directory, self.node.draining)
        server.startService()
        self.addCleanup(server.stopService)

    async def call(self, command: type[Command]) -> Any:
        """One command."""
        factory: Factory = Factory.forProtocol(AMP)
        factory.noisy = False
        amp: Any = await UNIXClientEndpoint(reactor, str(self.directory / CONTROL)).connect(factory)
        try:
            return await amp.callRemote(command)
        finally:
            amp.transport.loseConnection()

    async def test_commands(self) -> None:
        """Done, and what was before."""
        self.assertEqual((self.directory / CONTROL).stat().st_mode & 0o777, 0o600)
        for command, before in ((Undrain, False), (Drain, False), (Drain, True), (Undrain, True)):
            self.assertEqual(await self.call(command), {"before": before})
        self.node.hearts.startService()
        self.node.hearts.works = False
        try:
            await self.call(Drain)
        except NodeRefusal as error:
            self.assertIn("without heartbeats", str(error))
        else:
            self.fail("it was not refused")

    async def test_stranger(self) -> None:
        """Hung up on, and nothing is done."""
        self.patch(control, "may_command", lambda uid: False)
        with self.assertRaises(ConnectionClosed):
            await self.call(Drain)
        self.assertIsNone(self.node.draining.status())
