"""What the integration tests run once more."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.__main__ import named

SAID = """\
tests.integration.test_node
  LifeTests
    test_killed ...                                                     [FAIL]
===============================================================================
[FAIL]
Traceback (most recent call last):
  File "tests/integration/test_node.py", line 281, in test_killed
twisted.trial.unittest.FailTest: 10 not less than or equal to 5

tests.integration.test_node.LifeTests.test_killed
tests.integration.test_node.LifeTests.test_daemon
===============================================================================
[ERROR]
builtins.AssertionError: tests.integration.test_node.LifeTests.test_other did not end

tests.integration.test_node.LifeTests.test_daemon
-------------------------------------------------------------------------------
Ran 72 tests in 746.634s
"""


class NamedTests(SynchronousTestCase):
    """Out of trial's words."""

    def test_named(self) -> None:
        """Those that failed, each once, and nothing else."""
        names = [f"tests.integration.test_node.LifeTests.{name}" for name in ("test_killed", "test_daemon")]
        self.assertEqual(named(SAID.splitlines(keepends=True)), names)
        self.assertEqual(named(["Ran 72 tests in 1 s", "PASSED (successes=72)"]), [])
