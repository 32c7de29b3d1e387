"""What can go wrong on a host of a lab goes wrong there, and nowhere else."""

from __future__ import annotations

import contextlib

from twisted.internet import reactor

from tests.integration.labs import LabCase
from vifibnet.lab import faults
from vifibnet.lab.children import run, sleep
from vifibnet.lab.faults import NoSuchChild
from vifibnet.lab.network import Lab


class FaultTests(LabCase):
    """Two hosts with a tunnel."""

    async def answers(self, lab: Lab, address: str) -> bool:
        """Whether h0 gets an answer within half a second."""
        command = lab.inside("h0", ["ping", "-c", "1", "-W", "0.5", address])
        return (await run(reactor, command, check=False)).status == 0

    async def another_babeld(self, lab: Lab, than: int) -> None:
        """Wait until h1 has one."""
        deadline = reactor.seconds() + 10
        while True:
            with contextlib.suppress(NoSuchChild):
                if faults.child(lab, "h1", "babeld") != than:
                    return
            self.assertLess(reactor.seconds(), deadline)
            await sleep(reactor, 0.1)

    async def test_faults(self) -> None:
        """A killed child is gone and comes again; who sleeps answers nobody; who moves is elsewhere."""
        lab = await self.up(nodes=2)
        await self.all_reached(lab)
        first = faults.kill_child(lab, "h1", "babeld")
        self.assertRaises(NoSuchChild, faults.child, lab, "h1", "openvpn", "no-such-option")
        await self.another_babeld(lab, first)
        await self.all_reached(lab)

        pulse = self.pulse(lab, "h0", "h1")
        await sleep(reactor, 1.0)
        began = reactor.seconds()
        pids = faults.freeze(lab, "h1")
        self.assertIn(lab.running("h1"), pids)
        await sleep(reactor, 1.0)
        # The tunnel's own programs sleep: no ping passes.
        self.assertFalse(await self.answers(lab, lab.host("h1").address))
        faults.thaw(pids)
        await sleep(reactor, 2.0)
        await pulse.stop()
        self.assertGreater(pulse.verdict(began).lost, 20)
        self.assertEqual([end for end, _ in pulse.holes() if pulse.due(end) < began - 0.1], [])

        before = lab.host("h1").underlay
        await faults.move(lab, "h1")
        self.assertFalse(await self.answers(lab, before))
        self.assertTrue(await self.answers(lab, lab.host("h1").underlay))
        await faults.move_back(lab, "h1")
        self.assertEqual(lab.host("h1").underlay, before)

        registry = lab.enrolment.registry.pid
        await faults.kill_registry(lab)
        self.assertNotIn(registry, lab.underlay.processes())
        await self.all_reached(lab)
