"""Parameters that are good each by itself."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.advice import contradiction, warnings
from vifibnet.model.parameters import PARAMETERS, Values


class ContradictionTests(SynchronousTestCase):
    """What does not go together."""

    def test_update_interval(self) -> None:
        """Is not below the hello interval, also where that is the default."""
        self.assertIsNone(contradiction({}))
        self.assertIsNone(contradiction({"hello": 2.0, "update-interval": 2.0}))
        self.assertIsNone(contradiction({"update-interval": 15.0}))
        found = contradiction({"update-interval": 14.0})
        assert found is not None
        self.assertEqual(found[0], "update-interval")
        self.assertIn("hello=15, the default", found[1])
        found = contradiction({"hello": 2.5, "update-interval": 2.0})
        assert found is not None
        self.assertIn("(hello=2.5)", found[1])


class WarningTests(SynchronousTestCase):
    """What the operator should know."""

    def test_warn(self) -> None:
        """Only of what was changed, and only where there is something to say."""
        dear: Values = {
            "hello": 0.1, "update-interval": 0.5, "mtu": 1500, "connection-count": 0, "babel-key": bytes(32)
        }  # fmt: skip
        self.assertEqual(len(warnings(dear, PARAMETERS)), 4)
        self.assertEqual(warnings(dear, ["roll"]), [])
        [found] = warnings(dear, ["hello"])
        self.assertIn("below 0.2 s", found)
        [found] = warnings({"hello": 300.0}, ["hello"])
        self.assertIn("three hellos", found)
        [found] = warnings({}, PARAMETERS)
        self.assertIn("Without a key", found)
