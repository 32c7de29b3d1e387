"""No query scans: with 100,000 nodes every call costs about what it costs with few."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.store.signing import KEY, sign
from tests.unit.store.space import check_space
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.store.database import open_database, transaction
from vifibnet.store.peers import APPLICATION_ID as PEERS_ID
from vifibnet.store.peers import MAX_PEERS, PeerStore
from vifibnet.store.registry import APPLICATION_ID, PEER_LIFE, TOKEN_LIFE, RegistryStore

NODES = 100_000
LENGTH = 17
NOW = 1e9
# sqlite_sequence has one row.
GOOD = (
    "SEARCH",
    "SCALAR SUBQUERY",
    "CORRELATED SCALAR SUBQUERY",
    "SCAN sqlite_sequence",
    "SCAN CONSTANT ROW",
)
WHERE = "192.0.2.1,1194,udp"


class Explaining(sqlite3.Connection):
    """A connection that notes the plan of every query that it runs."""

    plans: list[tuple[str, str]]

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        self.explain(sql, parameters)
        return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any]) -> sqlite3.Cursor:
        rows = list(parameters)
        for row in rows[:1]:
            self.explain(sql, row)
        return super().executemany(sql, rows)

    def explain(self, sql: str, parameters: Any) -> None:
        if sql.split()[0] in ("SELECT", "UPDATE", "DELETE", "INSERT"):
            for *_, detail in super().execute(f"EXPLAIN QUERY PLAN {sql}", parameters):
                self.plans.append((sql, detail))


def explaining(path: str) -> Explaining:
    """Open an existing database so."""
    db = sqlite3.connect(path, isolation_level=None, factory=Explaining)
    db.plans = []
    return db


def populate(db: sqlite3.Connection, nodes: int) -> None:
    """Fill a registry's database as if ``nodes`` prefixes of LENGTH bits had been issued and declared."""
    given = [f"{value:0{LENGTH}b}" for value in range(nodes)]
    # What is left above them, in as few pieces as possible.
    free, start = [], nodes
    while start < 1 << LENGTH:
        piece = start & -start
        free.append(f"{start:0{LENGTH}b}"[: LENGTH + 1 - piece.bit_length()])
        start += piece
    with transaction(db):
        db.execute("DELETE FROM prefix")
        db.executemany(
            "INSERT INTO prefix VALUES (?, ?, ?, 1e9, 2e9, NULL, NULL)",
            [(bits, str(1 << 126 | n), f"{n}@example.com") for n, bits in enumerate(given)],
        )
        db.executemany(
            "INSERT INTO certificate VALUES (?, ?, 'certificate', 'CN=', x'00', 1e9, 2e9)",
            [(str(1 << 126 | n), bits) for n, bits in enumerate(given)],
        )
        db.executemany("INSERT INTO prefix (bits) VALUES (?)", [(bits,) for bits in free])
        db.executemany(
            "INSERT INTO peer VALUES (?, ?, ?, ?)", [(n + 1, b, WHERE, NOW) for n, b in enumerate(given)]
        )
        db.executemany(
            "INSERT INTO token VALUES (?, 'mail', ?, NULL, ?, ?, NULL)",
            [(b"%d" % n, f"{n}@example.com", NOW, NOW + TOKEN_LIFE) for n in range(nodes)],
        )


class RegistryQueriesTests(SynchronousTestCase):
    """The registry's store with 100,000 nodes, peers and tokens."""

    def big(self, nodes: int) -> str:
        """A database file of so many nodes."""
        path = self.mktemp()
        db = open_database(path, "registry", application_id=APPLICATION_ID)
        populate(db, nodes)
        db.close()
        return path

    def calls(self, store: RegistryStore, nodes: int) -> dict[str, Callable[[], object]]:
        """Every call of the store, by name."""
        some = Prefix(nodes // 3, LENGTH)
        return {
            "add_token": lambda: store.add_token("a", "a@example.com"),
            "drop_token": lambda: store.drop_token("a"),
            "add_another": lambda: store.add_token("b", "a@example.com"),
            "issue": lambda: store.issue("b", KEY, LENGTH, sign),
            "issue_again": lambda: store.issue("b", KEY, LENGTH, sign),
            "mailed_since": lambda: store.mailed_since("a@example.com", NOW - 1),
            "certificate": lambda: store.certificate(some),
            "node_by_serial": lambda: store.node_by_serial(1 << 126 | nodes // 2),
            "node_of_bits": lambda: store.node_of_bits(some.bits.ljust(80, "0")),
            "standing": lambda: store.certificates.standing(1 << 126 | nodes // 2),
            "revoke": lambda: store.certificates.revoke(1 << 126 | nodes // 5, "", "test"),
            "revoke_node": lambda: store.certificates.revoke_node(Prefix(nodes // 4, LENGTH), "", "test"),
            "revoked": lambda: store.certificates.revoked(0.0),
            "declare": lambda: store.declare(some, WHERE),
            "seen": lambda: store.seen(some),
            "note": lambda: store.note("tried", "a test", "uid 0"),
            "nodes": lambda: store.nodes(some.bits, 100),
            "tokens": lambda: store.tokens(f"{NOW} {b'5'.hex()}", 100),
            "counts": store.counts,
            "undeclare": lambda: store.declare(some, ""),
            "peers": lambda: store.peers(50, [some]),
            "bootstrap": store.bootstrap,
            "release": lambda: store.release(some, "uid 0"),
            "expire": store.expire,
        }

    def test_no_scan(self) -> None:
        """Every query of every call searches an index."""
        path = self.big(NODES)
        db = explaining(path)
        self.addCleanup(db.close)
        check_space(db)
        clock = NOW
        store = RegistryStore(db, lambda: clock, random.Random(1))
        db.plans.clear()
        calls = self.calls(store, NODES)
        public = {name for name in vars(RegistryStore) if not name.startswith("_")} - {
            "open",
            "close",
            "path",
        }
        self.assertLessEqual(public, calls.keys())
        for call in calls.values():
            call()
        clock += PEER_LIFE
        self.assertEqual(store.expire(), 2000)
        self.assertGreater(len(db.plans), 12)
        self.assertEqual([plan for plan in db.plans if not plan[1].startswith(GOOD)], [])
        self.assertTrue(any("prefix_free" in detail for _, detail in db.plans))

    def test_the_plan_notices(self) -> None:
        """The test above would see a scan."""
        path = self.big(10)
        db = explaining(path)
        self.addCleanup(db.close)
        db.execute("DROP INDEX peer_declared")
        RegistryStore(db, lambda: NOW).expire()
        self.assertTrue(any(detail.startswith("SCAN") for _, detail in db.plans))

    def test_cost_does_not_grow(self) -> None:
        """Each call takes as many of SQLite's steps with 100,000 nodes as with 1,000, or hardly more."""
        small, large = self.steps(1000), self.steps(NODES)
        # Whoever counts looks at everything; an operator asks for it, and it is some steps for each.
        self.assertLess(large.pop("counts"), 20 * NODES)
        for name, steps in large.items():
            self.assertLess(steps, 1.3 * small[name] + 60, f"{name}: {small[name]} steps, then {steps}")

    def steps(self, nodes: int) -> dict[str, int]:
        """How many instructions of SQLite's machine each call takes."""
        db = open_database(self.big(nodes), "registry", application_id=APPLICATION_ID)
        self.addCleanup(db.close)
        store = RegistryStore(db, lambda: NOW, random.Random(1))
        steps = dict.fromkeys(self.calls(store, nodes), 0)
        for name, call in self.calls(store, nodes).items():

            def count(name: str = name) -> int:
                steps[name] += 1
                return 0

            db.set_progress_handler(count, 1)
            call()
            db.set_progress_handler(None, 0)
        return steps


class PeersQueriesTests(SynchronousTestCase):
    """The node's store, which is kept small, and does not scan even so."""

    def test_no_scan(self) -> None:
        """Every query of every call searches an index; only counting the 1000 rows counts them."""
        path = self.mktemp()
        open_database(path, "peers", application_id=PEERS_ID).close()
        db = explaining(path)
        self.addCleanup(db.close)
        store = PeerStore(db)
        peers = [(Prefix(n, LENGTH), (Endpoint("192.0.2.1", 1194, "udp"),)) for n in range(MAX_PEERS + 50)]
        store.update(peers, NOW)
        first, *_ = store.candidates(NOW, 20)
        store.update([(first.prefix, ())], NOW)
        store.get(peers[5][0])
        store.succeeded(peers[5][0], NOW)
        store.failed(peers[5][0], NOW + 5)
        self.assertGreater(len(db.plans), 5)
        self.assertEqual([plan for plan in db.plans if plan[1].startswith("SCAN")], [])
        self.assertEqual(len(store), MAX_PEERS - 1)
