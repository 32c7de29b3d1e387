"""What happened during a failure: every change that the babelds tell, or that is made to the kernels' routes,
and what the nodes log."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ProcessExitedAlready
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.protocols.basic import LineOnlyReceiver

from vifibnet.lab.children import Reactor
from vifibnet.lab.network import Lab
from vifibnet.lab.pulse import Pulse

SHOWN = frozenset(("installed", "metric", "refmetric", "cost", "up"))


class _Monitor(LineOnlyReceiver):
    """One babeld's control socket."""

    delimiter = b"\n"

    def __init__(self, host: str, trace: Trace) -> None:
        self.host = host
        self.trace = trace
        self.known: dict[str, tuple[str, ...]] = {}

    def connectionMade(self) -> None:
        self.sendLine(b"monitor")

    def lineReceived(self, line: bytes) -> None:
        text = line.decode(errors="replace")
        words = text.split()
        # Neighbours and routes are told again and again: what matters is how they differ.
        if len(words) < 3 or words[0] == "change" and words[1] == "interface":
            return
        shape = (words[0], *(word for key, word in pairwise(words) if key in SHOWN))
        if self.known.get(words[2]) != shape:
            self.known[words[2]] = shape
            self.trace.note(self.host, text)


class _Routes(ProcessProtocol):
    """Follows one kernel's routes (ip-monitor(8))."""

    def __init__(self, host: str, trace: Trace) -> None:
        self.host = host
        self.trace = trace
        self.begun = b""

    def outReceived(self, data: bytes) -> None:
        *lines, self.begun = (self.begun + data).split(b"\n")
        for line in lines:
            self.trace.note(self.host, f"kernel {line.decode(errors='replace').strip()}")


class Trace:
    """Appends to a file, one block a run."""

    def __init__(self, reactor: Reactor, path: Path) -> None:
        self.reactor = reactor
        self.path = path
        self.lines: list[tuple[float, str, str]] = []
        self.monitors: list[_Monitor] = []
        self.routes: list[IProcessTransport] = []
        self.sizes: dict[Path, int] = {}
        self.names: list[tuple[str, str]] = []

    def note(self, host: str, text: str) -> None:
        """Remember a line."""
        self.lines.append((self.reactor.seconds(), host, text))

    async def begin(self, lab: Lab, hosts: Iterable[str]) -> None:
        """Listen to everybody from now on; ``hosts`` are named first."""
        self.lines = []
        self.names = [(host.address.removesuffix("::1"), name) for name, host in lab.hosts.items()]
        self.sizes = {path: path.stat().st_size for path in lab.home.glob("h*/log/*.log")}
        self.monitors, self.routes = [], []
        for name, host in lab.hosts.items():
            argv = ["ip", "-n", host.namespace, "-6", "monitor", "route"]
            self.routes.append(self.reactor.spawnProcess(_Routes(name, self), "ip", argv, env=None))
            endpoint = UNIXClientEndpoint(self.reactor, str(lab.directory(name) / "babeld.sock"))
            try:
                self.monitors.append(await connectProtocol(endpoint, _Monitor(name, self)))
            except ConnectError:
                self.note(name, "has no babeld")

    async def end(self, title: str, began: float, pulse: Pulse | None = None) -> None:
        """Write it down, with the pings that were lost where there were any."""
        for monitor in self.monitors:
            if monitor.transport is not None:
                monitor.transport.loseConnection()
        for each in self.routes:
            with suppress(ProcessExitedAlready):
                each.signalProcess("TERM")
        text = [f"=== {title}"]
        if pulse is not None:
            text[0] += f"; behind {pulse.behind * 1000:.0f} ms"
            for first, end in pulse.holes():
                self.lines.append((pulse.due(first), "PING", f"{end - first} are lost from here"))
                self.lines.append((pulse.due(end), "PING", "answered again from here"))
        for when, host, line in sorted(self.lines):
            text.append(f"{when - began:+8.3f} {host:4} {line}")
        for path, size in self.sizes.items():
            with path.open("rb") as log:
                log.seek(size)
                said = log.read().decode(errors="replace").splitlines()
            text += [f"LOG {path.parent.parent.name} {path.name}: {line}" for line in said]
        text.append(f"began {began:.3f}; subnets {self.names}")
        with self.path.open("a") as file:
            file.write("".join(f"{line}\n" for line in text))
        print(title, file=sys.stderr)
