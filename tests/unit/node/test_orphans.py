"""The children of a node that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.node import orphans
from vifibnet.node.orphans import are_there, end


class OrphansTests(SynchronousTestCase):
    """Real processes, and command lines that they do not have."""

    def setUp(self) -> None:
        """A state directory."""
        self.state = Path(self.mktemp()).absolute()
        self.state.mkdir()

    def orphan(self) -> subprocess.Popen[bytes]:
        """Something that waits."""
        process = subprocess.Popen(["sleep", "60"])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def proc(self, commands: dict[int, Sequence[str]]) -> Path:
        """A /proc in which processes have these command lines, and see the files that we see."""
        proc = Path(self.mktemp())
        (proc / "self").mkdir(parents=True)
        for pid, words in commands.items():
            (proc / str(pid)).mkdir()
            (proc / str(pid) / "root").symlink_to("/")
            (proc / str(pid) / "cmdline").write_text("".join(f"{word}\0" for word in words))
        return proc

    def test_end(self) -> None:
        """Only what a node of this state directory has started is ended."""
        lines = (
            ("openvpn", "--management", f"{self.state}/vifs0.sock", "unix"),
            ("/usr/sbin/babeld", "-I", f"{self.state}/babeld.pid"),
            ("openvpn", "--management", "/var/lib/other/vifs0.sock", "unix"),
            ("openvpn", "--management", f"{self.state}/mine.sock", "unix"),
            ("babeld", "-I", "/run/babeld.pid"),
            ("vi", f"{self.state}/babeld.pid"),
        )
        processes = [self.orphan() for _ in lines]
        proc = self.proc({process.pid: words for process, words in zip(processes, lines, strict=True)})
        # One that has ended meanwhile.
        (proc / "4194999").mkdir()
        self.assertTrue(are_there(self.state, proc))
        self.assertEqual(sorted(end(self.state, proc)), sorted(process.pid for process in processes[:2]))
        self.assertEqual([process.wait(5) for process in processes[:2]], [-signal.SIGTERM] * 2)
        self.assertEqual([process.poll() for process in processes[2:]], [None] * 4)
        self.assertFalse(are_there(self.state, self.proc({processes[-1].pid: lines[-1]})))

    def test_container(self) -> None:
        """A node's children in a container stay, though its state directory has the same path there; so do
        those of whom nobody knows what they see."""
        processes = [self.orphan() for _ in range(3)]
        lines = ("openvpn", "--management", f"{self.state}/vifs0.sock", "unix")
        proc = self.proc({process.pid: lines for process in processes})
        container = Path(self.mktemp()).absolute()
        Path(f"{container}{self.state}").mkdir(parents=True)
        for process, root in zip(processes[1:], (container, container / "nowhere"), strict=True):
            (proc / str(process.pid) / "root").unlink()
            (proc / str(process.pid) / "root").symlink_to(root)
        self.assertEqual(end(self.state, proc), [processes[0].pid])
        self.assertEqual([process.poll() for process in processes[1:]], [None] * 2)

    def test_stubborn(self) -> None:
        """One that hangs is killed."""
        self.patch(orphans, "PATIENCE", 0.1)
        process = self.orphan()
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        proc = self.proc({process.pid: ("babeld", "-I", f"{self.state}/babeld.pid")})
        self.assertEqual(end(self.state, proc), [process.pid])
        self.assertEqual(process.wait(5), -signal.SIGKILL)
