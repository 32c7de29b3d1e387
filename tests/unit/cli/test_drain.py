"""``vifibnet drain`` and ``undrain``: what they print, on real sockets."""

from __future__ import annotations

import argparse
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from types import ModuleType

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from tests.directories import short_directory
from tests.unit.node.test_draining import LEFT, Node
from tests.unit.node.test_status import STATUS
from vifibnet.cli import drain, status, undrain
from vifibnet.errors import NodeNotRunning
from vifibnet.model.status import LeftStatus, NodeStatus
from vifibnet.node.control import ControlServer
from vifibnet.node.draining import Draining
from vifibnet.node.status import FILE, StatusServer

STUCK = LeftStatus("8/16", "vifs0", False, ("2001:db8:42:9::/64",))


class CommandTests(TestCase):
    """A node with nothing but its sockets."""

    timeout = 20

    def setUp(self) -> None:
        """It is not drained."""
        self.directory = short_directory(self)
        self.left: list[LeftStatus] = []
        node = Node(self.directory)
        self.draining = Draining(
            node.clock, self.directory, node.hearts, lambda: tuple(self.left), node.tunnels
        )

    def start(self) -> None:
        """From now on it answers."""
        for server in (
            StatusServer(reactor, self.directory / FILE, self.status),
            ControlServer(reactor, self.directory, self.draining),
        ):
            server.startService()
            self.addCleanup(server.stopService)

    def status(self) -> NodeStatus:
        """As a node's."""
        return replace(STATUS, drained=self.draining.status())

    async def run_command(self, command: ModuleType, *words: str) -> tuple[int, str]:
        """The exit status, and what it prints."""
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        output = StringIO()
        with redirect_stdout(output):
            code = await command.run(reactor, parser.parse_args([*words, "--state", str(self.directory)]))
        return code, output.getvalue()

    async def test_nobody(self) -> None:
        """No node: a sentence."""
        for command in (drain, undrain):
            with self.assertRaises(NodeNotRunning):
                await self.run_command(command)

    async def test_drain(self) -> None:
        """At once where nobody is in the way; again changes nothing; status and undrain tell."""
        self.start()
        words = "node 5/16 is drained: nothing of others goes through it, after "
        for _ in range(2):
            code, said = await self.run_command(drain)
            self.assertEqual((code, said.startswith(words)), (0, True), said)
        _, said = await self.run_command(status)
        self.assertIn(", until vifibnet undrain; nothing of others goes through it\n", said)
        self.assertIn("\nvifibnet_node_drained 1\n", (await self.run_command(status, "--metrics"))[1])
        for after in ("carries others' packets again", "was not drained"):
            self.assertEqual(await self.run_command(undrain), (0, f"node 5/16 {after}\n"))
        self.assertIn("\nvifibnet_node_drained 0\n", (await self.run_command(status, "--metrics"))[1])

    async def test_left(self) -> None:
        """Who is in the way after the wait, and why."""
        self.start()
        self.left = [STUCK]
        code, said = await self.run_command(drain, "--wait", "0.2")
        self.assertEqual(code, drain.CARRIES)
        self.assertRegex(said, r"is drained, but after [0-9.]+ s this still goes through it:\n")
        why = "  8/16 on vifs0 has no other way to 1 subnet: 2001:db8:42:9::/64\n"
        self.assertTrue(said.endswith(why), said)
        self.left = [LEFT]
        _, said = await self.run_command(drain, "--wait", "0")
        self.assertIn("  7/16 on vifc0 has not said yet that it has moved its routes\n", said)
        self.left = [replace(STUCK, moving=True)]
        self.assertIn("8/16 on vifs0 has not moved 1 subnet", (await self.run_command(status))[1])
