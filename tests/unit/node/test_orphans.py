"""The children of a node that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.node import orphans
from vifibnet.node.orphans import end

STATE = Path("/var/lib/vifibnet")


class OrphansTests(SynchronousTestCase):
    """Real processes, and command lines that they do not have."""

    def orphan(self) -> subprocess.Popen[bytes]:
        """Something that waits."""
        process = subprocess.Popen(["sleep", "60"])
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def proc(self, commands: dict[int, Sequence[str]]) -> Path:
        """A /proc in which processes have these command lines."""
        proc = Path(self.mktemp())
        (proc / "self").mkdir(parents=True)
        for pid, words in commands.items():
            (proc / str(pid)).mkdir()
            (proc / str(pid) / "cmdline").write_text("".join(f"{word}\0" for word in words))
        return proc

    def test_end(self) -> None:
        """Only what a node of this state directory has started is ended."""
        lines = (
            ("openvpn", "--management", f"{STATE}/vifs0.sock", "unix"),
            ("/usr/sbin/babeld", "-I", f"{STATE}/babeld.pid"),
            ("openvpn", "--management", "/var/lib/other/vifs0.sock", "unix"),
            ("openvpn", "--management", f"{STATE}/mine.sock", "unix"),
            ("babeld", "-I", "/run/babeld.pid"),
            ("vi", f"{STATE}/babeld.pid"),
        )
        processes = [self.orphan() for _ in lines]
        proc = self.proc({process.pid: words for process, words in zip(processes, lines, strict=True)})
        # One that has ended meanwhile.
        (proc / "4194999").mkdir()
        self.assertEqual(sorted(end(STATE, proc)), sorted(process.pid for process in processes[:2]))
        self.assertEqual([process.wait(5) for process in processes[:2]], [-signal.SIGTERM] * 2)
        self.assertEqual([process.poll() for process in processes[2:]], [None] * 4)

    def test_stubborn(self) -> None:
        """One that hangs is killed."""
        self.patch(orphans, "PATIENCE", 0.1)
        process = self.orphan()
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        proc = self.proc({process.pid: ("babeld", "-I", f"{STATE}/babeld.pid")})
        self.assertEqual(end(STATE, proc), [process.pid])
        self.assertEqual(process.wait(5), -signal.SIGKILL)
