"""Keeping the peer database fresh, with a fake registry and a clock that the test moves."""

from __future__ import annotations

from pathlib import Path
from random import Random

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fakes import NETWORK, FakeRegistry, clock, endpoint, node
from vifibnet.model.endpoints import Endpoint
from vifibnet.node.peers import ISOLATED_FETCH, REDECLARE, PeerRefresh, Persistent
from vifibnet.store.peers import PeerStore

HOUR = 3600.0


class PersistentTests(SynchronousTestCase):
    """Doing something again and again until it succeeds."""

    def setUp(self) -> None:
        """Something that fails until it is told not to."""
        self.clock = clock()
        self.times: list[float] = []
        self.result: bool | Exception = False
        self.gate: Deferred[None] | None = None
        self.persistent = Persistent(self.clock, Random(1), HOUR, self.attempt)
        self.addCleanup(self.persistent.stopService)

    async def attempt(self) -> bool:
        """Note when."""
        self.times.append(self.clock.seconds())
        if self.gate is not None:
            await self.gate
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def waits(self) -> list[float]:
        """Seconds between the attempts."""
        return [b - a for a, b in zip(self.times, self.times[1:], strict=False)]

    def test_success_waits_for_the_interval(self) -> None:
        """One attempt an interval."""
        self.result = True
        self.persistent.startService()
        self.clock.pump([60.0] * 150)
        self.assertEqual(self.waits(), [HOUR, HOUR])

    def test_failure_backs_off(self) -> None:
        """Soon at first, then ever later, and not later than the interval (with its jitter)."""
        self.persistent.startService()
        self.clock.pump([0.25] * 4 * 20000)
        waits = self.waits()
        self.assertLess(waits[0], 1.5)
        self.assertGreater(len(waits), 10)
        for before, after in zip(waits[:8], waits[1:9], strict=True):
            self.assertLess(after, 2 * before * 3 + 0.5)
        self.assertLessEqual(max(waits), HOUR * 1.5 + 0.25)
        self.assertGreater(max(waits), HOUR * 0.5)

    def test_jitter(self) -> None:
        """Two of them do not keep step."""
        self.persistent.startService()
        other = Persistent(self.clock, Random(2), HOUR, self.attempt)
        other.startService()
        self.clock.pump([0.01] * 300)
        self.assertGreater(len(self.times), 2)
        self.assertEqual(len(set(self.times[2:])), len(self.times[2:]))
        other.stopService()

    def test_a_bug_is_logged_and_survived(self) -> None:
        """An unexpected error is a failed attempt."""
        self.result = ZeroDivisionError()
        self.persistent.startService()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.result = True
        self.clock.pump([0.1] * 20)
        self.assertEqual(len(self.times), 2)

    def test_hurry(self) -> None:
        """Between two intervals, in a pause, and during an attempt: each time one more, at once."""
        self.result = True
        self.persistent.startService()
        self.persistent.hurry()
        self.assertEqual(len(self.times), 2)
        self.result = False
        self.persistent.hurry()
        self.assertEqual(len(self.times), 3)
        self.persistent.hurry()
        self.assertEqual(len(self.times), 4)
        self.gate = Deferred()
        self.persistent.hurry()
        self.persistent.hurry()
        self.assertEqual(len(self.times), 5)
        gate, self.gate = self.gate, None
        self.result = True
        gate.callback(None)
        self.assertEqual(len(self.times), 6)

    def test_retry(self) -> None:
        """Only what failed is tried again."""
        self.persistent.startService()
        self.result = True
        self.persistent.retry()
        self.assertEqual(len(self.times), 2)
        self.persistent.retry()
        self.assertEqual(len(self.times), 2)

    def test_stop(self) -> None:
        """In a pause and during an attempt: no call is left, no attempt follows."""
        self.persistent.startService()
        self.persistent.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.gate = Deferred()
        self.persistent.startService()
        self.assertEqual(len(self.times), 2)
        self.persistent.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.persistent.hurry()
        self.clock.pump([HOUR] * 3)
        self.assertEqual(len(self.times), 2)


class PeerRefreshTests(SynchronousTestCase):
    """Asking for peers and declaring ourselves."""

    def setUp(self) -> None:
        """A node that wants two peers."""
        self.clock = clock()
        self.store = PeerStore.create(Path(self.mktemp()), NETWORK)
        self.addCleanup(self.store.close)
        self.registry = FakeRegistry()
        self.endpoints: tuple[Endpoint, ...] | None = None
        self.news = 0
        self.peers = PeerRefresh(
            self.clock,
            Random(1),
            self.registry,
            self.store,
            node(5),
            interval=HOUR,
            wanted=2,
            endpoints=lambda: self.endpoints,
            on_peers=self.told,
        )
        self.addCleanup(self.peers.stopService)

    def told(self) -> None:
        """Count it."""
        self.news += 1

    def known(self) -> set[object]:
        """Whom we know."""
        return {peer.prefix for peer in self.store.candidates(float("inf"))}

    def asked(self) -> int:
        """How often we asked for peers."""
        return self.registry.calls.count("peers")

    def test_fetches_at_once(self) -> None:
        """Peers are stored, without ourselves, and told of; then there is peace for an hour."""
        self.registry.known = [(node(n), (endpoint(n),)) for n in (1, 2, 5)]
        self.peers.startService()
        self.assertEqual(self.known(), {node(1), node(2)})
        self.assertEqual(self.news, 1)
        self.clock.pump([1.0] * 3599)
        self.assertEqual(self.asked(), 1)
        self.clock.pump([1.0] * 10)
        self.assertEqual(self.asked(), 2)

    def test_a_young_network(self) -> None:
        """Nobody, or fewer than we want: the question is asked again soon, then more rarely."""
        self.peers.startService()
        self.assertEqual(self.known(), set())
        self.clock.pump([0.1] * 20)
        self.assertGreater(self.asked(), 1)
        self.registry.known = [(node(1), (endpoint(1),))]
        self.clock.pump([0.1] * 100)
        self.assertEqual(self.known(), {node(1)})
        self.registry.known.append((node(2), (endpoint(2),)))
        self.clock.pump([0.1] * 400)
        self.assertEqual(self.known(), {node(1), node(2)})
        before = self.asked()
        self.clock.pump([0.1] * 1000)
        self.assertEqual(self.asked(), before)

    def test_registry_down(self) -> None:
        """It is asked again with backoff, and as soon as it answers."""
        self.registry.reachable = False
        self.peers.startService()
        self.clock.pump([1.0] * 1000)
        self.assertLess(self.asked(), 20)
        self.registry.reachable = True
        self.registry.known = [(node(n), (endpoint(n),)) for n in (1, 2)]
        self.peers.connected()
        self.assertEqual(self.known(), {node(1), node(2)})

    def test_unwritable(self) -> None:
        """What cannot be remembered is asked for again; one line says so each time."""
        self.registry.known = [(node(n), (endpoint(n),)) for n in (1, 2)]
        self.store._db.execute("PRAGMA query_only = 1")
        with capturedLogs() as events:
            self.peers.startService()
            self.assertEqual((self.asked(), self.known(), self.news), (1, set(), 0))
        [said] = [formatEvent(event) for event in events if event["log_level"] == LogLevel.warn]
        self.assertIn("cannot be remembered: attempt to write a readonly database", said)
        self.store._db.execute("PRAGMA query_only = 0")
        self.clock.pump([0.1] * 20)
        self.assertEqual(self.known(), {node(1), node(2)})

    def test_declares_what_is_known(self) -> None:
        """Not before that is known; again when it changes, and after some hours."""
        self.peers.startService()
        self.assertNotIn("declare", str(self.registry.calls))
        self.endpoints = (endpoint(5),)
        self.peers.endpoints_changed()
        declared = ("declare", endpoint(5))
        self.assertEqual(self.registry.calls.count(declared), 1)
        self.peers.endpoints_changed()
        self.assertEqual(self.registry.calls.count(declared), 1)
        self.endpoints = (endpoint(6),)
        self.peers.endpoints_changed()
        self.assertEqual(self.registry.calls.count(("declare", endpoint(6))), 1)
        self.clock.pump([60.0] * 70)
        self.assertEqual(self.registry.calls.count(("declare", endpoint(6))), 2)

    def test_declares_often_enough_for_the_registry(self) -> None:
        """Even where peers are fetched once a week: the registry forgets after a day."""
        peers = PeerRefresh(
            self.clock,
            Random(1),
            self.registry,
            self.store,
            node(5),
            interval=7 * 24 * HOUR,
            wanted=0,
            endpoints=lambda: (endpoint(5),),
            on_peers=self.told,
        )
        self.addCleanup(peers.stopService)
        peers.startService()
        self.clock.pump([600.0] * int(24 * HOUR / 600))
        self.assertGreaterEqual(self.registry.calls.count(("declare", endpoint(5))), 24 * HOUR / REDECLARE)

    def test_declaring_survives_the_registrys_absence(self) -> None:
        """What could not be declared is declared when it answers again."""
        self.registry.reachable = False
        self.endpoints = (endpoint(5),)
        self.peers.startService()
        self.clock.pump([1.0] * 100)
        self.registry.reachable = True
        self.registry.calls.clear()
        self.peers.connected()
        self.assertIn(("declare", endpoint(5)), self.registry.calls)

    def test_isolated(self) -> None:
        """With nobody reached it asks before its time, and not at every decision."""
        self.registry.known = [(node(n), (endpoint(n),)) for n in (1, 2)]
        self.peers.startService()
        self.peers.isolated()
        self.assertEqual(self.asked(), 1)
        self.clock.advance(ISOLATED_FETCH + 1)
        for _ in range(5):
            self.peers.isolated()
        self.assertEqual(self.asked(), 2)

    def test_stop(self) -> None:
        """No call stays scheduled."""
        self.peers.startService()
        self.peers.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])
