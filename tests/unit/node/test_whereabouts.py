"""Where a node can be reached, when that changes while it runs (the rest is in test_service)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fakes import NETWORK, config, endpoint
from vifibnet.model.endpoints import Endpoint
from vifibnet.node.whereabouts import MAP_AFTER, Whereabouts


class FakeMapper:
    """Maps what it is asked to."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.on_change = on_change
        self.endpoints: tuple[Endpoint, ...] = ()
        self.closed = False

    async def map(self, port: int, proto: str) -> Endpoint:
        """To the same port."""
        self.endpoints = (Endpoint("198.51.100.1", port, proto),)
        return self.endpoints[0]

    async def close(self) -> None:
        """Note it."""
        self.closed = True


class WhereaboutsTests(SynchronousTestCase):
    """A node with a gateway."""

    def setUp(self) -> None:
        """Its operator has said where it is."""
        self.clock = Clock()
        self.mappers: list[FakeMapper] = []
        self.changes = 0
        self.given = config(Path("/x"), ip=(endpoint(5),))
        self.where = Whereabouts(
            self.clock,
            self.given,
            NETWORK,
            self.make,  # type: ignore[arg-type]
            lambda: (None, None),
            self.changed,
        )

    def make(self, on_change: Callable[[], None]) -> FakeMapper:
        """A mapper."""
        self.mappers.append(FakeMapper(on_change))
        return self.mappers[-1]

    def changed(self) -> None:
        """Count it."""
        self.changes += 1

    def test_given(self) -> None:
        """No gateway is asked; another word of the operator's counts at once, the same one is no news."""
        self.where.start()
        self.clock.advance(MAP_AFTER)
        self.where.change(replace(self.given, hello=1.0))
        self.assertEqual((self.mappers, self.changes), ([], 0))
        self.where.change(replace(self.given, ip=(endpoint(6),)))
        self.assertEqual((self.where.endpoints(), self.changes), ((endpoint(6),), 1))

    def test_given_no_more(self) -> None:
        """Then a gateway is asked, one only, and what it granted is given back at the end."""
        self.where.start()
        for ip in ((), (endpoint(6),), ()):
            self.where.change(replace(self.given, ip=ip))
        self.assertIsNone(self.where.endpoints())
        self.clock.advance(MAP_AFTER)
        self.assertEqual(self.where.endpoints(), (Endpoint("198.51.100.1", 1194, "udp"),))
        self.where.stop()
        self.assertEqual([each.closed for each in self.mappers], [False])
        # The service waits for this.
        with self.assertRaises(StopIteration):
            self.where.close().send(None)
        self.assertEqual([each.closed for each in self.mappers], [True])

    def test_stop_before(self) -> None:
        """Nothing is asked after the stop, or before the start."""
        self.where.change(replace(self.given, ip=()))
        self.where.start()
        self.where.stop()
        self.where.change(self.given)
        self.where.change(replace(self.given, ip=()))
        self.assertEqual((self.clock.getDelayedCalls(), self.mappers), ([], []))
