"""The node's peer database, as far as nodes tell each other of their peers."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.addresses import Network, Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.news import Believed
from vifibnet.store.database import open_database
from vifibnet.store.peers import APPLICATION_ID, MAX_PEERS, REGISTRY_AGE, KnownPeer, PeerStore

NETWORK = Network.parse("2001:db8:42::/48")
HERE = (Endpoint("192.0.2.1", 1194, "udp"),)
THERE = (Endpoint("192.0.2.2", 1194, "udp"),)
NOW = 1e9


def node(number: int) -> Prefix:
    """A prefix."""
    return Prefix(number, 16)


class HearTests(SynchronousTestCase):
    """What is kept of what peers say."""

    def setUp(self) -> None:
        """An empty one."""
        self.store = PeerStore(open_database(":memory:", "peers", application_id=APPLICATION_ID))
        self.addCleanup(self.store.close)

    def test_new_and_moved(self) -> None:
        """Who is new or somewhere else may be tried at once; who is where he was is only better known."""
        self.assertTrue(self.store.hear([Believed(node(1), HERE, NOW - 60)]))
        self.assertEqual(self.store.get(node(1)), KnownPeer(node(1), HERE, NOW - 60, 0, 0, None, NOW - 60))
        self.store.failed(node(1), NOW + 100)
        self.assertFalse(self.store.hear([Believed(node(1), HERE, NOW - 30)]))
        known = KnownPeer(node(1), HERE, NOW - 30, 1, NOW + 100, None, NOW - 30)
        self.assertEqual(self.store.get(node(1)), known)
        self.assertTrue(self.store.hear([Believed(node(1), THERE, NOW - 20)]))
        self.assertEqual(self.store.get(node(1)), KnownPeer(node(1), THERE, NOW - 20, 0, 0, None, NOW - 20))

    def test_registry(self) -> None:
        """What only the registry says may be some hours old; what it says again is as old as it was."""
        self.store.update([(node(1), HERE)], NOW)
        known = self.store.get(node(1))
        assert known is not None
        self.assertEqual((known.told, known.known_good), (None, NOW - REGISTRY_AGE))
        self.store.hear([Believed(node(1), HERE, NOW + 5)])
        self.store.update([(node(1), HERE)], NOW + 9)
        known = self.store.get(node(1))
        assert known is not None
        self.assertEqual((known.last_seen, known.known_good), (NOW + 9, NOW + 5))
        self.store.update([(node(1), THERE)], NOW + 10)
        known = self.store.get(node(1))
        assert known is not None
        self.assertEqual((known.endpoints, known.told), (THERE, None))

    def test_tunnel(self) -> None:
        """That a tunnel came up is as good as being told."""
        self.store.update([(node(1), HERE)], NOW)
        self.store.succeeded(node(1), NOW + 3)
        known = self.store.get(node(1))
        assert known is not None
        self.assertEqual(known.known_good, NOW + 3)

    @settings(max_examples=30, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 1500), st.sampled_from([HERE, THERE]), st.floats(0, NOW))))
    def test_nobody_is_forgotten(self, said: list[tuple[int, tuple[Endpoint, ...], float]]) -> None:
        """Whatever is heard, who was known is known, as long as there is room; and there is an end."""
        before = {each for group in self.store.prefixes() for each in group}
        self.store.hear([Believed(node(number), where, when) for number, where, when in said])
        after = {each for group in self.store.prefixes() for each in group}
        self.assertLessEqual(len(after), MAX_PEERS)
        if len(after) < MAX_PEERS:
            self.assertLessEqual(before, after)

    def test_prefixes(self) -> None:
        """Those that failed are told apart."""
        self.store.update([(node(n), HERE) for n in range(3)], NOW)
        self.store.failed(node(1), NOW)
        well, failed = self.store.prefixes()
        self.assertEqual((sorted(well), failed), ([node(0), node(2)], [node(1)]))


class UpgradeTests(SynchronousTestCase):
    """A database of the first version."""

    def test_upgrade(self) -> None:
        """Its peers are kept, and a copy of it as it was."""
        path = Path(self.mktemp())
        old = Path(__file__).parent / "schema" / "1"
        with closing(open_database(path, "peers", application_id=APPLICATION_ID, schema=old)) as db:
            db.execute("INSERT INTO network VALUES (1, ?)", (f"{NETWORK.serial:#x}",))
            row = (node(1).bits, "192.0.2.1,1194,udp", NOW, 2, NOW + 5, NOW - 5)
            db.execute("INSERT INTO peer VALUES (?, ?, ?, ?, ?, ?)", row)
        with closing(PeerStore.open(path, NETWORK)) as store:
            known = KnownPeer(node(1), HERE, NOW, 2, NOW + 5, NOW - 5, None)
            self.assertEqual(store.get(node(1)), known)
            self.assertTrue(store.hear([Believed(node(1), THERE, NOW + 1)]))
        self.assertTrue(path.with_name(f"{path.name}.version-1").exists())
        with closing(PeerStore.open(path, NETWORK)) as store:
            self.assertEqual(len(store), 1)
