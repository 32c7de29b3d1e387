"""A node is killed, and nothing else on its machine: what it has started carries on."""

from __future__ import annotations

from twisted.internet import reactor

from tests.integration.labs import LabCase
from tests.integration.namespaces import eventually
from vifibnet.lab.children import sleep
from vifibnet.lab.faults import children, crash

LONG = 5.0
"""Seconds without a node: its neighbours miss its heartbeats after half of one."""


class KilledTests(LabCase):
    """Pings to a node and through it."""

    async def test_killed(self) -> None:
        """Not a ping is lost while it is away; the next one starts what is needed anew, and is reached soon.
        When all of it dies, nobody is reached by it."""
        lab = await self.up(nodes=3, start=False)
        await lab.cut("h1", "h2")
        await self.none_reached(lab, "h1", "h2")
        await self.start(lab, "h1", "h2")
        await self.all_reached(lab)
        pairs = (("h1", "h2"), ("h2", "h1"), ("h1", "h0"))
        pulses = [self.pulse(lab, *pair) for pair in pairs]
        await eventually(lambda: all(pulse.steady(reactor.seconds(), 1.0) for pulse in pulses), "calm pings")
        before, began = children(lab, "h0"), reactor.seconds()
        await lab.kill("h0")
        await sleep(reactor, LONG)
        self.assertEqual(children(lab, "h0"), before)
        for pulse in pulses:
            await pulse.stop()
            self.assertEqual(pulse.verdict(began).lost, 0, pulse.holes())

        await lab.start("h0")
        await self.all_reached(lab)
        await eventually(lambda: "babeld" in children(lab, "h0").values(), "babeld")
        self.assertFalse(before.keys() & children(lab, "h0").keys())

        await crash(lab, "h0")
        await eventually(lambda: not children(lab, "h0"), "nothing")
        await self.none_reached(lab, "h1", "h2")
