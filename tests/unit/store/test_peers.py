"""The node's peer database."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.errors import BadInput
from vifibnet.model.addresses import Network, Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.store.database import open_database
from vifibnet.store.peers import APPLICATION_ID, MAX_PEERS, KnownPeer, PeerStore

NETWORK = Network.parse("2001:db8:42::/48")
HERE = (Endpoint("192.0.2.1", 1194, "udp"),)
THERE = (Endpoint("2001:db8::1", 1194, "tcp6-client"), Endpoint("192.0.2.2", 1194, "udp"))
NOW = 1e9


def node(number: int) -> Prefix:
    """A prefix."""
    return Prefix(number, 16)


class PeersTests(SynchronousTestCase):
    """Which peers are kept, and which may be tried."""

    def setUp(self) -> None:
        self.store = PeerStore(open_database(":memory:", "peers", application_id=APPLICATION_ID))
        self.addCleanup(self.store.close)

    def candidates(self, now: float, limit: int = 9) -> list[int]:
        return [peer.prefix.value for peer in self.store.candidates(now, limit)]

    def test_new_peers(self) -> None:
        """A peer that was named is a candidate at once, with all its endpoints in their order."""
        self.store.update([(node(1), THERE)], NOW)
        self.assertEqual(self.store.candidates(NOW), [KnownPeer(node(1), THERE, NOW, 0, 0, None)])
        self.assertEqual(self.store.get(node(1)), self.store.candidates(NOW)[0])
        self.assertIsNone(self.store.get(node(2)))
        self.assertEqual(len(self.store), 1)

    def test_failures(self) -> None:
        """A peer that failed waits; after a success all is forgotten."""
        self.store.update([(node(1), HERE), (node(2), HERE)], NOW)
        self.store.failed(node(1), NOW + 10)
        self.store.failed(node(1), NOW + 30)
        self.assertEqual(self.candidates(NOW + 29), [2])
        self.assertEqual(self.candidates(NOW + 30), [2, 1])
        known = self.store.get(node(1))
        assert known is not None
        self.assertEqual((known.failures, known.next_try), (2, NOW + 30))
        self.store.succeeded(node(1), NOW + 40)
        self.assertEqual(self.store.get(node(1)), KnownPeer(node(1), HERE, NOW, 0, 0, NOW + 40, NOW + 40))

    def test_longest_waiting_first(self) -> None:
        """When only some are wanted they are those whose time came first."""
        self.store.update([(node(n), HERE) for n in range(4)], NOW)
        for n in range(4):
            self.store.failed(node(n), NOW + 10 - n)
        self.assertEqual(self.candidates(NOW + 20, limit=2), [3, 2])

    def test_named_again(self) -> None:
        """Being named again keeps the failures, unless the peer is now somewhere else."""
        self.store.update([(node(1), HERE), (node(2), HERE)], NOW)
        for n in (1, 2):
            self.store.failed(node(n), NOW + 1000)
        self.store.update([(node(1), HERE), (node(2), THERE)], NOW + 5)
        self.assertEqual(self.candidates(NOW + 5), [2])
        one, two = self.store.get(node(1)), self.store.get(node(2))
        assert one is not None
        assert two is not None
        self.assertEqual((one.failures, one.next_try, one.last_seen), (1, NOW + 1000, NOW + 5))
        self.assertEqual((two.failures, two.next_try, two.endpoints), (0, 0, THERE))

    def test_unreachable(self) -> None:
        """A peer without endpoints is forgotten."""
        self.store.update([(node(1), HERE), (node(2), HERE)], NOW)
        self.store.update([(node(1), ()), (node(3), ())], NOW)
        self.assertEqual(self.candidates(NOW), [2])

    def test_unknown(self) -> None:
        """What happens with a peer that was forgotten meanwhile is nobody's concern."""
        self.store.succeeded(node(1), NOW)
        self.store.failed(node(1), NOW)
        self.assertEqual(len(self.store), 0)

    def test_limit(self) -> None:
        """At most 1000 are kept: those that failed go first, then those not named for longest."""
        self.store.update([(node(n), HERE) for n in range(MAX_PEERS)], NOW)
        self.store.update([(node(n), HERE) for n in range(10, MAX_PEERS)], NOW + 1)
        self.store.failed(node(500), NOW)
        self.store.update([(node(MAX_PEERS + n), HERE) for n in range(5)], NOW + 2)
        self.assertEqual(len(self.store), MAX_PEERS)
        kept = {peer.prefix.value for peer in self.store.candidates(NOW + 9)}
        self.assertNotIn(500, kept)
        self.assertEqual(len(kept & set(range(10))), 6)
        self.assertTrue(kept >= set(range(10, MAX_PEERS + 5)) - {500})

    def test_words_of_tomorrow(self) -> None:
        """A row that this version cannot read is no candidate and no error."""
        self.store.update([(node(1), HERE)], NOW)
        self.store._db.execute("INSERT INTO peer VALUES ('1', '192.0.2.1,1194,quic', 1.0, 0, 0, NULL, NULL)")
        self.assertEqual(self.candidates(NOW), [1])
        self.assertIsNone(self.store.get(Prefix(1, 1)))


class FileTests(SynchronousTestCase):
    """peers.db"""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.path = self.directory / "peers.db"

    def test_create_and_open(self) -> None:
        """The file is complete when it appears, ours alone, and leaves nothing beside it when closed."""
        store = PeerStore.create(self.path, NETWORK)
        store.update([(node(1), HERE)], NOW)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        store.close()
        self.assertEqual([p.name for p in self.directory.iterdir()], ["peers.db"])
        for network in (NETWORK, None):
            again = PeerStore.open(self.path, network)
            self.addCleanup(again.close)
            self.assertEqual(len(again), 1)

    def refusal(self, network: Network | None = NETWORK) -> str:
        with self.assertRaises(BadInput) as caught:
            PeerStore.open(self.path, network)
        return str(caught.exception)

    def test_refused(self) -> None:
        """Missing, foreign, half-made and another network's files are refused and left alone."""
        self.assertEqual(
            self.refusal(), f"{self.path}: there is no peer database; make one with vifibnet setup."
        )
        self.path.touch()
        self.assertIn("is not a vifibnet peers database", self.refusal())
        self.path.write_bytes(b"#" * 4096)
        self.assertIn("is not a vifibnet peers database", self.refusal())
        self.path.unlink()
        open_database(self.path, "registry", application_id=0x76664E52).close()
        self.assertIn("is not a vifibnet peers database", self.refusal())
        self.path.unlink()
        PeerStore.create(self.path, Network.parse("2001:db8:43::/48")).close()
        self.assertIn("belongs to another network (serial 0x120010db80043)", self.refusal())

    def test_create_refused(self) -> None:
        """What exists is not overwritten, and where nothing can be written nothing is."""
        self.path.write_bytes(b"mine")
        with self.assertRaises(BadInput) as caught:
            PeerStore.create(self.path, NETWORK)
        self.assertIn("peers.db: exists already", str(caught.exception))
        self.assertEqual(self.path.read_bytes(), b"mine")
        with self.assertRaises(BadInput) as caught:
            PeerStore.create(self.directory / "no" / "peers.db", NETWORK)
        self.assertTrue(str(caught.exception).startswith(f"{self.directory}/no/peers.db: "), caught.exception)
        self.assertEqual([p.name for p in self.directory.iterdir()], ["peers.db"])
