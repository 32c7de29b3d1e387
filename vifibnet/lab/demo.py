"""The demonstration: a network comes up, loses a link, loses a node, and keeps working."""

from __future__ import annotations

from functools import partial

from vifibnet.errors import VifibnetError
from vifibnet.lab.children import Reactor, run, sleep
from vifibnet.lab.drawing import draw
from vifibnet.lab.faults import crash
from vifibnet.lab.graph import spare_edges, spare_names
from vifibnet.lab.network import Lab, Pair
from vifibnet.lab.probe import Outage, Watch
from vifibnet.lab.report import LabReport, NodeReport
from vifibnet.lab.screen import Screen
from vifibnet.lab.settings import LabSettings
from vifibnet.lab.table import LEGEND, node_table

INTERVAL = 0.05
"""Seconds between two pings of the one that goes on while the underlay is cut."""


class DemoFailed(VifibnetError):
    """The demonstration failed: {what}."""


class Demo:
    """One demonstration on a lab of its own."""

    def __init__(self, reactor: Reactor, settings: LabSettings, screen: Screen) -> None:
        self.reactor = reactor
        self.settings = settings
        self.screen = screen

    async def run(self) -> None:
        """Show all of it, then take the lab down. Raises VifibnetError when something did not happen."""
        began = self.reactor.seconds()
        settings = self.settings
        self.screen.tell(
            f"A network of {settings.nodes} nodes on this machine, each in a network namespace of its own, "
            f"with an openvpn server, up to {settings.connection_count} clients and a babeld. h0 also "
            "has the registry and a mail server, where every node enrols with a token from its mail."
        )
        self.screen.say("")
        self.screen.step("Coming up")
        lab = await Lab.up(self.reactor, settings, self.screen.progress)
        try:
            report = await self.arrive(lab, began)
            cut = await self.cut_and_heal(lab, report)
            await self.crash(lab, cut)
        finally:
            self.screen.progress("going down")
            await lab.down()
        left = [*lab.underlay.existing(), *(["its directory"] if lab.home.exists() else [])]
        if left:
            raise DemoFailed(what=f"{', '.join(left)} did not go away")
        self.screen.tell(
            f"All of this took {self.reactor.seconds() - began:.0f} s, and nothing of it is left behind. "
            "To try it yourself: vifibnet lab up"
        )

    async def arrive(self, lab: Lab, began: float) -> LabReport:
        """Wait until all reach all; show the table and the drawing."""
        reach = await lab.arrive()
        if reach.missing:
            raise DemoFailed(what=f"{len(reach.missing)} pairs of nodes never reached each other")
        took = self.reactor.seconds() - began
        report = await self.settled(lab)
        self.screen.tell(
            f"Each of the {len(reach.seconds)} ordered pairs of nodes has answered a ping, also one of "
            f"the full {self.settings.mtu} bytes, {took:.1f} s after the first command."
        )
        self.screen.picture(node_table(report, self.screen.width - 2))
        self.screen.tell(LEGEND)
        self.screen.say("")
        self.screen.tell("The tunnels:")
        self.draw(report)
        return report

    async def settled(self, lab: Lab) -> LabReport:
        """Give the nodes a moment to open the tunnels that they want, and say how they are then."""
        deadline = self.reactor.seconds() + 3 + 2 * self.settings.hello
        while True:
            report = await lab.reports(True)
            if self.reactor.seconds() > deadline or not any(self.busy(report, node) for node in report.nodes):
                return report
            self.screen.progress("waiting for the nodes to open their tunnels")
            await sleep(self.reactor, 0.1)

    def busy(self, report: LabReport, node: NodeReport) -> bool:
        """Whether a node is going to open another tunnel to somebody who is there."""
        strangers = {
            other.name
            for other in report.nodes
            if other.running and other != node and frozenset((node.name, other.name)) not in report.edges
        }
        free = len(node.tunnels) < self.settings.connection_count
        return node.running and bool(strangers) and (free or not strangers.isdisjoint(node.opening))

    async def cut_and_heal(self, lab: Lab, report: LabReport) -> Pair:
        """Cut the underlay between two nodes with a tunnel while one pings the other; heal it."""
        source, target = await self.choose(lab, report)
        self.screen.step(f"Cutting the underlay between {source} and {target}, which have a tunnel")
        watch = Watch.start(self.reactor, partial(lab.inside, source), lab.host(target).address, INTERVAL)
        try:
            await self.answered(watch, self.reactor.seconds(), f"{source} no longer pings {target}")
            before = watch.last_ms
            self.screen.tell(
                f"{source} pings {target} {1 / INTERVAL:.0f} times a second, directly: {before:.1f} ms."
            )
            await lab.cut(source, target)
            began = self.reactor.seconds()
            await self.still_cut(lab, source, target)
            self.screen.progress("the underlay drops everything between them")
            problem = f"{source} did not reach {target} by another way"
            await self.answered(watch, began + 4 * INTERVAL, problem)
            way = await self.new_way(lab, source, target)
            outage = await watch.stop()
        finally:
            await watch.child.stop()
        self.tell_outage(outage, way)
        self.screen.say("")
        self.screen.tell("The tunnels now; dotted is what was cut:")
        self.draw(await lab.reports(True), cut=(source, target))
        await lab.heal(source, target)
        self.screen.step("Healing it")
        reach = await lab.all_reached()
        self.screen.tell(f"All {len(reach.seconds)} ordered pairs of nodes answer.")
        return source, target

    async def choose(self, lab: Lab, report: LabReport) -> Pair:
        """Two nodes that use the tunnel between them and have another way beside it."""
        names = [node.name for node in report.nodes]
        spare = spare_edges(names, report.edges)
        # h0 is kept for last: it also has the registry, and the point can be made without that.
        for source, target in sorted(spare, key=lambda pair: "h0" in pair):
            if await lab.way(source, target) == [source, target]:
                return source, target
        raise DemoFailed(what="no two nodes have both a tunnel and another way; try more --connection-count")

    async def still_cut(self, lab: Lab, source: str, target: str) -> None:
        """Make sure that it is the underlay that fails: the hosts themselves must not reach each other."""
        command = lab.inside(source, ["ping", "-c", "1", "-W", "1", lab.host(target).underlay])
        if (await run(self.reactor, command, check=False)).status == 0:
            raise DemoFailed(what=f"the underlay between {source} and {target} was not cut")

    async def answered(self, watch: Watch, since: float, problem: str) -> None:
        """Wait for answers that came after a moment."""
        deadline = self.reactor.seconds() + 10 + 8 * self.settings.hello
        while sum(arrival > since for arrival in watch.arrivals.values()) < 10:
            if self.reactor.seconds() > deadline:
                raise DemoFailed(what=problem)
            await sleep(self.reactor, INTERVAL)

    async def new_way(self, lab: Lab, source: str, target: str) -> list[str]:
        """The way that the packets take now, which must not be the one that was cut."""
        way = await lab.way(source, target)
        if len(way) < 3:
            raise DemoFailed(what=f"no way from {source} to {target} over another node was seen")
        return way

    def tell_outage(self, outage: Outage, way: list[str]) -> None:
        """Say what the ping met."""
        self.screen.tell(
            f"Then there was no answer for {outage.seconds:.2f} s ({outage.lost} of {outage.sent} pings were "
            f"lost): both ends of a tunnel show each other four times a second that it carries data, and "
            f"two missing signs are noticed. Then the ping went on over other nodes: {' → '.join(way)}"
        )

    async def crash(self, lab: Lab, cut: Pair) -> None:
        """Kill all of a node that others need; wait until the survivors reach each other and have forgotten
        it."""
        report = await self.settled(lab)
        names = [node.name for node in report.nodes]
        candidates = [name for name in spare_names(names, report.edges) if name != "h0"] or names[1:]
        victim = candidates[0]
        survivors = [name for name in names if name != victim]
        tunnels = sum(victim in edge for edge in report.edges)
        self.screen.step(f"Killing all of {victim}'s node (SIGKILL), which has tunnels with {tunnels} others")
        await crash(lab, victim)
        began = self.reactor.seconds()
        await lab.all_reached(survivors)
        await self.forgotten(lab, victim)
        self.screen.tell(
            f"After {self.reactor.seconds() - began:.1f} s no node had a route to {victim} any more."
        )
        reach = await lab.all_reached(survivors)
        report = await self.settled(lab)
        self.screen.tell(
            f"All {len(reach.seconds)} ordered pairs of the {len(survivors)} survivors answer. Their tunnels:"
        )
        self.draw(report, dead=victim)

    async def forgotten(self, lab: Lab, victim: str) -> None:
        """Wait until nobody has a route to the victim."""
        deadline = self.reactor.seconds() + 15 + 10 * self.settings.hello
        gone = lab.host(victim).subnet
        while True:
            report = await lab.reports(True)
            remembering = [node.name for node in report.nodes if gone in node.routes]
            if not remembering:
                return
            if self.reactor.seconds() > deadline:
                raise DemoFailed(what=f"{', '.join(remembering)} still have a route to {victim}")
            self.screen.progress(f"{len(remembering)} nodes still have a route to {victim}")
            await sleep(self.reactor, 0.1)

    def draw(self, report: LabReport, cut: Pair | None = None, dead: str = "") -> None:
        """Draw the tunnels as they are."""
        names = [node.name for node in report.nodes]
        edges = {edge for edge in report.edges if dead not in edge}
        self.screen.picture(
            draw(
                names,
                edges,
                cut={frozenset(cut)} if cut else (),
                dead={dead} if dead else (),
                width=min(64, self.screen.width - 4),
                colour=self.screen.terminal,
                braille=self.screen.braille,
            )
        )
