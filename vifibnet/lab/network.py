"""A lab: a network of real registry, nodes, openvpn and babeld, in namespaces of one machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from twisted.internet.defer import CancelledError, DeferredSemaphore

from vifibnet.errors import BadInput, CommandFailed, VifibnetError
from vifibnet.files import write_atomically
from vifibnet.lab import probe
from vifibnet.lab.children import Reactor, sleep, together
from vifibnet.lab.daemons import Daemon
from vifibnet.lab.enrolment import Enrolment
from vifibnet.lab.report import LabReport, NodeReport, node_report, routed
from vifibnet.lab.settings import Host, LabSettings, LabState
from vifibnet.lab.teardown import down
from vifibnet.lab.underlay import LAN, Underlay
from vifibnet.node.preflight import check_programs
from vifibnet.node.status import FILE, read_status

PROGRAMS = {
    "ip": "iproute2",
    "nft": "nftables",
    "ping": "iputils-ping",
    "openvpn": "openvpn",
    "babeld": "babeld",
}
"""What a lab runs, each with the Debian package that has it."""

PORT = 1194
Progress = Callable[[str], None]
Pair = tuple[str, str]


def silent(text: str) -> None:
    """Show no progress."""


class NotReached(VifibnetError):
    """After {seconds:.0f} s, {count} of the pairs had no answer: {pairs}; the logs are in {directory}."""


@dataclass(frozen=True)
class Reach:
    """Who reached whom: the seconds it took from the first ping on, by ordered pair, and who has not."""

    seconds: dict[Pair, float] = field(default_factory=dict)
    missing: tuple[Pair, ...] = ()

    @property
    def longest(self) -> float:
        """How long the last pair took."""
        return max(self.seconds.values(), default=0.0)


class Lab:
    """A lab that is up; made by ``up`` or found again by ``open``."""

    def __init__(self, reactor: Reactor, state: LabState, progress: Progress = silent) -> None:
        self.reactor = reactor
        self.state = state
        self.settings = state.settings
        self.home = state.settings.home
        self.progress = progress
        self.began = reactor.seconds()
        self.underlay = Underlay(reactor, state.settings.name, state.settings.underlay)
        self.enrolment = Enrolment(reactor, state.settings, self.underlay)

    # -- coming up and going down ------------------------------------------------------------------

    @classmethod
    async def up(
        cls, reactor: Reactor, settings: LabSettings, progress: Progress = silent, *, start: bool = True
    ) -> Lab:
        """Build a lab and start its nodes. Whatever goes wrong, also being cancelled, takes it down again.

        Without ``start`` only the node of h0 is: it introduces the others to the network as they enrol.

        Raises BadInput for settings or a machine that cannot do it, VifibnetError when a part fails.
        """
        check_machine()
        lab = cls(reactor, LabState(settings), progress)
        if lab.underlay.existing() or lab.state.is_there():
            raise _exists(settings.name)
        settings.check()
        try:
            # Of two who come at the same time, one gets the name; only that one may clean up.
            await lab.underlay.claim()
        except CommandFailed as error:
            raise (_exists(settings.name) if "exists" in str(error) else error) from None
        except CancelledError:
            await lab.underlay.delete()
            raise
        try:
            await lab._build(start)
        except Exception:
            progress("going down again")
            await down(reactor, settings.name)
            raise
        return lab

    @classmethod
    def open(cls, reactor: Reactor, name: str) -> Lab:
        """Find a lab that is up. Raises BadInput when there is none of this name."""
        return cls(reactor, LabState.load(name))

    async def _build(self, start: bool) -> None:
        """Wire the hosts, start h0's servers, enrol everybody, start the nodes."""
        self.state.make_home()
        self.state.save()
        self.progress("wiring the hosts")
        await self.underlay.create()
        for index in range(self.settings.nodes):
            await self._wire(index)
        self.progress("starting the mail server and the registry")
        await self.enrolment.start()
        names = list(self.state.hosts)
        # The first one is whom the others find the network by, so its node goes first.
        self.progress(f"enrolled 0 of {len(names)} hosts")
        await self._enrol(names[0], boot=False)
        await self.start(names[0])
        enrolled = [names[0]]
        turns = DeferredSemaphore((os.cpu_count() or 1) + 1)

        async def enrol(name: str) -> None:
            async with turns:
                await self._enrol(name, boot=True)
            enrolled.append(name)
            self.progress(f"enrolled {len(enrolled)} of {len(names)} hosts")

        await together(enrol(name) for name in names[1:])
        if start:
            self.progress("starting the nodes")
            await together(self.start(name) for name in names[1:])

    async def _wire(self, index: int) -> Host:
        """Make one host, without a certificate yet."""
        host = Host(index, self.underlay.namespace(index), self.underlay.address(index))
        await self.underlay.add(index, lan=index in self.settings.lan)
        self.directory(host.name).mkdir()
        self.state.hosts[host.name] = host
        self.state.save()
        return host

    async def _enrol(self, name: str, *, boot: bool) -> None:
        """Get a host its certificate."""
        directory = self.directory(name)
        identity = await self.enrolment.enrol(self.state.hosts[name], directory, boot=boot)
        network, prefix = identity.network, identity.prefix
        self.state.change(
            name, prefix=str(prefix), address=str(network.address(prefix)), subnet=str(network.subnet(prefix))
        )

    async def add(self) -> str:
        """One more host, enrolled and started: a node that joins late. Returns its name."""
        host = await self._wire(max(host.index for host in self.state.hosts.values()) + 1)
        await self._enrol(host.name, boot=True)
        await self.start(host.name)
        return host.name

    async def down(self) -> None:
        """Remove everything."""
        await down(self.reactor, self.settings.name)

    # -- hosts and nodes ---------------------------------------------------------------------------

    def host(self, name: str) -> Host:
        """One host by its name. Raises BadInput where there is none."""
        if name not in self.state.hosts:
            known = ", ".join(self.state.hosts)
            raise BadInput(name, f"is no host of the lab {self.settings.name}", f"name one of {known}")
        return self.state.hosts[name]

    @property
    def hosts(self) -> dict[str, Host]:
        """All hosts by their names."""
        return self.state.hosts

    def directory(self, name: str) -> Path:
        """Where a host keeps its files, its node's state and logs included."""
        return self.home / name

    def inside(self, name: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs ``argv`` on a host."""
        return self.underlay.inside(self.host(name).index, argv)

    def node(self, name: str) -> Daemon:
        """The node of a host."""
        return Daemon(self.reactor, "node", self.directory(self.host(name).name))

    def running(self, name: str) -> int | None:
        """The process of a host's node; None when there is none."""
        pid = self.node(name).pid
        return pid if pid in self.underlay.processes([self.host(name).namespace]) else None

    def node_command(self, name: str, *options: str) -> list[str]:
        """The command line that starts a host's node, daemonised; also writes the file with its options."""
        directory = self.directory(name)
        (directory / "log").mkdir(exist_ok=True)
        text = "".join(f"{line}\n" for line in self._node_options(self.host(name)))
        write_atomically(directory / "lab.conf", text.encode(), overwrite=True)
        return self.inside(name, self.node(name).command("vifibnet-node", "@lab.conf", *options))

    def _node_options(self, host: Host) -> list[str]:
        """What the lab's nodes are told beyond what setup wrote for them."""
        settings = self.settings
        advertised = {"udp": "udp", "tcp-server": "tcp-client"}[settings.proto]
        if settings.underlay == 6:
            advertised = advertised.replace("udp", "udp6").replace("tcp-", "tcp6-")
        directory = self.directory(host.name)
        return [
            "@vifibnet.conf",
            f"state {directory}",
            f"log {directory / 'log'}",
            f"pp {PORT} {settings.proto}",
            f"ip {host.underlay} {PORT} {advertised}",
            *(f"{name} {value}" for name, value in settings.parameters.items() if not settings.follow),
            # An hour is long in the life of a lab.
            f"peers-db-refresh {max(2.0, 5 * settings.hello):g}",
            *([f"interface {LAN}"] if host.index in settings.lan else []),
            *settings.node_options,
        ]

    async def start(self, name: str) -> None:
        """Start a host's node. Raises BadInput when it runs, DaemonFailed when it does not start."""
        if self.running(name) is not None:
            raise BadInput(name, "its node is running", "stop it first")
        command = self.node_command(name)
        self.state.change(name, started=self.reactor.seconds(), seconds_to_all=None)
        await self.node(name).start(command)

    async def stop(self, name: str) -> None:
        """Stop a host's node as an operator does (SIGTERM); return when its process is gone."""
        await self.node(name).end(self._pid(name), signal.SIGTERM)
        self.state.change(name, started=None, seconds_to_all=None)

    async def kill(self, name: str) -> None:
        """Let a host's node die without a chance to clean up (SIGKILL), not what it has started."""
        await self.node(name).end(self._pid(name), signal.SIGKILL)
        self.state.change(name, started=None, seconds_to_all=None)

    def _pid(self, name: str) -> int:
        pid = self.running(name)
        if pid is None:
            raise BadInput(name, "its node is not running", f"vifibnet lab start {name} starts it")
        return pid

    async def stop_registry(self) -> None:
        """Stop the registry, and nothing else of h0."""
        registry = self.enrolment.registry
        if registry.pid is not None and registry.pid in self.underlay.processes():
            await registry.end(registry.pid, signal.SIGTERM)

    # -- questions ---------------------------------------------------------------------------------

    async def reach(
        self,
        sources: Iterable[str] | None = None,
        targets: Iterable[str] | None = None,
        *,
        timeout: float = 60.0,
        interval: float = 0.1,
        note: bool = False,
    ) -> Reach:
        """Ping from all sources to all targets, in a small and a full-size packet, until all have answered.

        Sources and targets are the hosts whose nodes run, unless said otherwise. With ``note``, nodes are
        being watched since they were started, and how long they took is remembered.
        """
        living = [name for name in self.hosts if self.running(name)]
        pairs = self._pairs(living if sources is None else sources, living if targets is None else targets)
        began = self.reactor.seconds()
        answered: dict[Pair, dict[int, float]] = {}
        by_address = {host.address: name for name, host in self.hosts.items()}
        sizes = (probe.SMALL, probe.full_size(self.settings.mtu))

        def take(source: str, address: str, size: int, when: float) -> None:
            answered.setdefault((source, by_address[address]), {})[size] = when
            done = sum(len(sizes) == len(found) for found in answered.values())
            self.progress(f"{done} of {len(pairs)} pairs of nodes reach each other")

        await together(
            probe.answers(
                self.reactor,
                partial(self.inside, source),
                [self.host(target).address for one, target in pairs if one == source],
                sizes=sizes,
                interval=interval,
                timeout=timeout,
                on_answer=partial(take, source),
            )
            for source in dict.fromkeys(source for source, _ in pairs)
        )
        times = {pair: max(found.values()) for pair, found in answered.items() if len(found) == len(sizes)}
        if note:
            self._note_times(pairs, times)
        return Reach(
            {pair: when - began for pair, when in times.items()},
            tuple(pair for pair in pairs if pair not in times),
        )

    @staticmethod
    def _pairs(sources: Iterable[str], targets: Iterable[str]) -> list[Pair]:
        wanted = list(targets)
        return [(source, target) for source in sources for target in wanted if source != target]

    def _note_times(self, pairs: Sequence[Pair], times: dict[Pair, float]) -> None:
        """Remember of each node, once after its start, when all others had answered it."""
        for name, host in self.hosts.items():
            theirs = [times.get(pair) for pair in pairs if pair[0] == name]
            answered = [when for when in theirs if when is not None]
            news = host.started is not None and host.seconds_to_all is None
            if news and answered and len(answered) == len(theirs):
                self.state.change(name, seconds_to_all=max(answered) - (host.started or 0))

    async def all_reached(self, names: Iterable[str] | None = None, *, timeout: float = 60.0) -> Reach:
        """As ``reach`` among the named hosts (all whose nodes run). Raises NotReached when one is missing."""
        wanted = None if names is None else list(names)
        reach = await self.reach(wanted, wanted, timeout=timeout, note=True)
        if reach.missing:
            pairs = ", ".join(f"{source} → {target}" for source, target in reach.missing[:12])
            raise NotReached(seconds=timeout, count=len(reach.missing), pairs=pairs, directory=self.home)
        await self._routed(timeout, wanted)
        return reach

    async def arrive(self, *, timeout: float = 90.0) -> Reach:
        """As ``reach`` among all, right after ``up``; remembers how long it took since then."""
        reach = await self.reach(timeout=timeout, note=True)
        if not reach.missing:
            self.state.seconds = self.reactor.seconds() - self.began
            self.state.save()
            await self._routed(timeout)
        return reach

    async def _routed(self, timeout: float, names: Sequence[str] | None = None) -> None:
        """Wait until babel has caught up, as long as that takes but no longer than the timeout."""
        living = [name for name in names or self.hosts if self.running(name)]
        deadline = self.reactor.seconds() + timeout
        while not routed(await together(self.report(name) for name in living)):
            if self.reactor.seconds() > deadline:
                return
            await sleep(self.reactor, 0.1)

    async def report(self, name: str) -> NodeReport:
        """What a host's node says of itself."""
        names = {host.prefix: host.name for host in self.hosts.values()}
        status = await read_status(self.reactor, self.directory(name) / FILE)
        return node_report(self.host(name), names, status)

    async def reports(self, all_reached: bool) -> LabReport:
        """What all nodes say."""
        nodes = await together(self.report(name) for name in self.hosts)
        cuts = frozenset(frozenset(f"h{index}" for index in pair) for pair in await self.underlay.cuts())
        return LabReport(all_reached, self.state.seconds, tuple(nodes), cuts)

    async def cut(self, a: str, b: str) -> None:
        """Silently drop all underlay traffic between two hosts."""
        await self.underlay.cut(*self._two(a, b))

    async def heal(self, a: str, b: str) -> None:
        """Undo a cut."""
        await self.underlay.heal(*self._two(a, b))

    def _two(self, a: str, b: str) -> tuple[int, int]:
        if a == b:
            raise BadInput(f"{a} {b}", "these are one host", "name two")
        return self.host(a).index, self.host(b).index

    async def way(self, source: str, target: str) -> list[str]:
        """The hosts that a packet passes, both ends included; ``?`` for one that does not answer.

        Just the source when the target cannot be reached.
        """
        by_address = {host.address: name for name, host in self.hosts.items()}
        hops = await probe.trace(
            self.reactor, partial(self.inside, source), self.host(target).address, len(self.hosts)
        )
        return [source, *(by_address.get(hop, "?") for hop in hops)]


def check_machine() -> None:
    """Raise BadInput where this machine, or this user, cannot have a lab."""
    if os.geteuid() != 0:
        raise BadInput("network namespaces", "not yours to make", "run this as root")
    check_programs(PROGRAMS)


def _exists(name: str) -> BadInput:
    return BadInput(
        "--name",
        f"a lab named {name} is up, or has left something behind",
        f"take another name, or remove it with vifibnet lab down --name {name}",
    )
