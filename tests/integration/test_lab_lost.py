"""A whole network whose registry loses its database: what goes on, and what comes back."""

from __future__ import annotations

import json
from functools import partial
from itertools import permutations

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.integration.labs import LabCase, logs
from vifibnet.lab.children import run, sleep
from vifibnet.lab.daemons import program
from vifibnet.lab.network import Lab
from vifibnet.lab.probe import Watch


class LostDatabaseTests(LabCase):
    """Four nodes, one of which is away when the database goes, and one revoked before."""

    async def command(self, lab: Lab, *words: str) -> str:
        """An operator's command on the registry's machine."""
        database = str(lab.enrolment.directory / "registry.db")
        argv = [program("vifibnet"), *words, "--registry", database]
        return (await run(reactor, lab.inside("h0", argv))).output

    async def listed(self, lab: Lab) -> dict[str, bool]:
        """The prefixes that ``vifibnet nodes`` shows, and whether each is connected."""
        nodes = json.loads(await self.command(lab, "nodes", "--json"))
        return {node["prefix"]: node["connected"] for node in nodes}

    async def until_connected(self, lab: Lab, *names: str) -> None:
        """Wait until the registry lists these nodes as connected, and nobody else."""
        wanted = {lab.host(name).prefix: True for name in names}
        deadline = reactor.seconds() + 60
        while (found := await self.listed(lab)) != wanted:
            self.assertLess(reactor.seconds(), deadline, f"{found}, not {wanted}\n{logs(lab)}")
            await sleep(reactor, 0.3)

    def end(self, watch: Watch) -> Deferred[None]:
        """Ping no more."""
        return Deferred.fromCoroutine(watch.child.stop())

    async def test_lost(self) -> None:
        """No ping is lost; who is there is listed again, the revoked one is not, and a newcomer gets a prefix
        that nobody has, also not the one who is away."""
        lab = await self.up(nodes=5, connection_count=4)
        present = ["h0", "h1", "h2"]
        await self.all_reached(lab)
        await self.command(lab, "revoke", lab.host("h4").prefix, "--reason", "stolen")
        kept = lab.directory("h0") / "revocations"
        deadline = reactor.seconds() + 20
        while not kept.exists():
            self.assertLess(reactor.seconds(), deadline, logs(lab))
            await sleep(reactor, 0.1)
        await lab.stop("h3")
        await self.all_reached(lab, *present)
        watches = [
            Watch.start(reactor, partial(lab.inside, a), lab.host(b).address, interval=0.05)
            for a, b in permutations(present, 2)
            if a < b
        ]
        for watch in watches:
            self.addCleanup(self.end, watch)

        directory = lab.enrolment.directory
        for path in directory.glob("registry.db*"):
            if not path.name.endswith(".sock"):
                path.unlink()
        await sleep(reactor, 2.0)
        await lab.stop_registry()
        await lab.enrolment.start_registry("--lost-database", str(kept.parent))
        await self.until_connected(lab, *present)

        new = await lab.add()
        old = {host.prefix for name, host in lab.hosts.items() if name != new}
        self.assertNotIn(lab.host(new).prefix, old)
        await self.all_reached(lab, *present, new)
        await self.until_connected(lab, *present, new)
        await lab.start("h3")
        await self.all_reached(lab, *present, new, "h3")
        await self.until_connected(lab, *present, new, "h3")
        await self.none_reached(lab, "h4", "h0")
        outages = [await watch.stop() for watch in watches]
        lost, sent = sum(each.lost for each in outages), sum(each.sent for each in outages)
        got = lab.host(new).prefix
        print(f"database deleted and made anew: {lost} of {sent} pings lost; the newcomer got {got}")
        self.assertEqual(lost, 0)
