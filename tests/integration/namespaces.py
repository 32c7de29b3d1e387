"""Network namespaces for tests, and a reactor that starts its children in one."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()


def command(*words: str) -> str:
    """Run a program to its end; its output. Raises AssertionError with what it said where it fails."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


class Namespace:
    """A network namespace of our own, with its loopback up; everything in it ends with ``destroy``."""

    def __init__(self) -> None:
        self.name = f"vft{os.getpid()}-{next(_numbers)}"
        command("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *words: str) -> str:
        """Run iproute2 inside."""
        return command("ip", "-n", self.name, *words)

    def connect(self, other: Namespace, number: int) -> None:
        """Join the two by a cable: interfaces ``ethN`` with 10.99.N.1 and 2, fd99:N::1 and 2."""
        name = f"eth{number}"
        self.ip("link", "add", name, "type", "veth", "peer", "name", name, "netns", other.name)
        for host, end in enumerate((self, other), start=1):
            end.ip("address", "add", f"10.99.{number}.{host}/24", "dev", name)
            end.ip("address", "add", f"fd99:{number}::{host}/64", "dev", name, "nodad")
            with end.entered():
                # Link-local addresses are to be usable at once.
                Path(f"/proc/sys/net/ipv6/conf/{name}/accept_dad").write_text("0")
            end.ip("link", "set", name, "up")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be inside: sockets made, sysctls read and children started meanwhile belong to the namespace."""
        with open("/proc/self/ns/net") as outside, open(f"/run/netns/{self.name}") as inside:
            _setns(inside.fileno())
            try:
                yield
            finally:
                _setns(outside.fileno())

    def processes(self, program: str = "") -> list[int]:
        """The processes inside whose command line has ``program`` in it."""
        found = []
        for pid in command("ip", "netns", "pids", self.name).split():
            try:
                with open(f"/proc/{pid}/cmdline") as file:
                    if program in file.read():
                        found.append(int(pid))
            except OSError:
                continue
        return found

    def destroy(self) -> None:
        """Kill what is left inside, and remove the namespace."""
        for pid in self.processes():
            if pid != os.getpid():
                os.kill(pid, signal.SIGKILL)
        command("ip", "netns", "delete", self.name)


def _setns(file: int) -> None:
    if _libc.setns(file, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class ReactorInside:
    """The reactor, except that children are started inside a namespace (unix sockets reach across)."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def spawnProcess(self, *arguments: Any, **how: Any) -> Any:
        """Start a child inside."""
        with self._namespace.entered():
            return reactor.spawnProcess(*arguments, **how)


async def eventually(
    condition: Callable[[], object], what: str = "", timeout: float = 20.0, logs: Callable[[], str] = str
) -> None:
    """Wait until the condition holds. Raises AssertionError with the logs when it does not in time."""
    end = reactor.seconds() + timeout
    while not condition():
        if reactor.seconds() > end:
            raise AssertionError(f"not within {timeout:g} s: {what or condition}\n{logs()}")
        await deferLater(reactor, 0.01)


async def within(seconds: float, awaitable: Awaitable[Any]) -> Any:
    """The result, and an AssertionError when it came later than that."""
    begin = reactor.seconds()
    result = await awaitable
    took = reactor.seconds() - begin
    assert took <= seconds, f"took {took:.2f} s, not {seconds} s"
    return result
