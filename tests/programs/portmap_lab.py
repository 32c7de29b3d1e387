"""A home network in network namespaces: two machines, a router with NAT and miniupnpd, one host outside.

::

    lan  192.168.77.2 ─┐
                       ├─ 192.168.77.1  router  44.128.0.2 ── 44.128.0.1  wan
    lan2 192.168.77.3 ─┘

The outer addresses are public ones because miniupnpd refuses others; nothing leaves the namespaces.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from signal import Signals
from typing import Any, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tests.directories import SHORT

ROOT = Path(__file__).parents[2]
OUTER = "44.128.0.2"
NAMES = ("lan", "lan2", "router", "wan")
reactor = cast(IReactorTime, global_reactor)
_numbers = itertools.count()

LINKS = """
ip -n {p}router link add lan type bridge
for host in lan lan2; do
    ip -n {p}$host link add eth0 type veth peer name $host-port netns {p}router
    ip -n {p}router link set $host-port master lan up
done
ip -n {p}wan link add eth0 type veth peer name wan netns {p}router
ip -n {p}router addr add 192.168.77.1/24 dev lan
ip -n {p}router addr add 44.128.0.2/24 dev wan
ip -n {p}lan addr add 192.168.77.2/24 dev eth0
ip -n {p}lan2 addr add 192.168.77.3/24 dev eth0
ip -n {p}wan addr add 44.128.0.1/24 dev eth0
ip -n {p}router link set lan up
ip -n {p}router link set wan up
for host in lan lan2 wan; do
    ip -n {p}$host link set lo up
    ip -n {p}$host link set eth0 up
done
for host in lan lan2; do ip -n {p}$host route add default via 192.168.77.1; done
ip netns exec {p}router sysctl -qw net.ipv4.ip_forward=1
"""

RULES = """
flush ruleset
table inet filter {
  chain miniupnpd {
  }
  chain prerouting_miniupnpd {
  }
  chain postrouting_miniupnpd {
  }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname lan accept
    jump miniupnpd
  }
  chain prerouting {
    type nat hook prerouting priority -100;
    jump prerouting_miniupnpd
  }
  chain postrouting {
    type nat hook postrouting priority 100;
    jump postrouting_miniupnpd
    oifname wan masquerade
  }
}
"""

CONFIG = """
ext_ifname=wan
listening_ip=lan
http_port={http_port}
ipv6_disable=yes
enable_upnp={upnp}
enable_natpmp={natpmp}
force_igd_desc_v1={v1}
secure_mode=yes
system_uptime=no
uuid=6f0c37d1-1c9d-4d5e-9a41-0c9c1c3d2e01
allow 1024-65535 192.168.77.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""

PROBE = """
import socket, sys
kind = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}[sys.argv[1]]
probe = socket.socket(socket.AF_INET, kind)
probe.settimeout(1)
try:
    probe.connect((sys.argv[2], int(sys.argv[3])))
    probe.send(b"hello")
    print(probe.recv(100).decode())
except OSError:
    pass
"""


class Process(ProcessProtocol):
    """One running program whose output is waited for, line by line."""

    def __init__(self, argv: list[str]) -> None:
        self.ports = 0
        self.lines: list[str] = []
        self.errors = ""
        self.ended: Deferred[None] = Deferred()
        self._read = 0
        self._rest = ""
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        spawner = cast(IReactorProcess, global_reactor)
        spawner.spawnProcess(self, "ip", argv, env=environment, path=str(ROOT))

    def outReceived(self, data: bytes) -> None:
        """Cut into lines."""
        *lines, self._rest = (self._rest + data.decode()).split("\n")
        self.lines += lines

    def errReceived(self, data: bytes) -> None:
        """Keep the end, to show when something went wrong."""
        self.errors = (self.errors + data.decode(errors="replace"))[-4000:]

    def processEnded(self, reason: Failure) -> None:
        """Tell."""
        self.ended.callback(None)

    def signal(self, name: str) -> None:
        """Send a signal, if it still runs."""
        try:
            if self.transport is not None:
                self.transport.signalProcess(Signals[f"SIG{name}"])
        except ProcessExitedAlready:
            pass

    async def line(self, containing: str, timeout: float = 20) -> str:
        """The next line with this in it; lines before it are skipped."""
        deadline = reactor.seconds() + timeout
        while True:
            for index in range(self._read, len(self.lines)):
                if containing in self.lines[index]:
                    self._read = index + 1
                    return self.lines[index]
            if self.ended.called or reactor.seconds() > deadline:
                raise AssertionError(f"no {containing!r} in {self.lines[self._read :]}\n{self.errors}")
            await deferLater(reactor, 0.02)

    async def event(self, name: str, timeout: float = 20) -> dict[str, Any]:
        """The driver's next event of this name."""
        return dict(json.loads(await self.line(f'{{"event": "{name}"', timeout)))

    def tell(self, command: str) -> None:
        """Give the driver a command."""
        assert self.transport is not None
        self.transport.write(command.encode() + b"\n")

    async def map(self, within: float = 20) -> list[dict[str, Any] | None]:
        """Let the driver map its ports; the endpoints. None may take longer than ``within`` seconds."""
        endpoints = []
        self.tell("map")
        for _ in range(self.ports):
            mapped = await self.event("mapped")
            if mapped["seconds"] > within:
                raise AssertionError(f"mapping took {mapped['seconds']} s")
            endpoints.append(mapped["endpoint"])
        return endpoints

    async def close(self) -> float:
        """Let the driver close its mapper; how long that took."""
        self.tell("close")
        return float((await self.event("closed"))["seconds"])


class Home:
    """The network. ``down`` removes everything, whatever happened before."""

    def __init__(self) -> None:
        self.prefix = f"vpm{os.getpid()}-{next(_numbers)}-"
        self.directory = Path(tempfile.mkdtemp(prefix=self.prefix, dir=SHORT))
        self.processes: list[Process] = []

    def up(self) -> None:
        """Make the namespaces, links and rules."""
        names = " ".join(self.prefix + name for name in NAMES)
        script = f"for name in {names}; do ip netns add $name; done\n" + LINKS.format(p=self.prefix)
        subprocess.run(["sh", "-e"], input=script, text=True, check=True, timeout=20)
        self.forget_mappings()

    def forget_mappings(self) -> None:
        """Give the router its rules as after a reboot."""
        command = ["ip", "netns", "exec", self.prefix + "router", "nft", "-f", "-"]
        subprocess.run(command, input=RULES, text=True, check=True, timeout=20)

    def rules(self) -> str:
        """The router's rules."""
        command = ["ip", "netns", "exec", self.prefix + "router", "nft", "list", "ruleset"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout

    def router_address(self, address: str) -> None:
        """Give the router another outer address."""
        script = (
            f"ip -n {self.prefix}router addr flush dev wan\n"
            f"ip -n {self.prefix}router addr add {address}/24 dev wan\n"
        )
        subprocess.run(["sh", "-e"], input=script, text=True, check=True, timeout=20)

    def run(self, host: str, *argv: str) -> Process:
        """Start a program on a host."""
        process = Process(["ip", "netns", "exec", self.prefix + host, *argv])
        self.processes.append(process)
        return process

    async def miniupnpd(
        self, *, upnp: bool = True, natpmp: bool = True, v1: bool = False, http_port: int = 5000
    ) -> Process:
        """Start the router's daemon and wait until it listens."""

        def word(truth: bool) -> str:
            return "yes" if truth else "no"

        config = self.directory / "miniupnpd.conf"
        config.write_text(
            CONFIG.format(upnp=word(upnp), natpmp=word(natpmp), v1=word(v1), http_port=http_port)
        )
        pid = str(self.directory / "miniupnpd.pid")
        daemon = self.run("router", "sh", "-c", f"exec miniupnpd -d -f {config} -P {pid} 2>&1")
        await daemon.line("Listening for NAT-PMP" if natpmp else "HTTP listening")
        return daemon

    async def driver(self, host: str, *ports: str, lease: int = 600, retry: float = 15) -> Process:
        """Start the test's driver on a host; when this returns it answers on its ports."""
        options = ("--lease", str(lease), "--retry", str(retry))
        driver = self.python(host, host, *options, *ports)
        driver.ports = len(ports)
        await driver.event("listening")
        return driver

    def python(self, host: str, *arguments: str) -> Process:
        """Start the driver's module with these arguments."""
        return self.run(host, sys.executable, "-m", "tests.programs.portmap_driver", *arguments)

    def probe(self, transport: str, port: int, address: str = OUTER) -> str:
        """What answers when the host outside says hello; nothing when nobody does."""
        command = ["ip", "netns", "exec", self.prefix + "wan", sys.executable, "-I", "-S", "-c", PROBE]
        done = subprocess.run(
            [*command, transport, address, str(port)], capture_output=True, text=True, check=True, timeout=20
        )
        return done.stdout.strip()

    async def until(self, what: Callable[[], object], expected: object, timeout: float = 15) -> None:
        """Look again until it is as expected."""
        deadline = reactor.seconds() + timeout
        while (got := what()) != expected:
            if reactor.seconds() > deadline:
                raise AssertionError(f"{got!r} instead of {expected!r} after {timeout} s")
            await deferLater(reactor, 0.1)

    async def down(self) -> None:
        """Remove everything."""
        for process in self.processes:
            process.signal("KILL")
        for process in self.processes:
            try:
                await process.ended.addTimeout(5, reactor)
            except TimeoutError:
                continue
        for name in NAMES:
            subprocess.run(
                ["ip", "netns", "del", self.prefix + name], check=False, capture_output=True, timeout=20
            )
        shutil.rmtree(self.directory, ignore_errors=True)
