"""The talk of nodes, put together: with calls in memory, and an address that this machine does not have."""

from __future__ import annotations

from pathlib import Path
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fake_caller import FakeCaller
from tests.unit.node.fakes import NETWORK, clock, endpoint, node
from tests.unit.node.peertalk_contract import SEVEN, make_knowledge
from tests.unit.pki.making import authority, identity
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.node.peertalk import Credentials, PeerTalk, Sights
from vifibnet.store.peers import PeerStore

OWN = node(5)


class PeerTalkTests(SynchronousTestCase):
    """5/16, which has a tunnel to 7/16, and is called by 8/16."""

    def setUp(self) -> None:
        """7/16 knows 1/16."""
        self.clock = clock()
        self.store = PeerStore.create(Path(self.mktemp()), NETWORK)
        self.addCleanup(self.store.close)
        theirs, store = make_knowledge(self, SEVEN, self.clock, [endpoint(7)])
        store.update([(node(1), (endpoint(1),))], self.clock.seconds())
        self.caller = FakeCaller(OWN, {SEVEN: theirs})
        self.here: tuple[Endpoint, ...] = (endpoint(5),)
        self.tunnels = frozenset([SEVEN])
        self.revoked: frozenset[Prefix] = frozenset()
        self.news = 0

    def told(self) -> None:
        """There is something new."""
        self.news += 1

    def talk(self, port: int) -> PeerTalk:
        """Start it; stop it at the end."""
        them = Credentials(identity, lambda: [authority().ca], lambda prefix, serial: True)
        sights = Sights(
            endpoints=lambda: self.here,
            tunnels=lambda: self.tunnels,
            others=lambda: frozenset([node(8)]),
            revoked=lambda: self.revoked,
            wanted=lambda: 2,
            registry=lambda: False,
        )
        how = (self.clock, Random(1), NETWORK, OWN, port, 3600.0)
        talk = PeerTalk(*how, self.store, them, sights, self.told, self.caller)
        talk.startService()
        self.addCleanup(talk.stopService)
        return talk

    def test_talks(self) -> None:
        """The other end of a tunnel and whoever is connected to us are called; what they say is kept."""
        talk = self.talk(326)
        self.clock.pump([0.1] * 30)
        self.assertEqual({visit.peer for visit in self.caller.calls}, {SEVEN, node(8)})
        for number in (1, 7):
            self.assertIsNotNone(self.store.get(node(number)))
        self.assertTrue(self.news)
        self.caller.told.clear()
        self.here = (endpoint(99),)
        talk.look()
        talk.failed(node(2))
        self.clock.pump([0.1] * 30)
        self.assertIn((SEVEN, (endpoint(99),)), self.caller.told)
        self.assertIn((node(2),), [visit.wanted for visit in self.caller.calls])

    def test_revoked(self) -> None:
        """Nobody calls whom the others have put out."""
        self.revoked = frozenset([SEVEN])
        self.talk(326)
        self.clock.pump([0.1] * 30)
        self.assertEqual({visit.peer for visit in self.caller.calls}, {node(8)})

    def test_stop(self) -> None:
        """Nothing is left; a stop before the start is none."""
        talk = self.talk(326)
        self.successResultOf(talk.stopService())
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.successResultOf(talk.stopService())

    def test_switched_off(self) -> None:
        """With port 0 nobody is called, and nobody can call."""
        talk = self.talk(0)
        talk.look()
        talk.failed(node(2))
        self.clock.pump([0.1] * 30)
        self.assertEqual((self.caller.calls, self.clock.getDelayedCalls()), ([], []))
