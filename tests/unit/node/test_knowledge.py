"""What a node tells others of its peers, and what it believes, on a clock that the test moves."""

from __future__ import annotations

from pathlib import Path
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fakes import NETWORK, clock, endpoint, node
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.news import News
from vifibnet.node.knowledge import Knowledge
from vifibnet.store.peers import REGISTRY_AGE, PeerStore

OWN, ASKER, TELLER = node(5), node(6), node(7)


class KnowledgeTests(SynchronousTestCase):
    """One node."""

    def setUp(self) -> None:
        """It knows where it is, and nothing else."""
        self.clock = clock()
        path = Path(self.mktemp())
        self.store = PeerStore.create(path, NETWORK)
        self.addCleanup(self.store.close)
        self.here: tuple[Endpoint, ...] | None = (endpoint(5),)
        self.connected: frozenset[Prefix] = frozenset()
        self.revoked: frozenset[Prefix] = frozenset()
        self.news = 0
        self.knowledge = Knowledge(
            self.clock,
            Random(1),
            self.store,
            OWN,
            lambda: self.here,
            lambda: self.connected,
            lambda: self.revoked,
            self.told,
        )

    def told(self) -> None:
        """There is something new."""
        self.news += 1

    def learn(self, *numbers: int) -> None:
        """The registry has named these just now."""
        self.store.update([(node(n), (endpoint(n),)) for n in numbers], self.clock.seconds())

    def hear(self, number: int, where: int, age: float = 10.0, teller: Prefix = TELLER) -> bool:
        """Somebody says that a node is at another one's place."""
        return self.knowledge.hear(teller, [News(node(number), (endpoint(where),), age)])

    def where(self, number: int) -> tuple[Endpoint, ...] | None:
        """Where we believe that node to be."""
        known = self.store.get(node(number))
        return None if known is None else known.endpoints

    def test_tells_with_age(self) -> None:
        """Ourselves as of now, what we were told as old as it is, what the registry says as old as it may
        be."""
        self.learn(1)
        self.hear(2, 2, age=100)
        self.clock.advance(50)
        told = {each.peer: each.age for each in self.knowledge.of([OWN, node(1), node(2), node(3)], ASKER)}
        self.assertEqual(told, {OWN: 0, node(1): REGISTRY_AGE + 50, node(2): 150})

    def test_age_adds_up(self) -> None:
        """Over many hops, each with a while between: as old as it was at first and as long as that took."""
        age = 7.0
        for hop in range(5):
            other = PeerStore.create(Path(self.mktemp()), NETWORK)
            self.addCleanup(other.close)
            knowledge = Knowledge(
                self.clock, Random(1), other, node(20 + hop), tuple, frozenset, frozenset, lambda: None
            )
            knowledge.hear(TELLER, [News(node(1), (endpoint(1),), age)])
            self.clock.advance(60)
            ((age,),) = [[each.age for each in knowledge.of([node(1)], ASKER)]]
        self.assertEqual(age, 307)

    def test_not_told(self) -> None:
        """The asker of himself, the revoked, and where we are while that is not known."""
        self.learn(1, 2, 6)
        self.revoked, self.here = frozenset([node(2)]), None
        told = self.knowledge.of([OWN, ASKER, node(1), node(2)], ASKER)
        self.assertEqual([each.peer for each in told], [node(1)])
        self.assertEqual([each.peer for each in self.knowledge.sample(50, ASKER)], [node(1)])

    def test_sample(self) -> None:
        """So many at random, each at most once, and last those that failed."""
        self.learn(*range(10, 40))
        for number in range(10, 30):
            self.store.failed(node(number), self.clock.seconds())
        samples = [[each.peer.value for each in self.knowledge.sample(15, ASKER)] for _ in range(30)]
        for sample in samples:
            self.assertEqual(len(set(sample)), 15)
            self.assertLessEqual(set(range(30, 40)), set(sample))
        self.assertEqual({each for sample in samples for each in sample}, set(range(10, 40)))
        self.assertEqual(len(self.knowledge.sample(50, ASKER)), 30)

    def test_hears(self) -> None:
        """What is new is kept and told on; what is known already is neither."""
        self.assertTrue(self.hear(1, 1))
        self.assertFalse(self.hear(1, 1))
        self.assertFalse(self.hear(1, 2, age=11))
        self.assertTrue(self.hear(1, 2, age=9))
        self.assertEqual((self.where(1), self.news), ((endpoint(2),), 2))

    def test_fresher_knowledge(self) -> None:
        """Neither what the registry said since, nor a tunnel that came up or stands, gives way to hearsay."""
        self.learn(1)
        self.assertFalse(self.hear(1, 2, age=1))
        self.clock.advance(100)
        self.store.succeeded(node(1), self.clock.seconds())
        self.assertFalse(self.hear(1, 2, age=1))
        self.clock.advance(100)
        self.connected = frozenset([node(1)])
        self.assertFalse(self.hear(1, 2, age=1))
        self.assertTrue(self.hear(1, 2, teller=node(1)))
        self.connected = frozenset()
        self.clock.advance(100)
        self.assertTrue(self.hear(1, 3, age=1))

    def test_never_believed(self) -> None:
        """What is said of ourselves or of the revoked; and nothing is taken away."""
        self.revoked = frozenset([node(2)])
        self.learn(1)
        self.assertFalse(self.hear(5, 1))
        self.assertFalse(self.hear(2, 2))
        self.clock.advance(100)
        self.assertFalse(self.knowledge.hear(TELLER, [News(node(1), (), 0.0)]))
        self.assertEqual(self.where(1), (endpoint(1),))

    def test_after_a_month(self) -> None:
        """However old what we know is, and however long ago it was heard: what is a little newer is
        believed."""
        self.learn(1)
        self.clock.advance(31 * 24 * 3600)
        self.assertFalse(self.hear(1, 2, age=31 * 24 * 3600 + 5))
        self.assertTrue(self.hear(1, 2, age=30 * 24 * 3600))
