"""Changing the network's parameters in a lab of real daemons: who follows when, and what it costs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.integration.labs import LabCase, logs
from vifibnet.lab.children import run, sleep
from vifibnet.lab.network import Lab
from vifibnet.lab.probe import Watch, full_size
from vifibnet.node.status import read_status
from vifibnet.wire.openvpn import REFUSED_PLACES

ROLL = 10.0
"""Seconds; the default of a minute is long in a test."""

SLOW_ROLL = 30.0
"""Seconds for what ends tunnels: five nodes with two tunnels each cannot spare three at a time."""

REFRESHED = "the worst: "
"""Why a tunnel ends that a refresh replaces."""

BUSY = 5.0
"""Seconds that a busy machine may take longer than promised."""


class ParametersTests(LabCase):
    """Nodes that are told neither hello nor connection count nor MTU: the network says what holds."""

    timeout = 300

    async def follow(self, nodes: int, connection_count: int) -> Lab:
        """A lab whose nodes follow."""
        lab = await self.up(nodes=nodes, connection_count=connection_count, follow=True)
        await lab.enrolment.set({"roll": f"{ROLL:g}"})
        await self.all_reached(lab)
        return lab

    def watch(self, lab: Lab, names: Iterable[str]) -> list[Watch]:
        """Pings between all pairs of these nodes, 20 a second each."""
        made = []
        for source, target in combinations(names, 2):
            watch = Watch.start(reactor, partial(lab.inside, source), lab.host(target).address, interval=0.05)
            self.addCleanup(self.stop, watch)
            made.append(watch)
        return made

    @staticmethod
    def stop(watch: Watch) -> Deferred[None]:
        """Ping no more."""
        return Deferred.fromCoroutine(watch.child.stop())

    async def lost(self, what: str, watches: list[Watch], seconds: float) -> int:
        """Stop the pings; say what became of them."""
        outages = [await each.stop() for each in watches]
        lost, sent = sum(each.lost for each in outages), sum(each.sent for each in outages)
        longest = max(each.seconds for each in outages)
        print(f"{what}: all nodes after {seconds:.2f} s, {lost} of {sent} pings lost, outage {longest:.2f} s")
        return lost

    async def until(self, lab: Lab, happened: Callable[[], bool], what: str, seconds: float = 20) -> float:
        """Wait for something that a callable tells; how long it took."""
        began = reactor.seconds()
        while not happened():
            self.assertLess(reactor.seconds() - began, seconds, f"{what}\n{logs(lab, 30)}")
            await sleep(reactor, 0.02)
        return reactor.seconds() - began

    async def pinging(self, lab: Lab, watches: list[Watch]) -> None:
        """Wait until all pings are answered."""
        await self.until(lab, lambda: all(len(each.arrivals) > 20 for each in watches), "pings are answered")

    async def status(self, lab: Lab, name: str) -> dict[str, Any]:
        """What a node says of its parameters."""
        status = await read_status(reactor, lab.directory(name) / "status.sock")
        return status["parameters"] if status is not None else {"number": 0, "values": {}}

    async def heard(self, lab: Lab, names: Iterable[str], **values: str) -> float:
        """Wait until these nodes say that these values hold, and all have the same document."""
        wanted = {name.replace("_", "-"): value for name, value in values.items()}
        began = reactor.seconds()
        while True:
            said = [await self.status(lab, name) for name in names]
            if all(wanted.items() <= each["values"].items() for each in said):
                break
            self.assertLess(reactor.seconds() - began, 20, f"{wanted}: {said}\n{logs(lab, 30)}")
            await sleep(reactor, 0.02)
        self.assertEqual(len({each["number"] for each in said}), 1)
        return reactor.seconds() - began

    @staticmethod
    def commands(lab: Lab, name: str, program: str) -> list[list[str]]:
        """The command lines of a host's processes of this program."""
        found = []
        for pid in lab.underlay.processes([lab.host(name).namespace]):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
            except OSError:
                continue
            if words and words[0] == program:
                found.append(words)
        return found

    def everywhere(self, lab: Lab, program: str, option: str, value: str) -> bool:
        """Whether every process of this program was started with this option, at least one on each host."""
        each = [self.commands(lab, name, program) for name in lab.hosts]
        return all(found and all(_value(words, option) == value for words in found) for found in each)

    @staticmethod
    def intervals(lab: Lab) -> set[tuple[str, str]]:
        """The hello and update intervals that any babeld has for any interface."""
        found = set()
        for name in lab.hosts:
            file = lab.directory(name) / "vifibnet-babeld.conf"
            # It is not there while babeld is started anew.
            said = file.read_text() if file.exists() else ""
            found.update(re.findall(r"hello-interval (\S+) update-interval (\S+)", said) or [("", "")])
        return found

    async def mtus(self, lab: Lab, name: str) -> set[str]:
        """The MTUs of a host's taps."""
        said = (await run(reactor, lab.inside(name, ["ip", "-oneline", "link", "show"]))).output
        return {line.split(" mtu ")[1].split()[0] for line in said.splitlines() if ": vif" in line}

    # -- the tests ----------------------------------------------------------------------------------------

    async def test_key_and_hello(self) -> None:
        """A new key loses no ping; nor do new intervals of babeld's, which every node has within the roll."""
        lab = await self.follow(nodes=5, connection_count=3)
        self.assertEqual((await self.status(lab, "h1"))["values"]["babel-key"], "set")
        watches = self.watch(lab, lab.hosts)
        await self.pinging(lab, watches)
        for _ in range(3):
            number = (await self.status(lab, "h0"))["number"]
            await lab.enrolment.set({"babel-key": "new"})
            began = reactor.seconds()
            for name in lab.hosts:
                while (await self.status(lab, name))["number"] <= number:
                    self.assertLess(reactor.seconds() - began, 20, logs(lab))
            seconds = reactor.seconds() - began
            # A neighbour that was lost would be missed within four hellos.
            await sleep(reactor, 4.0)
        self.assertEqual(await self.lost("babel-key=new, three times", watches, seconds), 0)

        watches = self.watch(lab, lab.hosts)
        await self.pinging(lab, watches)
        await lab.enrolment.set({"hello": "0.3", "update-interval": "3"})
        seconds = await self.until(
            lab, lambda: self.intervals(lab) == {("0.3", "3")}, "hello everywhere", ROLL + BUSY
        )
        await sleep(reactor, 6.0)
        # Of some 2,900, while five babelds are started anew: one on its way over a route that changes.
        self.assertLessEqual(await self.lost("hello=0.3 update-interval=3", watches, seconds), 5)
        for name in lab.hosts:
            log = (lab.directory(name) / "log" / "vifibnet-node.log").read_text()
            self.assertIn("hello 0.3", log)
            self.assertNotIn("are not followed", log)

    async def test_tunnels(self) -> None:
        """connection-count, refresh-rate, mtu, max-clients, tunnel-refresh are followed; a node's own command
        line wins."""
        # As many that a tunnel could be replaced by another. With one tunnel each, the network might come in
        # two when h4 leaves, each part full.
        lab = await self.follow(nodes=6, connection_count=2)
        await lab.stop("h4")
        await lab.node("h4").start(lab.node_command("h4", "--refresh-rate", "0.7"))
        await self.all_reached(lab)
        watches = self.watch(lab, lab.hosts)
        await self.pinging(lab, watches)
        others = [name for name in lab.hosts if name != "h4"]
        await lab.enrolment.set({"connection-count": "4", "refresh-rate": "0"})
        await self.heard(lab, others, connection_count="4", refresh_rate="0")
        self.assertEqual((await self.status(lab, "h4"))["values"]["refresh-rate"], "0.7")
        for name in lab.hosts:
            # Whoever is connected to us needs no tunnel of ours.
            await self.eventually(lab, name, lambda report: len({*report.tunnels, *report.served}) >= 4)
        await lab.enrolment.set({"connection-count": "2"})
        for name in lab.hosts:
            await self.eventually(lab, name, lambda report: len(report.tunnels) + len(report.opening) <= 2)
        seconds = await self.heard(lab, lab.hosts, connection_count="2")
        # One for each tunnel that ended at most.
        self.assertLessEqual(await self.lost("connection-count=2, 4, 2", watches, seconds), 5)
        await self.all_reached(lab)

        await lab.enrolment.set({"roll": f"{SLOW_ROLL:g}"})
        for mtu in (1340, 1420):
            watches = self.watch(lab, lab.hosts)
            await self.pinging(lab, watches)
            before = await self.mtus(lab, "h1")
            # What a server was started with tells of it, as of the MTU.
            places = mtu // 10
            await lab.enrolment.set({"mtu": str(mtu), "max-clients": str(places)})
            await self.heard(lab, lab.hosts, mtu=str(mtu), max_clients=str(places))
            if mtu < int(min(before)):
                self.assertEqual(await self.mtus(lab, "h1"), {str(mtu)})
            seconds = await self.until(
                lab,
                partial(self.everywhere, lab, "openvpn", "--tun-mtu", str(mtu)),
                "every openvpn is another",
                SLOW_ROLL + 2 * BUSY,
            )
            await sleep(reactor, 3.0)
            lost = await self.lost(f"mtu={mtu}", watches, seconds)
            # Of some 6,000: where two nodes empty the only two ways between a third and a fourth.
            self.assertLess(lost, 200)
            await self.full_size(lab, mtu)
            for name in lab.hosts:
                words = self.commands(lab, name, "openvpn")
                servers = [_value(each, "--max-clients") for each in words if "--max-clients" in each]
                self.assertEqual(servers, [str(places + REFUSED_PLACES)])

        # Nothing was replaced until now, and would not be for minutes.
        self.assertNotIn(REFRESHED, self.said(lab))
        await lab.enrolment.set({"tunnel-refresh": "2", "refresh-rate": "0.5"})
        await self.heard(lab, lab.hosts, tunnel_refresh="2")
        await self.until(lab, lambda: REFRESHED in self.said(lab), "a tunnel is replaced")

    @staticmethod
    def said(lab: Lab) -> str:
        """What the nodes but h4, which has a refresh rate of its own, have logged."""
        logs = (lab.directory(name) / "log" / "vifibnet-node.log" for name in lab.hosts if name != "h4")
        return "".join(log.read_text() for log in logs)

    async def full_size(self, lab: Lab, mtu: int) -> None:
        """Packets that fill the MTU are answered between all nodes, larger ones are not sent."""
        for source, target in combinations(lab.hosts, 2):
            ping = ["ping", "-6", "-n", "-c", "3", "-i", "0.2", "-W", "2", "-M", "do"]
            words = [*ping, "-s", str(full_size(mtu)), lab.host(target).address]
            done = await run(reactor, lab.inside(source, words), check=False)
            self.assertEqual(done.status, 0, f"{source} → {target}: {done.output}")

    async def test_away(self) -> None:
        """A node starts with what it knew when the registry is gone; what it missed, its peers tell it."""
        lab = await self.follow(nodes=4, connection_count=2)
        await lab.stop("h3")
        await lab.enrolment.set({"babel-key": "new", "refresh-rate": "0.25"})
        await self.heard(lab, ["h0", "h1", "h2"], refresh_rate="0.25")
        number = (await self.status(lab, "h0"))["number"]
        await lab.stop_registry()

        await lab.stop("h1")
        await lab.start("h1")
        said = await self.status(lab, "h1")
        self.assertEqual((said["number"], said["values"]["refresh-rate"]), (number, "0.25"))
        await self.all_reached(lab, "h0", "h1", "h2")

        began = reactor.seconds()
        await lab.start("h3")
        await self.all_reached(lab)
        print(f"back without a registry, with a new key: {reactor.seconds() - began:.2f} s")
        self.assertEqual((await self.status(lab, "h3"))["number"], number)


def _value(words: list[str], option: str) -> str:
    """What follows an option, or nothing."""
    return words[words.index(option) + 1] if option in words[:-1] else ""
