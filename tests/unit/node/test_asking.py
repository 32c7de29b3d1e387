"""Who calls whom when, and what comes of it: with calls in memory and a clock that the test moves."""

from __future__ import annotations

from pathlib import Path
from random import Random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fake_caller import FakeCaller
from tests.unit.node.fakes import NETWORK, clock, endpoint, node
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.visits import FIRST_DOUBT, SOON, TELL_AGAIN, Visit
from vifibnet.node.asking import LINES, Asking
from vifibnet.node.knowledge import Knowledge
from vifibnet.store.peers import PeerStore
from vifibnet.wire.peertalk import MAX_COUNT

HOUR = 3600.0
OWN = node(5)


class AskingTests(SynchronousTestCase):
    """A node, 5/16, and others which it may call."""

    def setUp(self) -> None:
        """The registry answers, no tunnel is missing, nobody is there yet."""
        self.clock = clock()
        self.here: tuple[Endpoint, ...] | None = (endpoint(5),)
        self.neighbours: frozenset[Prefix] = frozenset()
        self.registry, self.missing = True, False
        self.news: list[float] = []
        self.store, knowledge = self.make(5)
        self.others: dict[int, tuple[PeerStore, Knowledge]] = {}
        self.caller = FakeCaller(OWN)
        self.asking = Asking(
            self.clock,
            Random(1),
            self.caller,
            knowledge,
            lambda: self.neighbours,
            lambda: self.registry,
            lambda: self.missing,
            HOUR,
        )
        self.asking.startService()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        """Nothing is left."""
        if self.asking.running:
            self.asking.stopService()
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def make(self, number: int) -> tuple[PeerStore, Knowledge]:
        """A node's knowledge."""
        store = PeerStore.create(Path(self.mktemp()), NETWORK)
        self.addCleanup(store.close)
        here = (lambda: self.here) if number == 5 else (lambda: (endpoint(number),))
        hear = (lambda: self.news.append(self.clock.seconds())) if number == 5 else (lambda: None)
        return store, Knowledge(
            self.clock, Random(number), store, node(number), here, frozenset, frozenset, hear
        )

    def exist(self, *numbers: int, knows: tuple[int, ...] = ()) -> None:
        """These nodes answer when they are called, and know where others are."""
        for number in numbers:
            self.others[number] = self.make(number)
            self.caller.peers[node(number)] = self.others[number][1]
            known = [(node(n), (endpoint(n),)) for n in knows]
            self.others[number][0].update(known, self.clock.seconds())
            for n in knows:
                self.others[number][0].succeeded(node(n), self.clock.seconds())

    def come(self, *numbers: int) -> None:
        """There is a tunnel with these."""
        self.neighbours |= {node(n) for n in numbers}
        self.asking.look()

    def run_for(self, seconds: float, step: float = 0.25) -> list[Visit]:
        """Let time pass; the calls that were made."""
        before = len(self.caller.calls)
        self.clock.pump([step] * int(seconds / step))
        return self.caller.calls[before:]

    def where(self, number: int) -> tuple[Endpoint, ...] | None:
        """Where we think that node is."""
        known = self.store.get(node(number))
        return None if known is None else known.endpoints

    # -- telling --------------------------------------------------------------------------------------------

    def test_first_hand(self) -> None:
        """Who has come is told within a moment where we are, and says where he is; he is asked nothing."""
        self.exist(1)
        self.come(1)
        self.assertEqual(self.run_for(SOON), [Visit(node(1))])
        self.assertEqual(self.caller.told, [(node(1), (endpoint(5),))])
        self.assertEqual(self.where(1), (endpoint(1),))
        told = self.others[1][0].get(OWN)
        assert told is not None
        self.assertEqual(told.endpoints, (endpoint(5),))

    def test_told_again(self) -> None:
        """Now and then, not all at the same time."""
        self.exist(*range(10, 20))
        self.come(*range(10, 20))
        self.assertEqual(len(self.run_for(2 * SOON)), 10)
        self.assertEqual(self.run_for(0.7 * TELL_AGAIN), [])
        some = len(self.run_for(0.3 * TELL_AGAIN))
        self.assertTrue(0 < some < 10, some)
        self.assertEqual(some + len(self.run_for(0.3 * TELL_AGAIN)), 10)

    def test_moved(self) -> None:
        """All are told at once where we are now, with the registry gone as well."""
        self.registry = False
        self.exist(1, 2, 3)
        self.come(1, 2, 3)
        self.run_for(60)
        self.caller.told.clear()
        self.here = (endpoint(99),)
        self.asking.look()
        self.run_for(2 * SOON)
        self.assertEqual(sorted(self.caller.told), [(node(n), (endpoint(99),)) for n in (1, 2, 3)])

    def test_moved_meanwhile(self) -> None:
        """Who was being told of an old place is told of the new one at once."""
        self.exist(1)
        gate: Deferred[None] = Deferred()
        self.caller.gate = gate
        self.come(1)
        self.run_for(SOON)
        self.here = (endpoint(99),)
        self.asking.look()
        self.caller.gate = None
        gate.callback(None)
        self.run_for(SOON)
        self.assertEqual([place for _, (place,) in self.caller.told], [endpoint(5), endpoint(99)])

    def test_called_first(self) -> None:
        """Who has called us is not called on top of it."""
        self.exist(1)
        self.come(1)
        self.asking.met(node(1))
        self.asking.met(node(2))
        self.assertEqual(self.run_for(10), [])

    def test_no_route_yet(self) -> None:
        """Who does not answer is called again, ever later; who is gone is not."""
        self.come(1)
        self.assertIn(len(self.run_for(10)), (3, 4, 5))
        self.assertIn(len(self.run_for(HOUR)), range(8, 18))
        self.exist(1)
        self.assertEqual(len(self.run_for(1200)), 2)
        self.neighbours = frozenset()
        self.assertEqual(len(self.run_for(2 * TELL_AGAIN)), 0)

    def test_lines(self) -> None:
        """So many calls at once, and no more; the others come next."""
        self.exist(*range(10, 30))
        gate: Deferred[None] = Deferred()
        self.caller.gate = gate
        self.come(*range(10, 30))
        self.run_for(10)
        self.assertEqual(len(self.caller.calls), LINES)
        self.caller.gate = None
        gate.callback(None)
        self.run_for(1)
        self.assertEqual(len(self.caller.calls), 20)

    # -- asking ---------------------------------------------------------------------------------------------

    def test_registry_gone(self) -> None:
        """As long as it answers nobody else is asked for peers; then some are, and what they say is
        believed."""
        self.exist(1, 2, 3, 4, knows=(20, 21))
        self.come(1, 2, 3, 4)
        self.assertEqual([visit.count for visit in self.run_for(2 * HOUR, 5.0) if visit.count], [])
        self.registry = False
        visits = self.run_for(60)
        self.assertEqual([visit.count for visit in visits], [MAX_COUNT] * 3)
        self.assertEqual((self.where(20), self.where(21)), ((endpoint(20),), (endpoint(21),)))
        self.assertTrue(self.news)

    def test_lonely(self) -> None:
        """Without the registry whoever comes is asked at once, while tunnels are missing."""
        self.registry, self.missing = False, True
        self.run_for(HOUR, 60.0)
        self.exist(1, knows=(20,))
        self.come(1)
        self.run_for(2 * SOON)
        self.assertEqual(self.caller.calls, [Visit(node(1), MAX_COUNT)])
        self.assertEqual(self.where(20), (endpoint(20),))
        self.exist(2, knows=(21,))
        self.come(2)
        self.run_for(10)
        self.assertEqual(self.where(21), (endpoint(21),))

    def test_fruitless(self) -> None:
        """Those who know nothing new are asked ever more seldom, as long as tunnels are missing as well."""
        self.registry, self.missing = False, True
        self.exist(1)
        self.come(1)
        asked = [
            sum(visit.count > 0 for visit in self.run_for(seconds)) for seconds in (60, 600, HOUR, 4 * HOUR)
        ]
        self.assertTrue(asked[0] >= 3 and asked[1] <= 6 and asked[2] <= 4 and asked[3] <= 6, asked)

    def test_doubt(self) -> None:
        """A peer that failed is asked for at once, also while the registry answers; and again, but seldom."""
        self.store.update([(node(20), (endpoint(99),))], self.clock.seconds() - HOUR)
        self.exist(1, 2, 3, 4)
        self.come(1, 2, 3, 4)
        self.run_for(60)
        self.caller.calls.clear()
        self.asking.failed(node(20))
        self.assertEqual([visit.wanted for visit in self.caller.calls], [(node(20),)] * 3)
        self.asking.failed(node(20))
        self.assertEqual(self.run_for(FIRST_DOUBT / 2), [])
        self.exist(1, 2, 3, 4, knows=(20,))
        self.run_for(FIRST_DOUBT)
        self.asking.failed(node(20))
        self.run_for(1)
        self.assertEqual(self.where(20), (endpoint(20),))

    def test_doubt_waits(self) -> None:
        """Where nobody can be asked, the question waits for the first one who can; nobody is asked for
        himself."""
        self.asking.failed(node(20))
        self.run_for(60)
        self.come(1)
        self.run_for(10)
        self.exist(1, knows=(20,))
        self.run_for(30)
        self.assertEqual(self.where(20), (endpoint(20),))
        self.asking.failed(node(1))
        self.assertEqual(self.run_for(60), [])

    def test_stop(self) -> None:
        """In the middle of a call."""
        self.exist(1)
        self.caller.gate = Deferred()
        self.come(1)
        self.run_for(SOON)
        self.asking.stopService()
        self.come(2)
        self.asking.failed(node(3))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_bug(self) -> None:
        """Is logged, and the calls go on."""
        self.exist(1)
        self.patch(self.caller, "peers", None)
        self.come(1)
        self.run_for(SOON)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
