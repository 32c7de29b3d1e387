"""Daemons: found by their pid files, ended by signals."""

from __future__ import annotations

import signal
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.trial.unittest import TestCase

from vifibnet.lab.children import Child
from vifibnet.lab.daemons import Daemon, DaemonFailed, DoesNotEnd


class DaemonTests(TestCase):
    """Real small processes in the place of twistd's."""

    timeout = 20

    def setUp(self) -> None:
        """A directory for pid file and log."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.daemon = Daemon(reactor, "node", self.directory)

    async def child(self, script: str) -> tuple[Child, int]:
        """Start a shell script; return when it has said that it is ready."""
        ready: Deferred[str] = Deferred()
        child = Child(
            reactor, ["sh", "-c", f"{script}; echo $$; while :; do sleep 0.05; done"], ready.callback
        )
        child.start()
        self.addCleanup(lambda: ensureDeferred(child.stop(0.1)))
        return child, int(await ready)

    def test_pid(self) -> None:
        """The process is in the pid file, when there is one that can be read."""
        self.assertIsNone(self.daemon.pid)
        self.daemon.pid_file.write_text("")
        self.assertIsNone(self.daemon.pid)
        self.daemon.pid_file.write_text("17\n")
        self.assertEqual(self.daemon.pid, 17)

    async def test_end(self) -> None:
        """It is over when the process is gone."""
        child, pid = await self.child("true")
        await self.daemon.end(pid, signal.SIGTERM)
        self.assertEqual(await child.ended(), -signal.SIGTERM)
        await self.daemon.end(pid, signal.SIGTERM)

    async def test_does_not_end(self) -> None:
        """One that ignores the signal is complained about, and can be killed."""
        child, pid = await self.child("trap '' TERM")
        await self.assertFailure(ensureDeferred(self.daemon.end(pid, signal.SIGTERM, 0.1)), DoesNotEnd)
        await self.daemon.end(pid, signal.SIGKILL)
        self.assertEqual(await child.ended(), -signal.SIGKILL)

    async def test_start_fails(self) -> None:
        """The error shows what was said, and what this start wrote to the log, but nothing older."""
        self.daemon.log.write_text("old\n")
        command = ["sh", "-c", f"echo new >> {self.daemon.log.absolute()}; echo sorry >&2; exit 1"]
        error: object = None
        try:
            await self.daemon.start(command)
        except DaemonFailed as failed:
            error = failed
        self.assertIn("sorry\nnew", str(error))
        self.assertNotIn("old", str(error))
        await self.daemon.start(["true"])

    def test_command(self) -> None:
        """twistd is told where to keep pid and log."""
        command = self.daemon.command("vifibnet-node", "@lab.conf")
        self.assertEqual(Path(command[0]).name, "twistd")
        self.assertEqual(command[-2:], ["vifibnet-node", "@lab.conf"])
        self.assertIn(f"--pidfile={self.daemon.pid_file}", command)
