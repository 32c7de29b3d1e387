"""The peer database of a node that runs, when its file cannot be used."""

from __future__ import annotations

import math
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from random import Random

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fakes import NETWORK, clock, config, endpoint, node
from vifibnet.model.news import Believed
from vifibnet.node.parts import Parts
from vifibnet.node.steadystore import SteadyStore
from vifibnet.node.tries import Tries
from vifibnet.store.database import BUSY_TIMEOUT
from vifibnet.store.peers import PeerStore

NOW = 1e9


class SteadyStoreTests(SynchronousTestCase):
    """Another process has the file."""

    def setUp(self) -> None:
        """Two peers are known."""
        self.path = Path(self.mktemp()) / "peers.db"
        self.path.parent.mkdir()
        self.store = SteadyStore.create(self.path, NETWORK)
        self.addCleanup(self.store.close)
        self.store.update([(node(n), (endpoint(n),)) for n in (1, 2)], NOW)
        self.store.candidates(math.inf)
        self.other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(self.other.close)
        self.events = self.enterContext(capturedLogs())

    def waits(self) -> dict[int, tuple[int, float]]:
        """By peer its failures, and when it may be tried."""
        return {it.prefix.value: (it.failures, it.next_try) for it in self.store.candidates(math.inf)}

    def said(self) -> list[str]:
        """The log."""
        return [formatEvent(event) for event in self.events]

    def test_locked(self) -> None:
        """What has failed is remembered without a wait, and written as soon as that is possible."""
        self.other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        self.store.failed(node(1), NOW + 10)
        self.store.failed(node(1), NOW + 30)
        self.store.succeeded(node(2), NOW)
        self.assertFalse(self.store.hear([Believed(node(3), (endpoint(3),), NOW)]))
        self.assertRaises(sqlite3.OperationalError, self.store.update, [], NOW)
        self.assertLess(time.monotonic() - began, BUSY_TIMEOUT / 4)
        self.assertEqual(self.waits(), {1: (2, NOW + 30), 2: (0, 0)})
        self.assertEqual([it.prefix for it in self.store.candidates(NOW)], [node(2)])
        known = self.store.get(node(1))
        assert known is not None
        self.assertEqual((known.failures, known.next_try), (2, NOW + 30))
        self.other.execute("ROLLBACK")
        self.store.failed(node(2), NOW + 20)
        self.assertEqual(self.waits(), {1: (1, NOW + 30), 2: (1, NOW + 20)})
        with closing(PeerStore.open(self.path, NETWORK)) as store:
            self.assertEqual(store.candidates(math.inf), self.store.candidates(math.inf))
        self.assertEqual(
            self.said(),
            [
                "the peer database cannot be written, the node carries on with what it knows: "
                "database is locked",
                "the peer database can be written again",
            ],
        )

    def test_elsewhere_meanwhile(self) -> None:
        """Whoever came up, or is named with other endpoints, does not wait for what failed before."""
        self.other.execute("BEGIN IMMEDIATE")
        self.store.failed(node(1), NOW + 10)
        self.store.failed(node(2), NOW + 10)
        self.store.succeeded(node(1), NOW)
        self.assertEqual(self.waits(), {1: (0, 0), 2: (1, NOW + 10)})
        self.other.execute("ROLLBACK")
        self.store.update([(node(2), (endpoint(7),))], NOW)
        self.assertEqual(self.waits(), {1: (0, 0), 2: (0, 0)})

    def test_unreadable(self) -> None:
        """What was read last still holds, together with what has failed since."""
        self.store.failed(node(2), NOW + 20)
        before = self.store.candidates(math.inf)
        self.other.execute("ALTER TABLE peer RENAME TO gone")
        self.assertEqual(self.store.candidates(math.inf), before)
        self.assertEqual(self.store.candidates(math.inf, 1), before[:1])
        self.assertEqual(self.store.get(node(2)), before[1])
        self.assertIsNone(self.store.get(node(3)))
        self.assertEqual(self.store.prefixes(), ([node(1)], [node(2)]))
        self.assertEqual(len(self.store), 2)
        self.store.failed(node(1), NOW + 40)
        self.assertEqual(self.waits(), {1: (1, NOW + 40), 2: (1, NOW + 20)})
        self.other.execute("ALTER TABLE gone RENAME TO peer")
        self.assertEqual(len(self.store), 2)
        self.assertEqual(len(self.said()), 3)

    def test_tries(self) -> None:
        """Who is tried when is decided as if all were written."""
        tries = Tries(self.store, Random(1))
        self.other.execute("BEGIN IMMEDIATE")
        for failures in (1, 2):
            self.assertEqual(tries.failed(node(1), NOW, stood=False, isolated=False), failures)
            one, two = sorted(tries.peers(NOW), key=lambda peer: peer.prefix)
            self.assertEqual((one.failures, two.failures), (failures, 0))
            self.assertGreater(one.next_try, NOW)
        tries.came_up(node(1), NOW)
        self.assertTrue(all(peer.next_try <= NOW for peer in tries.peers(NOW)))

    def test_of_the_node(self) -> None:
        """It is the one that a node uses."""

        class Me:
            network, prefix = NETWORK, node(5)

        settings = config(self.path.parent)
        parts = Parts(clock(), Random(1), settings, Me())  # type: ignore[arg-type]
        with closing(parts.store()) as store:
            self.other.execute("BEGIN IMMEDIATE")
            store.failed(node(1), NOW)
