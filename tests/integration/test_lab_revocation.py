"""Revoking in a whole network of real daemons: who is out, how soon, and who does not notice."""

from __future__ import annotations

from functools import partial
from itertools import permutations

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.integration.labs import LabCase, logs
from tests.integration.namespaces import eventually
from vifibnet.lab.children import run, sleep
from vifibnet.lab.daemons import program
from vifibnet.lab.network import Lab
from vifibnet.lab.probe import Watch
from vifibnet.lab.report import NodeReport

BOUND = 5.0
"""Seconds that a busy machine may take; what is promised is two."""


class RevocationTests(LabCase):
    """Eight nodes with tunnels among all, so that nobody's packets pass through the one that goes."""

    async def revoke(self, lab: Lab, name: str) -> str:
        """As an operator does, on the registry's machine."""
        command = [program("vifibnet"), "revoke", lab.host(name).prefix, "--reason", "stolen"]
        database = str(lab.enrolment.directory / "registry.db")
        done = await run(reactor, lab.inside("h0", [*command, "--registry", database]))
        return done.output

    def watch(self, lab: Lab, source: str, target: str) -> Watch:
        """Pings that go on, 20 a second."""
        watch = Watch.start(reactor, partial(lab.inside, source), lab.host(target).address, interval=0.05)
        self.addCleanup(lambda: Deferred.fromCoroutine(watch.child.stop()))
        return watch

    @staticmethod
    def direct(others: set[str], node: NodeReport) -> bool:
        """Whether a node has a tunnel with each other one, and all its routes are direct ones."""
        return others <= {*node.tunnels, *node.served}

    async def test_revoked(self) -> None:
        """Before: reachable. Then: from nobody, within two seconds; the others lose nothing."""
        lab = await self.up(nodes=8, connection_count=7)
        await self.all_reached(lab)
        others = [name for name in lab.hosts if name != "h3"]
        for name in lab.hosts:
            await self.eventually(lab, name, partial(self.direct, set(lab.hosts) - {name}), timeout=40)
        for source, target in permutations(lab.hosts, 2):
            await self.straight(lab, source, target)

        among = [self.watch(lab, a, b) for a, b in permutations(others, 2) if a < b]
        victims = [self.watch(lab, name, "h3") for name in others]
        await eventually(
            lambda: all(len(each.arrivals) > 20 for each in among + victims), "pings", 20, partial(logs, lab)
        )
        began = reactor.seconds()
        said = await self.revoke(lab, "h3")
        self.assertIn(f"revoked {lab.host('h3').prefix}", said)
        await self.silent(victims)
        await sleep(reactor, 2.0)
        for each in victims:
            await each.stop()
        outages = [await each.stop() for each in among]
        seconds = max(each.last for each in victims) - began
        lost = sum(each.lost for each in outages)
        sent = sum(each.sent for each in outages)
        print(f"revoked: unreachable from all after {seconds:.2f} s; the others lost {lost} of {sent} pings")
        self.assertLess(seconds, BOUND)
        self.assertEqual(lost, 0)
        for name in others:
            self.assertEqual((await lab.reach([name], ["h3"], timeout=1)).seconds, {})
            report = await lab.report(name)
            self.assertNotIn("h3", (*report.tunnels, *report.served))
        log = (lab.directory("h3") / "log" / "vifibnet-node.log").read_text()
        self.assertEqual(log.count("this node's certificate was revoked"), 1)
        await self.all_reached(lab, *others)

    async def straight(self, lab: Lab, source: str, target: str) -> None:
        """Wait until packets take the tunnel between the two."""
        deadline = reactor.seconds() + 40
        while await lab.way(source, target) != [source, target]:
            self.assertLess(reactor.seconds(), deadline, f"{source} → {target}\n{logs(lab)}")
            await sleep(reactor, 0.3)

    async def silent(self, watches: list[Watch]) -> None:
        """Wait until no answer has come for a second and a half."""
        deadline = reactor.seconds() + 20
        while reactor.seconds() - max(each.last for each in watches) < 1.5:
            self.assertLess(reactor.seconds(), deadline, "it still answers")
            await sleep(reactor, 0.05)

    async def test_away(self) -> None:
        """A node that was stopped meanwhile learns it before its first tunnel; without the registry it starts
        all the same, with what it knew."""
        lab = await self.up(nodes=4, connection_count=3)
        await self.all_reached(lab)
        await lab.stop("h1")
        await self.revoke(lab, "h2")
        await lab.start("h1")
        await self.all_reached(lab, "h0", "h1", "h3")
        log = (lab.directory("h1") / "log" / "vifibnet-node.log").read_text()
        after = log[log.rindex(" starts, address ") :]
        learnt, up = after.index("revocation list"), after.index("the tunnel to")
        self.assertLess(learnt, up, after)
        self.assertNotIn(f"tunnel to {lab.host('h2').prefix} is up", after)

        await lab.stop("h1")
        await lab.stop_registry()
        await lab.start("h1")
        await self.all_reached(lab, "h0", "h1", "h3")
        await self.none_reached(lab, "h1", "h2")
