"""The registry killed at random moments while many join (bench.crash, smaller)."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.trial.unittest import TestCase

from bench.crash import Crash
from tests.directories import short_directory

reactor: Any = _reactor


class CrashTests(TestCase):
    """Whatever was signed is in the database, and whoever asks gets it."""

    timeout = 120

    async def test_kill(self) -> None:
        """200 enrolments by 20 clients at once, and SIGKILL six times."""
        directory = short_directory(self)
        outcome = await Crash(reactor, directory, random.Random()).run(200, 6)
        self.assertTrue(outcome.good, outcome)
        # Otherwise nobody was disturbed.
        self.assertGreater(outcome.asked_again, 0)
        self.assertNotIn("Traceback", (directory / "log").read_text())
