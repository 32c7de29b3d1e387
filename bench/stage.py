"""What the cases of ``bench.failover`` need of a lab: a scene to break something in, and pings meanwhile."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from random import Random

from bench.trace import Trace
from vifibnet.errors import VifibnetError
from vifibnet.lab.children import Reactor, sleep, together
from vifibnet.lab.graph import spare_edges, spare_names
from vifibnet.lab.network import Lab
from vifibnet.lab.pulse import Pulse, Verdict
from vifibnet.lab.report import LabReport, NodeReport
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
        self.wholes: list[float] = []
        """Seconds until a node that was killed had all back."""

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

    async def back(self, name: str, before: NodeReport, since: float) -> None:
        """Wait until a node has opened as many tunnels as before, and has a route to all; note how long that
        took."""
        while (waited := self.reactor.seconds() - since) < PATIENCE:
            now = await self.lab.report(name)
            if len(now.tunnels) >= len(before.tunnels) and len(now.routes) == len(self.lab.hosts) - 1:
                break
            await sleep(self.reactor, 0.05)
        self.wholes.append(waited if waited < PATIENCE else math.inf)

    async def mend(self) -> None:
        """Undo what was done to the wires."""
        await self.lab.underlay.mend()

    async def forgiven(self, *names: str) -> None:
        """Wait until these hosts take every line again that they had found to be bad or dead: the next run
        shall find none but its own."""
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
