"""How many may come in, and how fast they may call."""

from __future__ import annotations

import resource
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.guard.gate import Gate, Visit
from vifibnet.guard.limits import Limits, Rate, descriptors, neighbourhood, raise_descriptors


class FakePort:
    """A listening port."""

    def __init__(self) -> None:
        self.reading = True
        self.numberAccepts = 100

    def stopReading(self) -> None:
        """Accept no more."""
        self.reading = False

    def startReading(self) -> None:
        """Accept again."""
        self.reading = True


class GateTests(SynchronousTestCase):
    """Connections and handshakes."""

    def setUp(self) -> None:
        """Make a small gate."""
        self.clock = Clock()
        self.gate = Gate(self.clock, Limits(handshakes=3, connections=10, connections_per_address=4))
        self.port: Any = FakePort()
        self.gate.watch(self.port)

    def enter(self, count: int, host: str = "192.0.2.1") -> list[Visit]:
        """Connect."""
        return [self.gate.enter(host) for _ in range(count)]

    def test_handshakes(self) -> None:
        """While enough shake hands nobody else is accepted; then as many as there is room for."""
        first, second, third = self.enter(3)
        self.assertFalse(self.port.reading)
        first.shaken()
        self.assertTrue(self.port.reading)
        self.assertEqual(self.port.numberAccepts, 1)
        second.left()
        third.left()
        self.assertEqual(self.port.numberAccepts, 3)
        # Nobody counts twice.
        first.shaken()
        first.left()
        self.assertEqual((len(self.gate), self.port.numberAccepts), (0, 3))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_silent_ones(self) -> None:
        """Who does not go on with the handshake keeps others waiting for no more than a second."""
        visits = self.enter(3)
        self.clock.advance(0.9)
        self.assertFalse(self.port.reading)
        self.clock.advance(0.2)
        self.assertTrue(self.port.reading)
        for visit in visits:
            visit.shaken()
            visit.left()
        self.assertEqual((len(self.gate), self.port.numberAccepts), (0, 3))

    def test_all_connections(self) -> None:
        """There are no more connections than the limit says."""
        visits = [visit for number in range(5) for visit in self.enter(2, f"192.0.2.{number}")]
        for visit in visits:
            visit.shaken()
        self.assertFalse(self.port.reading)
        late: Any = FakePort()
        self.gate.watch(late)
        self.assertFalse(late.reading)
        visits[0].left()
        self.assertTrue(self.port.reading and late.reading)

    def test_per_address(self) -> None:
        """An IPv4 address and an IPv6 /64 have so many, whatever they do with them."""
        for host, same, other in (
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8::1", "2001:db8::2:0:0:1", "2001:db8:0:1::1"),
        ):
            visits = self.enter(3, host)
            self.assertTrue(self.gate.admits(same))
            visits += self.enter(1, same)
            self.assertFalse(self.gate.admits(same))
            self.assertTrue(self.gate.admits(other))
            visits.pop().left()
            self.assertTrue(self.gate.admits(host))
            for visit in visits:
                visit.left()
        self.assertEqual(self.gate._from, {})

    def test_released(self) -> None:
        """At the end the ports, which are being closed, are left alone."""
        visits = self.enter(3)
        self.gate.release()
        for visit in visits:
            visit.left()
        self.assertFalse(self.port.reading)

    @given(st.lists(st.tuples(st.sampled_from(["shaken", "left", "enter"]), st.integers(0, 9)), max_size=60))
    def test_any_order(self, steps: list[tuple[str, int]]) -> None:
        """Whatever happens in which order, the port reads exactly while there is room."""
        self.setUp()
        shaking: list[Visit] = []
        quiet: list[Visit] = []
        for step, number in steps:
            if step == "enter" and self.port.reading:
                shaking.append(self.gate.enter(f"192.0.2.{number}"))
            elif step == "shaken" and shaking:
                quiet.append(shaking.pop(number % len(shaking)))
                quiet[-1].shaken()
            elif step == "left" and (shaking or quiet):
                visits = shaking or quiet
                visits.pop(number % len(visits)).left()
            self.assertEqual(len(self.gate), len(shaking) + len(quiet))
            self.assertEqual(self.port.reading, len(shaking) < 3 and len(self.gate) < 10)


class RateTests(SynchronousTestCase):
    """Calls per second."""

    def setUp(self) -> None:
        """A rate of ten per second after five at once."""
        self.clock = Clock()
        self.rate = Rate(self.clock, 10, 5)

    def test_burst_and_rate(self) -> None:
        """The burst is free; then each call waits a tenth of a second more than the one before."""
        waits = [round(self.rate.take("192.0.2.1"), 3) for _ in range(8)]
        self.assertEqual(waits, [0, 0, 0, 0, 0, 0.1, 0.2, 0.3])
        self.assertEqual(self.rate.take("192.0.2.2"), 0)
        self.clock.advance(10)
        self.assertEqual(self.rate.take("192.0.2.1"), 0)

    def test_who_waits_is_never_late(self) -> None:
        """Who waits as long as told calls exactly at the rate."""
        for _ in range(105):
            self.clock.advance(self.rate.take("2001:db8::1"))
        self.assertAlmostEqual(self.clock.seconds(), 10, places=5)

    def test_forgets(self) -> None:
        """Addresses that called long ago take no memory."""
        for number in range(5000):
            self.rate.take(f"10.0.{number // 250}.{number % 250}")
            self.clock.advance(0.01)
        self.assertLess(len(self.rate), 1100)


class DescriptorTests(SynchronousTestCase):
    """File descriptors."""

    def test_raised(self) -> None:
        """We take all that we may have, and leave some to others than nodes."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
        self.assertLess(descriptors(), 512)
        raise_descriptors()
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE)[0], before[1])

    def test_neighbourhood(self) -> None:
        """What is no address stands for itself."""
        self.assertEqual([neighbourhood(host) for host in ("", "x")], ["", "x"])
