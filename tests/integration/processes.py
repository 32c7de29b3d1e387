"""Real processes, and network namespaces for them, that never outlive a test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.executable
TWISTD = str(Path(sys.executable).with_name("twistd"))

_numbers = count()


def wait_for(
    condition: Callable[[], object], what: str, seconds: float = 20.0, logs: Callable[[], str] = str
) -> None:
    """The same as namespaces.eventually where the reactor does not run."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}\n{logs()}")
        time.sleep(0.02)


class Process:
    """One process whose output goes to files."""

    def __init__(self, command: Sequence[str | Path], directory: Path, prefix: Sequence[str] = ()) -> None:
        name = f"process-{next(_numbers)}"
        self._stdout, self._stderr = directory / f"{name}.out", directory / f"{name}.err"
        with self._stdout.open("wb") as out, self._stderr.open("wb") as err:
            self._process = subprocess.Popen(
                [*prefix, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=directory,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            )

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._stdout.read_text()

    @property
    def errors(self) -> str:
        """What it has printed on stderr so far."""
        return self._stderr.read_text()

    @property
    def running(self) -> bool:
        """Whether it is."""
        return self._process.poll() is None

    def wait_for(self, text: str, seconds: float = 20.0) -> None:
        """Wait until it has printed this."""
        wait_for(lambda: text in self.output or not self.running, text, seconds)
        if text not in self.output:
            raise AssertionError(f"it ended: {self.output}{self.errors}")

    def end(self, seconds: float = 20.0) -> int:
        """Wait for its end; its status."""
        return self._process.wait(seconds)

    def terminate(self) -> float:
        """SIGTERM; how many seconds it took to end."""
        begin = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)
        return time.monotonic() - begin

    def kill(self) -> None:
        """Make sure that it is gone."""
        if self.running:
            self._process.kill()
        self._process.wait(20)


class Namespace:
    """A network namespace of our own, with loopback up, and files of its own for the resolver."""

    def __init__(self, hosts: str = "127.0.0.1 localhost\n", resolv: str = "") -> None:
        self.name = f"vfr{os.getpid()}-{next(_numbers)}"
        self.prefix = ("ip", "netns", "exec", self.name)
        self._etc = Path("/etc/netns") / self.name
        self._made_parent = not self._etc.parent.exists()
        self._etc.mkdir(parents=True)
        # ip netns exec shows these to its children instead of the machine's.
        (self._etc / "hosts").write_text(hosts)
        (self._etc / "resolv.conf").write_text(resolv)
        try:
            self._ip("netns", "add", self.name)
        except BaseException:
            self._remove_files()
            raise
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments: str) -> None:
        """Run ip inside."""
        self._ip("-n", self.name, *arguments)

    @staticmethod
    def _ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)

    def run(self, *command: str | Path, seconds: float = 30.0) -> str:
        """Run a command inside; what it printed."""
        done = subprocess.run(
            [*self.prefix, *map(str, command)],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        if done.returncode:
            raise AssertionError(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    def close(self) -> None:
        """Remove all of it, once its processes have gone."""
        self._ip("netns", "del", self.name)
        self._remove_files()

    def _remove_files(self) -> None:
        shutil.rmtree(self._etc)
        if self._made_parent and not any(self._etc.parent.iterdir()):
            self._etc.parent.rmdir()
