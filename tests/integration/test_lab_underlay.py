"""The lab's wires: real namespaces and packets, without any vifibnet on them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.trial.unittest import TestCase

from tests.directories import short_directory
from vifibnet.errors import BadInput, CommandFailed
from vifibnet.lab import settings
from vifibnet.lab.children import Child, run
from vifibnet.lab.network import Lab
from vifibnet.lab.probe import answers
from vifibnet.lab.settings import LabSettings, LabState
from vifibnet.lab.teardown import down
from vifibnet.lab.underlay import LAN, NAMESPACES, Underlay


class UnderlayTests(TestCase):
    """Two underlays of different names, side by side, each with three hosts."""

    timeout = 60

    def setUp(self) -> Deferred[None]:  # type: ignore[override]
        """Build both."""
        return ensureDeferred(self.build())

    async def build(self) -> None:
        """Three hosts each, two of them on the LAN."""
        self.ours, self.theirs = (Underlay(reactor, f"t{os.getpid()}{name}") for name in "ab")
        for underlay in (self.ours, self.theirs):
            self.addCleanup(self.delete, underlay)
            await underlay.claim()
            await underlay.create()
            for host in range(3):
                await underlay.add(host, lan=host > 0)

    def delete(self, underlay: Underlay) -> Deferred[None]:
        """Remove what a test has built."""
        return ensureDeferred(underlay.delete())

    async def ping(self, source: int, address: str, *options: str) -> bool:
        """Whether one ping within half a second is answered."""
        command = ["ping", "-c", "1", "-W", "0.5", *options, address]
        return (await run(reactor, self.ours.inside(source, command), check=False)).status == 0

    async def echoes_heard(self, host: int) -> int:
        """How many pings have arrived at a host."""
        return await self.counted(host, "Icmp:", "InEchos")

    async def counted(self, host: int, kind: str, what: str) -> int:
        """What a host's kernel has counted."""
        said = (await run(reactor, self.ours.inside(host, ["cat", "/proc/net/snmp"]))).output
        names, values = (line.split() for line in said.splitlines() if line.startswith(kind))
        return int(values[names.index(what)])

    async def datagram(self, source: int, target: int) -> bool:
        """Whether a UDP datagram arrives, at a port where nobody listens."""
        before = await self.counted(target, "Udp:", "NoPorts")
        send = ["bash", "-c", f"echo > /dev/udp/{self.ours.address(target)}/9"]
        await run(reactor, self.ours.inside(source, send), check=False)
        # What is sent after it arrives after it.
        self.assertTrue(await self.ping(source, self.ours.address(target)))
        return await self.counted(target, "Udp:", "NoPorts") == before + 1

    async def test_hosts_reach_each_other(self) -> None:
        """But nobody else: neither a host that is not there, nor the world."""
        self.assertFalse(await self.ping(0, self.ours.address(3)))
        self.assertFalse(await self.ping(0, "198.51.100.1"))
        self.assertTrue(await self.ping(0, self.ours.address(1)))
        self.assertTrue(await self.ping(2, self.ours.address(0)))

    async def test_cut_and_heal(self) -> None:
        """A cut drops what two hosts send each other, both ways, silently, and nothing else."""
        await self.ours.cut(0, 1)
        self.assertEqual(await self.ours.cuts(), {frozenset((0, 1))})
        said = await run(
            reactor,
            self.ours.inside(0, ["ping", "-c", "1", "-W", "0.5", self.ours.address(1)]),
            check=False,
        )
        self.assertNotEqual(said.status, 0)
        self.assertNotIn("permitted", said.output + said.errors)
        self.assertFalse(await self.ping(1, self.ours.address(0)))
        self.assertTrue(await self.ping(0, self.ours.address(2)))
        self.assertTrue(await self.ping(2, self.ours.address(1)))
        self.assertEqual(await self.theirs.cuts(), frozenset())
        await self.ours.cut(1, 2)
        await self.ours.heal(1, 0)
        self.assertTrue(await self.ping(0, self.ours.address(1)))
        self.assertFalse(await self.ping(2, self.ours.address(1)))
        await self.assertFailure(ensureDeferred(self.ours.heal(0, 1)), BadInput)

    async def test_one_way(self) -> None:
        """What one sends the other is dropped, but not what it is sent."""
        self.assertTrue(await self.ping(1, self.ours.address(0)))
        await self.ours.cut_one_way(0, 1)
        before = await self.echoes_heard(0)
        self.assertFalse(await self.ping(1, self.ours.address(0)))
        self.assertEqual(await self.echoes_heard(0), before + 1)
        self.assertTrue(await self.ping(1, self.ours.address(2)))
        await self.ours.mend()
        self.assertTrue(await self.ping(1, self.ours.address(0)))

    async def test_darkness(self) -> None:
        """A host in the dark reaches nobody; the others are not touched."""
        await self.ours.darken([1])
        self.assertFalse(await self.ping(0, self.ours.address(1)))
        self.assertFalse(await self.ping(1, self.ours.address(2)))
        self.assertTrue(await self.ping(0, self.ours.address(2)))
        await self.ours.mend()
        self.assertTrue(await self.ping(0, self.ours.address(1)))

    async def test_loss(self) -> None:
        """Some of the packets between two are lost, and none of the others'."""
        # Whoever is known already need not be looked for, which may fail, too.
        self.assertTrue(await self.ping(0, self.ours.address(1)))
        await self.ours.lose(0, 1, 50)
        lost = {}
        for host in (1, 2):
            command = self.ours.inside(
                0, ["ping", "-q", "-c", "100", "-i", "0.01", "-W", "0.2", self.ours.address(host)]
            )
            said = (await run(reactor, command, check=False)).output
            lost[host] = int(re.findall(r"([\d.]+)% packet loss", said)[0].partition(".")[0])
        # A question and its answer both pass with a probability of a quarter.
        self.assertTrue(50 < lost[1] < 95, lost)
        self.assertEqual(lost[2], 0)

    async def test_parted(self) -> None:
        """Two that are to have no tunnel lose their UDP datagrams, both ways, for good, and nothing else."""
        self.assertTrue(await self.datagram(0, 1))
        await self.ours.part([(0, 1)])
        await self.ours.mend()
        self.assertFalse(await self.datagram(0, 1))
        self.assertFalse(await self.datagram(1, 0))
        self.assertTrue(await self.datagram(0, 2))

    async def test_readdress(self) -> None:
        """A host answers on its new address alone."""
        new = self.ours.address(99)
        await self.ours.readdress(1, self.ours.address(1), new)
        self.assertTrue(await self.ping(0, new))
        self.assertFalse(await self.ping(0, self.ours.address(1)))

    async def test_lan(self) -> None:
        """The LAN joins only those who are on it, and has no addresses but link-local ones."""
        links = (await run(reactor, self.ours.inside(0, ["ip", "-o", "link"]))).output
        self.assertNotIn(LAN, links)
        heard = (
            await run(
                reactor, self.ours.inside(1, ["ping", "-c", "3", "-i", "0.2", f"ff02::1%{LAN}"]), check=False
            )
        ).output
        address = (await run(reactor, self.ours.inside(2, ["ip", "-o", "-6", "addr", "show", LAN]))).output
        self.assertIn(address.split()[3].split("/")[0], heard)

    async def test_a_name_is_taken_once(self) -> None:
        """Nobody gets a name that is taken."""
        await self.assertFailure(ensureDeferred(Underlay(reactor, self.ours.name).claim()), CommandFailed)

    async def test_delete(self) -> None:
        """One goes, the other stays."""
        await self.ours.delete()
        self.assertEqual(self.ours.existing(), [])
        self.assertEqual(len(self.theirs.existing()), 4)
        await self.ours.delete()

    async def test_probe(self) -> None:
        """Pings go on until all have answered, in all sizes; who never does is missing."""
        for host in range(3):
            command = ["ip", "address", "add", f"2001:db8:1::{host}/64", "dev", "eth0", "nodad"]
            await run(reactor, self.ours.inside(host, command))
        inside = partial(self.ours.inside, 0)
        there, not_there = "2001:db8:1::1", "2001:db8:1::9"
        found = await answers(reactor, inside, [there, not_there], sizes=(56, 1452, 1453), timeout=1)
        self.assertEqual(set(found), {(there, 56), (there, 1452)})
        self.assertEqual(await answers(reactor, inside, ["2001:db8:2::1"], timeout=0.3), {})
        self.assertEqual(await answers(reactor, inside, []), {})


class LeftoverTests(TestCase):
    """What a lab that crashed has left is removed, and nothing that is not its own."""

    timeout = 60

    def setUp(self) -> None:
        """A directory that is no other lab's."""
        self.name = f"t{os.getpid()}"
        self.runs = short_directory(self) / "labs"
        self.patch(settings, "RUN", self.runs)
        self.addCleanup(lambda: ensureDeferred(down(reactor, self.name)))

    async def test_nothing(self) -> None:
        """There may be nothing to remove."""
        self.assertFalse(await down(reactor, self.name))

    async def test_processes_and_namespaces(self) -> None:
        """Processes go, however stubborn, with the namespaces and files; a namesake's stay."""
        underlay, other = Underlay(reactor, self.name), Underlay(reactor, f"{self.name}-h0")
        self.addCleanup(lambda: ensureDeferred(down(reactor, other.name)))
        for each in (underlay, other):
            await each.claim()
            await each.create()
            await each.add(0)
        state = LabState(LabSettings(name=self.name))
        state.make_home()
        state.save()
        stubborn = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]
        ready: Deferred[str] = Deferred()
        child = Child(reactor, underlay.inside(0, stubborn), ready.callback)
        bystander = Child(reactor, other.inside(0, stubborn))
        bystander.start()
        child.start()
        await ready
        self.assertTrue(await down(reactor, self.name))
        self.assertEqual(await child.ended(), -9)
        self.assertEqual(underlay.existing(), [])
        self.assertFalse(self.runs.exists())
        self.assertIsNone(bystander.status)
        self.assertEqual(len(other.existing()), 2)
        await bystander.stop(grace=0.1)

    async def test_up_refuses_leftovers(self) -> None:
        """Nothing is built on what is there, and nothing of it is removed."""
        underlay = Underlay(reactor, self.name)
        await underlay.claim()
        error = await self.assertFailure(
            ensureDeferred(Lab.up(reactor, LabSettings(name=self.name))), BadInput
        )
        self.assertIn("vifibnet lab down --name", str(error))
        self.assertEqual(underlay.existing(), [underlay.bridge])


class CommandTests(TestCase):
    """The command line, where nothing has to be up."""

    def vifibnet(self, *words: str) -> tuple[int, str]:
        """Exit status and what it says on stderr."""
        command = [sys.executable, "-m", "vifibnet", "lab", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, done.stderr

    def test_bad_input(self) -> None:
        """One sentence, status 1, no namespace."""
        for words, sentence in (
            (["up", "--name", "A"], "--name: 'A' is no name for a lab"),
            (["up", "--nodes", "0"], "--nodes: 0 is out of range"),
            (["up", "--dir", "/" + "x" * 100], "--dir: too long"),
            (["demo", "--mtu", "9000"], "--mtu: 9000 is out of range"),
            (["down", "--name", f"t{os.getpid()}"], "--name: there is no lab named"),
            (["status", "--name", f"t{os.getpid()}"], "--name: no lab named"),
            (["exec", "--name", f"t{os.getpid()}", "h1", "--", "true"], "--name: no lab named"),
            (["cut", "--name", f"t{os.getpid()}", "h1", "h2"], "--name: no lab named"),
        ):
            status, said = self.vifibnet(*words)
            self.assertEqual((status, said.count("\n")), (1, 1), said)
            self.assertTrue(said.startswith(f"vifibnet lab: {sentence}"), said)
        after = sorted(NAMESPACES.iterdir()) if NAMESPACES.exists() else []
        self.assertEqual([path for path in after if f"t{os.getpid()}" in path.name], [])
