"""One registry database and several processes, some of which die."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.unit.store.signing import KEY, sign
from tests.unit.store.space import check_space, prefixes
from vifibnet.errors import UnknownToken
from vifibnet.model.addresses import Network
from vifibnet.store.registry import RegistryStore

NETWORK = Network.parse("2001:db8:42::/48")


class ProcessesTests(SynchronousTestCase):
    """Everything or nothing, and nothing twice, whoever else is writing and whenever one dies."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).absolute()
        self.store = RegistryStore.open(self.path, NETWORK, time.time)
        self.addCleanup(self.store.close)

    def child(self, *arguments: str) -> subprocess.Popen[str]:
        """Start tests/unit/store/child.py on the database."""
        root = Path(__file__).parents[3]
        started = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.store.child", str(self.path), *arguments],
            cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.addCleanup(started.kill)
        return started

    def test_at_the_same_time(self) -> None:
        """Four processes issue from one file: all succeed, and no prefix and no serial is given twice."""
        plan = {str(length): [f"token {length} {n}" for n in range(25)] for length in (16, 12, 20, 9)}
        for tokens in plan.values():
            for token in tokens:
                self.store.add_token(token, "a@example.com")
        children = [self.child("issue", length, *tokens) for length, tokens in plan.items()]
        issued: list[tuple[str, str]] = []
        for length, child in zip(plan, children, strict=True):
            out, err = child.communicate(timeout=60)
            self.assertEqual((child.returncode, err), (0, ""))
            mine = json.loads(out)
            self.assertEqual({len(bits) for bits, _ in mine}, {int(length)})
            issued += mine
        self.assertEqual(len(issued), 100)
        self.assertEqual(len({bits for bits, _ in issued}), 100)
        self.assertEqual(len({serial for _, serial in issued}), 100)
        check_space(self.store._db)
        self.assertEqual(prefixes(self.store._db, given=True), sorted(bits for bits, _ in issued))

    def test_same_token_at_the_same_time(self) -> None:
        """Of several who come with one token, one is served."""
        self.store.add_token("token", "a@example.com")
        children = [self.child("issue", "16", "token") for _ in range(3)]
        ends = [(child.communicate(timeout=60), child.returncode) for child in children]
        self.assertEqual(sorted(code for _, code in ends), [0, 1, 1])
        self.assertEqual(sum("UnknownToken" in err for (_, err), _ in ends), 2)
        self.assertEqual(len(prefixes(self.store._db, given=True)), 1)

    def test_death_before_the_commit(self) -> None:
        """Killed at any statement, or while signing: the issue has not happened, all is as before."""
        self.store.add_token("earlier", "a@example.com")
        self.store.issue("earlier", KEY, 16, sign)
        self.store.add_token("token", "a@example.com")
        before = list(self.store._db.iterdump())
        statement = 0
        while True:
            child = self.child("die", str(statement), "16", "token")
            _, err = child.communicate(timeout=60)
            if child.returncode == 0:
                break
            self.assertEqual((child.returncode, err), (-signal.SIGKILL, ""), statement)
            self.assertLess(statement, 100)
            if "0000000000000001" in prefixes(self.store._db, given=True):
                break
            self.assertEqual(list(self.store._db.iterdump()), before, statement)
            statement += 1
        # BEGIN, token, search, delete, inserts, serial, update, COMMIT at the very least.
        self.assertGreater(statement, 8)
        check_space(self.store._db)
        self.assertEqual(prefixes(self.store._db, given=True), ["0000000000000000", "0000000000000001"])

    def test_death_after_the_return(self) -> None:
        """What was returned has happened, though nobody closed the file."""
        self.store.add_token("token", "a@example.com")
        child = self.child("die", "returned", "16", "token")
        self.assertEqual(child.wait(60), -signal.SIGKILL)
        child.communicate()
        self.assertEqual(prefixes(self.store._db, given=True), ["0000000000000000"])
        with self.assertRaises(UnknownToken):
            self.store.issue("token", KEY, 16, sign)
