"""The failures of ``bench.failover``: what each breaks, whom it watches meanwhile, how it is mended."""

from __future__ import annotations

import math
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from bench.trace import Trace
from vifibnet.errors import VifibnetError
from vifibnet.lab import faults
from vifibnet.lab.children import Reactor, sleep, together
from vifibnet.lab.graph import connected, spare_edges, spare_names
from vifibnet.lab.network import Lab
from vifibnet.lab.pulse import Pulse, Verdict
from vifibnet.lab.report import LabReport
from vifibnet.model.liveness import SHUNNED
from vifibnet.node.status import read_status

AT_LEAST = 6.0
"""Seconds that each run goes on after the failure: openvpn gives a silent peer up after four."""

SETTLED = 2.0
"""Seconds of answers without a gap that end a run."""

PATIENCE = 40.0
"""Seconds after which a run ends even so."""

FORGIVEN = 60.0
"""Seconds after which a line that was bad has long been taken again."""


class NoScene(VifibnetError):
    """The lab has no {what}: {edges}"""


@dataclass(frozen=True)
class Scene:
    """A pair with a direct tunnel that its packets take: ``client`` opened it over ``tap`` to ``server``."""

    client: str
    server: str
    tap: str


class Stage:
    """A lab, and what the cases need of it."""

    def __init__(self, reactor: Reactor, lab: Lab, rng: Random, trace: Trace | None = None) -> None:
        self.reactor = reactor
        self.lab = lab
        self.rng = rng
        self.trace = trace

    @property
    def hello(self) -> float:
        """The hello interval."""
        return self.lab.settings.hello

    # -- before --------------------------------------------------------------------------------------

    async def whole(self, timeout: float = 90.0) -> LabReport:
        """Wait until all reach all and nobody is about to open another tunnel, or to drop one."""
        await self.lab.all_reached(timeout=timeout)
        lab = self.lab.settings
        deadline = self.reactor.seconds() + timeout / 3
        while True:
            report = await self.lab.reports(True)
            lacking = [
                node
                for node in report.nodes
                if len(node.tunnels) + len(node.served) < self.enough
                or len(node.tunnels) > lab.connection_count
                or not node.routes
            ]
            if not lacking or self.reactor.seconds() > deadline:
                return report
            await sleep(self.reactor, 0.2)

    @property
    def enough(self) -> int:
        """How many tunnels a node has at least, both kinds together, when none is missing."""
        return min(self.lab.settings.connection_count, len(self.lab.hosts) - 1)

    async def pair(self) -> Scene:
        """Two hosts as in Scene, with another way beside; h0 is left alone where possible."""
        report = await self.whole()
        names = list(self.lab.hosts)
        spare = spare_edges(names, report.edges)
        self.rng.shuffle(spare)
        spare.sort(key=lambda pair: "h0" in pair)
        for one, other in spare:
            ways = await together([self.lab.way(one, other), self.lab.way(other, one)])
            scene = await self._scene(one, other) or await self._scene(other, one)
            if scene is not None and ways == [[one, other], [other, one]]:
                return scene
        raise NoScene(what="direct pair that has another way", edges=_show(report))

    async def _scene(self, client: str, server: str) -> Scene | None:
        status = await read_status(self.reactor, self.lab.directory(client) / "status.sock") or {}
        prefix = self.lab.host(server).prefix
        for tunnel in status.get("tunnels", ()):
            if tunnel["peer"] == prefix and tunnel["up"]:
                return Scene(client, server, tunnel["tap"])
        return None

    async def over(self) -> tuple[str, str, str]:
        """Two hosts that reach each other over a third, which the network can do without."""
        report = await self.whole()
        names = list(self.lab.hosts)
        ends = [(one, other) for one in names for other in names if one < other]
        self.rng.shuffle(ends)
        for one, other in sorted(ends, key=lambda pair: "h0" in pair):
            if frozenset((one, other)) in report.edges:
                continue
            way, back = await together([self.lab.way(one, other), self.lab.way(other, one)])
            if len(way) == 3 and back == way[::-1] and way[1] in spare_names(names, report.edges):
                return way[0], way[1], way[2]
        raise NoScene(what="pair that talks over a third host", edges=_show(report))

    # -- during --------------------------------------------------------------------------------------

    async def watch(
        self,
        source: str,
        target: str,
        fail: Callable[[], Awaitable[object]],
        *,
        settled: float = SETTLED,
        answered: bool = True,
    ) -> Verdict:
        """Ping at 100 Hz while something fails, until all is well again; judge from the failure on.

        Wait until the pings are ``answered`` before it, unless told not to.
        """
        lab = self.lab
        pulse = Pulse.start(self.reactor, partial(lab.inside, source), lab.host(target).address)
        try:
            await self._steady(pulse, 1.0, 20.0 if answered else 0.5)
            if self.trace is not None:
                await self.trace.begin(lab, (source, target))
            began = self.reactor.seconds()
            await fail()
            await sleep(self.reactor, AT_LEAST)
            await self._steady(pulse, settled, PATIENCE)
            await pulse.stop()
        finally:
            await pulse.child.stop()
        verdict = pulse.verdict(began)
        if self.trace is not None:
            await self.trace.end(f"{source} pings {target}: {verdict}", began, pulse)
        return verdict

    async def _steady(self, pulse: Pulse, seconds: float, patience: float) -> None:
        deadline = self.reactor.seconds() + patience
        while not pulse.steady(self.reactor.seconds(), seconds) and self.reactor.seconds() < deadline:
            await sleep(self.reactor, 0.1)

    async def mend(self) -> None:
        """Undo what was done to the wires."""
        await self.lab.underlay.mend()

    async def forgiven(self, *names: str) -> None:
        """Wait until these hosts take a line again that they had found to be bad: the next run shall find
        none but its own."""
        deadline = self.reactor.seconds() + FORGIVEN
        while self.reactor.seconds() < deadline:
            sockets = [self.lab.directory(name) / "status.sock" for name in names]
            found = await together(read_status(self.reactor, each) for each in sockets)
            if all(one and all(each["cost"] < SHUNNED for each in one["neighbours"]) for one in found):
                return
            await sleep(self.reactor, 0.5)

    def index(self, name: str) -> int:
        """A host's number."""
        return self.lab.host(name).index


def _show(report: LabReport) -> str:
    return ", ".join("-".join(sorted(edge)) for edge in sorted(report.edges, key=sorted))


# -- the cases -----------------------------------------------------------------------------------------


async def control(stage: Stage) -> Verdict:
    """Nothing fails: what the probe itself loses."""
    scene = await stage.pair()
    return await stage.watch(scene.client, scene.server, partial(sleep, stage.reactor, 0))


async def path_cut(stage: Stage) -> Verdict:
    """The direct underlay path drops everything silently."""
    scene = await stage.pair()
    cut = partial(stage.lab.cut, scene.client, scene.server)
    try:
        return await stage.watch(scene.client, scene.server, cut)
    finally:
        await stage.mend()


async def client_killed(stage: Stage) -> Verdict:
    """The tunnel's openvpn client is killed with -9."""
    scene = await stage.pair()

    async def fail() -> None:
        faults.kill_child(stage.lab, scene.client, "openvpn", "--client", scene.tap)

    return await stage.watch(scene.client, scene.server, fail)


async def server_killed(stage: Stage) -> Verdict:
    """The openvpn server that the tunnel ends at is killed with -9."""
    scene = await stage.pair()

    async def fail() -> None:
        faults.kill_child(stage.lab, scene.server, "openvpn", "--mode", "server")

    return await stage.watch(scene.client, scene.server, fail)


async def forwarder_dark(stage: Stage) -> Verdict:
    """The host in between loses power: all its traffic is dropped."""
    source, middle, target = await stage.over()
    try:
        return await stage.watch(source, target, partial(stage.lab.underlay.darken, [stage.index(middle)]))
    finally:
        await stage.mend()


async def babeld_killed(stage: Stage) -> Verdict:
    """babeld is killed with -9 on one end."""
    scene = await stage.pair()
    victim = stage.rng.choice((scene.client, scene.server))

    async def fail() -> None:
        faults.kill_child(stage.lab, victim, "babeld")

    return await stage.watch(scene.client, scene.server, fail)


async def babeld_between_killed(stage: Stage) -> Verdict:
    """babeld is killed with -9 on the host in between."""
    source, middle, target = await stage.over()

    async def fail() -> None:
        faults.kill_child(stage.lab, middle, "babeld")

    return await stage.watch(source, target, fail)


async def node_killed(stage: Stage) -> Verdict:
    """The node daemon is killed with -9 on one end, and started again at once."""
    scene = await stage.pair()
    victim, other = scene.client, scene.server
    if stage.rng.random() < 0.5:
        victim, other = other, victim

    async def fail() -> None:
        await stage.lab.kill(victim)
        await stage.lab.start(victim)

    return await stage.watch(other, victim, fail)


async def node_between_killed(stage: Stage) -> Verdict:
    """The node daemon in between is killed with -9, and started again when the ends have another way."""
    source, middle, target = await stage.over()
    try:
        return await stage.watch(source, target, partial(stage.lab.kill, middle))
    finally:
        await stage.lab.start(middle)


async def registry_killed(stage: Stage) -> Verdict:
    """The registry is killed with -9, and stays away for the rest of the run."""
    lab = stage.lab
    if lab.enrolment.registry.pid not in lab.underlay.processes():
        await lab.enrolment.start_registry()
        await sleep(stage.reactor, 3)
    scene = await stage.pair()
    return await stage.watch(scene.client, scene.server, partial(faults.kill_registry, lab))


async def address_changes(stage: Stage, client: bool) -> Verdict:
    """The underlay address of one end changes: the ``client``'s, or the server's."""
    scene = await stage.pair()
    moving = scene.client if client else scene.server
    try:
        return await stage.watch(scene.client, scene.server, partial(faults.move, stage.lab, moving))
    finally:
        # Nobody shall look for it in vain in the runs that follow.
        await faults.move_back(stage.lab, moving)


async def sleepers(stage: Stage, seconds: float, most: int = 3) -> list[Verdict]:
    """Every process of a host is stopped for ``seconds``; counted from its waking.

    To save time, up to ``most`` hosts sleep at once, without whom the others are connected. They wake one
    after another, each pinged by somebody awake whom it had a tunnel with.
    """
    report = await stage.whole()
    names, edges = list(stage.lab.hosts), report.edges
    asleep: dict[str, list[int]] = {}
    while len(asleep) < most:
        awake = [name for name in names if name not in asleep]
        spare = [name for name in spare_names(awake, edges) if name != "h0"]
        if not spare:
            break
        victim = stage.rng.choice(spare)
        asleep[victim] = faults.freeze(stage.lab, victim)
    try:
        await sleep(stage.reactor, seconds)
        found = []
        for victim in list(asleep):
            awake = [name for name in names if name not in asleep]
            peers = [name for name in awake if frozenset((name, victim)) in edges]
            observer = stage.rng.choice(peers or awake)
            found.append(await _wake(stage, victim, observer, asleep[victim]))
            del asleep[victim]
        return found
    finally:
        for pids in asleep.values():
            faults.thaw(pids)


async def _wake(stage: Stage, asleep: str, awake: str, pids: list[int]) -> Verdict:
    async def fail() -> None:
        faults.thaw(pids)

    return await stage.watch(awake, asleep, fail, answered=False)


async def half_vanishes(stage: Stage) -> Verdict:
    """Half of all hosts go dark at once, and run nothing any more, which would burn the survivors' cores;
    until each survivor has reached each."""
    report = await stage.whole()
    lab = stage.lab
    names = list(lab.hosts)
    victims = stage.rng.sample(names, len(names) // 2)
    survivors = [name for name in names if name not in victims]
    left = [edge for edge in report.edges if edge <= set(survivors)]
    whole_still = connected(survivors, left)
    if stage.trace is not None:
        await stage.trace.begin(lab, survivors)
    began = stage.reactor.seconds()
    await lab.underlay.darken(stage.index(name) for name in victims)
    stopped = [pid for name in victims for pid in faults.freeze(lab, name)]
    try:
        took = stage.reactor.seconds() - began
        reach = await lab.reach(survivors, survivors, timeout=PATIENCE, interval=0.05)
    finally:
        faults.thaw(stopped)
    seconds = math.inf if reach.missing else took + reach.longest
    left_over = "still" if whole_still else "no longer"
    title = f"{len(survivors)} survivors, {left_over} connected: {seconds:.2f} s"
    print(title, file=sys.stderr)
    if stage.trace is not None:
        await stage.trace.end(f"{title}; {' '.join(survivors)}; {reach.seconds}", began)
    await stage.mend()
    return Verdict(0, seconds, seconds)


async def lossy(stage: Stage) -> Verdict:
    """One path loses 20 % of its packets at random, both ways."""
    scene = await stage.pair()
    client, server = stage.index(scene.client), stage.index(scene.server)
    try:
        return await stage.watch(
            scene.client, scene.server, partial(stage.lab.underlay.lose, client, server, 20), settled=3.0
        )
    finally:
        await stage.mend()
        await stage.forgiven(scene.client, scene.server)


async def one_way(stage: Stage, upstream: bool) -> Verdict:
    """Only one direction of the path is cut: what the client sends (``upstream``) or the server."""
    scene = await stage.pair()
    ends = [stage.index(scene.client), stage.index(scene.server)]
    if not upstream:
        ends.reverse()
    try:
        return await stage.watch(scene.client, scene.server, partial(stage.lab.underlay.cut_one_way, *ends))
    finally:
        await stage.mend()
