"""A stranger's babeld on a LAN that nodes share: with the network's key nobody believes it."""

from __future__ import annotations

from functools import partial
from itertools import permutations

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.directories import short_directory
from tests.integration.labs import LabCase, logs
from tests.integration.namespaces import eventually
from vifibnet.lab.children import Child, run, sleep
from vifibnet.lab.network import Lab
from vifibnet.lab.probe import Watch
from vifibnet.lab.underlay import LAN
from vifibnet.node.status import FILE, read_status

STRANGER = 9
"""The number of a host that is on the LAN and not in the network."""

PACKETS = 20
"""How many babel packets it sends before we look; at its hello interval, some five seconds."""

CONFIGURATION = """\
skip-kernel-setup true
random-id true
link-detect true
interface {lan} type wired rxcost 1 hello-interval 0.5 update-interval 1
{announced}redistribute local deny
redistribute deny
"""
"""Whoever believes it is one hop of cost 1 from the subnets that it announces."""


class StrangerTests(LabCase):
    """h1 and h2 share a LAN; h0, with the registry, is reached through tunnels."""

    async def test_impostor(self) -> None:
        """It announces the registry's subnet and h2's at a better cost than anybody. Without a key it is
        believed; with one nothing changes and no ping is lost."""
        lab = await self.up(nodes=3, lan=(1, 2), connection_count=2, start=False)
        await lab.underlay.add(STRANGER, lan=True)
        await self.prepare(lab)
        await lab.enrolment.set({"roll": "1", "babel-key": ""})
        await self.start(lab, "h1", "h2")
        await self.settled(lab)
        stranger = await self.appears(lab)
        await self.until(lab, "h1", True)
        victims = [self.watch(lab, "h1", name) for name in ("h0", "h2")]
        await self.packets(lab, PACKETS)
        # What goes to it ends there.
        self.assertEqual([each.arrivals for each in victims], [{}, {}])
        await stranger.stop()

        await lab.enrolment.set({"babel-key": "new"})
        for name in lab.hosts:
            conf = lab.directory(name) / "vifibnet-babeld.conf"
            await eventually(lambda conf=conf: "key" in conf.read_text(), "a key", 20)  # type: ignore[misc]
        await self.until(lab, "h1", False)
        await self.settled(lab)
        watches = [self.watch(lab, source, target) for source, target in permutations(lab.hosts, 2)]
        await eventually(lambda: all(len(each.arrivals) > 20 for each in watches), "pings", 20)
        await self.appears(lab)
        await self.packets(lab, PACKETS)
        outages = [await each.stop() for each in watches]
        lost, sent = sum(each.lost for each in outages), sum(each.sent for each in outages)
        print(f"a stranger announced the registry's subnet: {lost} of {sent} pings lost")
        self.assertEqual(lost, 0)
        address = await self.link_local(lab)
        for name in lab.hosts:
            routes = await run(reactor, lab.inside(name, ["ip", "-6", "route", "show", "table", "all"]))
            self.assertNotIn(address, routes.output)
            status = await read_status(reactor, lab.directory(name) / FILE)
            assert status is not None
            self.assertNotIn(address, [each["address"] for each in status["neighbours"]])

    async def prepare(self, lab: Lab) -> None:
        """The stranger has routes to what it is going to announce; what it is sent is lost."""
        ways = [f"ip -6 route add {lab.host(name).subnet} dev lo proto static" for name in ("h0", "h2")]
        await run(reactor, lab.underlay.inside(STRANGER, ["sh", "-ec", "; ".join(ways)]))

    async def appears(self, lab: Lab) -> Child:
        """Start its babeld."""
        directory = short_directory(self)
        subnets = [lab.host(name).subnet for name in ("h0", "h2")]
        announced = "".join(f"redistribute ip {subnet} allow\n" for subnet in subnets)
        (directory / "conf").write_text(CONFIGURATION.format(lan=LAN, announced=announced))
        files = ["-c", directory / "conf", "-I", directory / "pid", "-S", directory / "state"]
        words = ["babeld", *map(str, files), "-d", "1"]
        child = Child(reactor, lab.underlay.inside(STRANGER, words))
        child.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(child.stop()))
        self.sent = await self.datagrams(lab)
        return child

    async def datagrams(self, lab: Lab) -> int:
        """How many babel packets it has sent: it sends nothing else over UDP."""
        said = (await run(reactor, lab.underlay.inside(STRANGER, ["cat", "/proc/net/snmp6"]))).output
        (line,) = [line for line in said.splitlines() if line.startswith("Udp6OutDatagrams")]
        return int(line.split()[1])

    async def packets(self, lab: Lab, count: int) -> None:
        """Wait until it has sent so many since it appeared."""
        deadline = reactor.seconds() + 30
        while await self.datagrams(lab) < self.sent + count:
            self.assertLess(reactor.seconds(), deadline, "the stranger says nothing")
            await sleep(reactor, 0.1)

    async def link_local(self, lab: Lab) -> str:
        """The stranger's address on the LAN."""
        show = ["ip", "-6", "-brief", "address", "show", "dev", LAN, "scope", "link"]
        said = (await run(reactor, lab.underlay.inside(STRANGER, show))).output
        return said.split()[2].partition("/")[0]

    async def until(self, lab: Lab, name: str, believed: bool) -> None:
        """Wait until a node sends the registry's packets, and h2's, to the stranger, or no longer does."""
        stranger = await self.link_local(lab)
        deadline = reactor.seconds() + 30
        for target in ("h0", "h2"):
            command = lab.inside(name, ["ip", "-6", "route", "get", lab.host(target).address])
            while (f"via {stranger} " in (await run(reactor, command, check=False)).output) != believed:
                self.assertLess(reactor.seconds(), deadline, f"{target}\n{logs(lab)}")
                await sleep(reactor, 0.1)

    async def settled(self, lab: Lab) -> None:
        """Wait until all reach all, and h1 and h2 each other over the LAN."""
        await self.all_reached(lab)
        deadline = reactor.seconds() + 30
        for source, target in (("h1", "h2"), ("h2", "h1")):
            command = lab.inside(source, ["ip", "-6", "route", "get", lab.host(target).address])
            while f" dev {LAN} " not in (await run(reactor, command)).output:
                self.assertLess(reactor.seconds(), deadline, logs(lab))
                await sleep(reactor, 0.1)

    def watch(self, lab: Lab, source: str, target: str) -> Watch:
        """Pings that go on, 20 a second."""
        watch = Watch.start(reactor, partial(lab.inside, source), lab.host(target).address, interval=0.05)
        self.addCleanup(lambda: Deferred.fromCoroutine(watch.child.stop()))
        return watch
