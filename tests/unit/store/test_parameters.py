"""What the operator set, with its number."""

from __future__ import annotations

import sqlite3

from tests.unit.store.test_registry import StoreTestCase
from vifibnet.store.parameters import Setting
from vifibnet.store.registry import RegistryStore


class ParametersTests(StoreTestCase):
    """A registry's database."""

    def audit(self, store: RegistryStore) -> list[tuple[str, str, str]]:
        """What was noted."""
        return store._db.execute("SELECT what, subject, by FROM audit ORDER BY id").fetchall()

    def test_change(self) -> None:
        """Set, set again, back to the default; the number grows, and no secret is noted."""
        parameters = self.store.parameters
        self.assertEqual((parameters.number(), parameters.settings()), (0, {}))
        first = parameters.change({"hello": "0.5", "babel-key": "00" * 32}, "uid 0")
        self.assertEqual(first, int(self.now))
        self.assertEqual(
            parameters.settings(),
            {"babel-key": Setting("00" * 32, self.now), "hello": Setting("0.5", self.now)},
        )
        second = parameters.change({"hello": "1", "mtu": None}, "uid 1")
        self.assertEqual((second, parameters.number()), (first + 1, first + 1))
        parameters.change({"hello": None, "babel-key": None}, "uid 1")
        self.assertEqual(parameters.settings(), {})
        self.now += 100
        self.assertEqual(parameters.change({"mtu": "1300"}, "uid 0"), int(self.now))
        self.assertEqual(
            self.audit(self.store),
            [
                ("parameter set", "hello=0.5", "uid 0"),
                ("parameter set", "babel-key", "uid 0"),
                ("parameter set", "hello=1", "uid 1"),
                ("parameter set", "mtu=", "uid 1"),
                ("parameter set", "hello=", "uid 1"),
                ("parameter set", "babel-key", "uid 1"),
                ("parameter set", "mtu=1300", "uid 0"),
            ],
        )

    def test_all_or_nothing(self) -> None:
        """When one cannot be written none is."""
        self.db.execute(
            "CREATE TRIGGER no BEFORE INSERT ON parameter WHEN NEW.name = 'mtu'"
            " BEGIN SELECT raise(ABORT, 'no'); END"
        )
        with self.assertRaises(sqlite3.IntegrityError):
            self.store.parameters.change({"hello": "1", "mtu": "1300"}, "uid 0")
        self.assertEqual(
            (self.store.parameters.number(), self.store.parameters.settings(), self.audit(self.store)),
            (0, {}, []),
        )
