"""The warnings before the authority's end, on a clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.registry.expiry import DAY, WARN_DAYS, AuthorityWatch

NOW = 1_800_000_000.0


class AuthorityWatchTests(SynchronousTestCase):
    """From early on to after the end."""

    def test_warnings(self) -> None:
        """None for long, then one a day, and another word when it is too late."""
        clock = Clock()
        clock.advance(NOW)
        events: list[LogEvent] = []

        def observe(event: LogEvent) -> None:
            if event.get("log_namespace", "").startswith("vifibnet.registry.expiry"):
                events.append(event)

        observer: Any = observe
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        end = datetime.fromtimestamp(NOW + 200.5 * DAY, UTC)
        watch = AuthorityWatch(clock, lambda: end)
        watch.startService()
        clock.pump([DAY] * 110)
        self.assertEqual(events, [])
        clock.advance(DAY)
        self.assertRegex(formatEvent(events[0]), rf"expires on 2027-\d\d-\d\d, in {WARN_DAYS - 1} days")
        clock.pump([DAY] * 89)
        self.assertEqual(len(events), 90)
        self.assertEqual({event["log_level"] for event in events}, {LogLevel.warn})
        clock.advance(DAY)
        self.assertEqual(events[-1]["log_level"], LogLevel.critical)
        self.assertIn("expired on", formatEvent(events[-1]))
        watch.stopService()
        self.assertEqual(clock.getDelayedCalls(), [])
