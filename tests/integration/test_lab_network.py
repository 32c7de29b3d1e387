"""Whole networks of real daemons: they come up, lose links and nodes, and keep working."""

from __future__ import annotations

from functools import partial

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred

from tests.integration.labs import LabCase
from tests.integration.namespaces import eventually
from vifibnet.errors import BadInput
from vifibnet.lab.children import run, sleep
from vifibnet.lab.faults import crash, processes
from vifibnet.lab.network import Lab
from vifibnet.lab.probe import Watch, answers, full_size
from vifibnet.lab.report import NodeReport
from vifibnet.lab.underlay import LAN


class ReachTests(LabCase):
    """All reach all, as soon as their nodes run and only then."""

    async def test_start_stop_restart(self) -> None:
        """No answer before the nodes start; then everywhere, in full packets; stopped, nothing is left."""
        lab = await self.up(start=False)
        untouched = await self.look(lab, "h1")
        await self.none_reached(lab, "h1", "h2", "h3")
        await self.start(lab, "h1", "h2", "h3")
        await self.all_reached(lab)
        await self.check_mtu(lab)
        running = await self.look(lab, "h1")
        self.assertNotEqual(running, untouched)
        await self.check_report(lab)

        began = reactor.seconds()
        await lab.stop("h1")
        self.assertLess(reactor.seconds() - began, 5.0)
        self.assertEqual(lab.underlay.processes([lab.host("h1").namespace]), {})
        self.assertEqual(await self.look(lab, "h1"), untouched)
        await self.all_reached(lab, "h0", "h2", "h3")
        await self.none_reached(lab, "h1", "h2")

        await lab.start("h1")
        await self.all_reached(lab, "h0", "h1", "h2", "h3")
        self.assertIsNotNone(lab.host("h1").seconds_to_all)
        await self.assertFailure(ensureDeferred(lab.start("h1")), BadInput)

    async def check_mtu(self, lab: Lab) -> None:
        """One byte more than the MTU goes nowhere unless fragmented: full size means full size."""
        full = full_size(lab.settings.mtu)
        address = lab.host("h2").address
        found = await answers(
            reactor, partial(lab.inside, "h1"), [address], sizes=(full, full + 1), timeout=1
        )
        self.assertEqual(set(found), {(address, full)})

    async def check_report(self, lab: Lab) -> None:
        """What the nodes say of themselves: as many tunnels as allowed, and both ends see the same ones."""
        for name in lab.hosts:
            # One that came up slowly got another beside it, and two nodes may have chosen each other at the
            # same moment: what is too much is on its way out.
            await self.eventually(lab, name, settled)
        report = await lab.reports(True)
        nodes = {node.name: node for node in report.nodes}
        for node in report.nodes:
            self.assertEqual(len(node.routes), 3, node)
            self.assertGreaterEqual(len(node.neighbours), 1)
            self.assertNotIn(node.name, node.tunnels)
            for peer in node.tunnels:
                self.assertIn(node.name, nodes[peer].served)


def settled(node: NodeReport) -> bool:
    """Whether there are no more tunnels than allowed, and none to a peer that is connected from its side."""
    return len(node.tunnels) + len(node.opening) <= 2 and not set(node.tunnels) & set(node.served)


class FailureTests(LabCase):
    """What the network survives."""

    async def test_cut(self) -> None:
        """A silent cut between two nodes: the packets take another way; healed, all is well."""
        lab = await self.up(node_options=("tunnel-refresh 600",))
        await self.all_reached(lab)
        source, target = await self.direct_pair(lab)
        watch = Watch.start(reactor, partial(lab.inside, source), lab.host(target).address)
        try:
            await eventually(lambda: len(watch.arrivals) > 10, "no answers before the cut")
            await lab.cut(source, target)
            began = reactor.seconds()
            await eventually(lambda: watch.last > began + 0.5, "no answers after the cut")
            way = await lab.way(source, target)
            self.assertGreater(len(way), 2, way)
            outage = await watch.stop()
        finally:
            await watch.child.stop()
        # Three to four hello intervals, and some for a busy machine.
        self.assertLess(outage.seconds, 6.0)
        await self.all_reached(lab)
        await lab.heal(source, target)
        await self.all_reached(lab)

    async def direct_pair(self, lab: Lab) -> tuple[str, str]:
        """Two nodes of which one uses its tunnel to the other."""
        for edge in sorted((await lab.reports(True)).edges, key=sorted):
            source, target = sorted(edge, reverse=True)
            if await lab.way(source, target) == [source, target]:
                return source, target
        raise self.failureException("no two nodes use the tunnel between them")

    async def test_crashed_and_late(self) -> None:
        """A node loses power: the others go on; it comes back, and a new one joins late."""
        lab = await self.up()
        await self.all_reached(lab)
        await crash(lab, "h2")
        await self.all_reached(lab, "h0", "h1", "h3")
        gone = lab.host("h2").subnet
        for name in ("h0", "h1", "h3"):
            await self.eventually(lab, name, lambda node: gone not in node.routes)
        await self.none_reached(lab, "h1", "h2")

        await lab.start("h2")
        await self.all_reached(lab, "h0", "h1", "h2", "h3")
        late = await lab.add()
        self.assertEqual(late, "h4")
        await self.all_reached(lab, *lab.hosts)
        await lab.stop("h2")
        self.assertEqual(processes(lab, "h2"), {})

    async def test_without_registry(self) -> None:
        """With the registry down for good, nodes start from what they know of their peers."""
        lab = await self.up(start=False)
        await self.start(lab, "h1", "h2", "h3")
        await self.all_reached(lab)
        for name in ("h1", "h2", "h3"):
            await self.eventually(lab, name, lambda node: len(node.routes) == 3)
        await lab.stop_registry()
        for name in lab.hosts:
            await lab.stop(name)
        await self.none_reached(lab, *lab.hosts)
        await self.start(lab, *lab.hosts)
        await self.all_reached(lab)
        self.assertIsNone(lab.enrolment.registry.pid)


class VariantTests(LabCase):
    """Other ways for the tunnels to run."""

    async def test_tcp(self) -> None:
        """Over TCP, with a peer that is cut off silently too."""
        lab = await self.up(nodes=3, proto="tcp-server")
        await self.all_reached(lab)
        listening = (await run(reactor, lab.inside("h1", ["ss", "-ltn"]))).output
        self.assertIn(":1194", listening)
        self.assertNotIn(":1194", (await run(reactor, lab.inside("h1", ["ss", "-lun"]))).output)
        await lab.cut("h1", "h2")
        await self.all_reached(lab)

    async def test_ipv6_underlay(self) -> None:
        """Over IPv6."""
        lab = await self.up(nodes=3, underlay=6)
        await self.all_reached(lab)
        self.assertNotIn("192.0.2.", (await run(reactor, lab.inside("h1", ["ip", "address"]))).output)

    async def route(self, lab: Lab, name: str, other: str) -> str:
        """The route from one host to another's subnet."""
        command = ["ip", "-6", "route", "show", lab.host(other).subnet]
        return (await run(reactor, lab.inside(name, command))).output

    @staticmethod
    def no_tunnel(other: str, node: NodeReport) -> bool:
        """Whether there is none between two nodes, nor one about to be."""
        return other not in (*node.tunnels, *node.opening, *node.served)

    async def test_lan(self) -> None:
        """Neighbours on a LAN that --interface names are found there, and no tunnel goes to them."""
        lab = await self.up(nodes=3, lan=(1, 2), connection_count=3)
        await self.all_reached(lab)
        both = (("h1", "h2"), ("h2", "h1"))
        for name, other in both:
            deadline = reactor.seconds() + 30
            while f" dev {LAN} " not in (route := await self.route(lab, name, other)):
                self.assertLess(reactor.seconds(), deadline, route)
                await sleep(reactor, 0.2)
        # What either of them had opened before it saw the other on the LAN is on its way out.
        for name, other in both:
            await self.eventually(lab, name, partial(self.no_tunnel, other))
        await self.all_reached(lab)
        for name, other in both:
            self.assertEqual(await lab.way(name, other), [name, other])
            node = await self.eventually(lab, name, lambda node: len(node.neighbours) > 1)
            self.assertIn("h0", (*node.tunnels, *node.served))
            self.assertTrue(self.no_tunnel(other, node), node)
