"""Ending: the mappings go, whatever the gateway does, and in time."""

from twisted.internet.defer import Deferred

from tests.unit.node.portmap.case import SOMEBODY, MapperTest
from vifibnet.node.portmap.gateway import IGateway
from vifibnet.node.portmap.mapper import (
    CLOSE_TIMEOUT,
    LEASE,
)


class CloseTests(MapperTest):
    """Going."""

    def test_removed(self) -> None:
        """The mappings are gone, nothing is left to do, and nothing is mapped any more."""
        self.mapped()
        self.mapped(1194, "tcp-server")
        self.router.table["udp", 1195] = SOMEBODY
        self.successResultOf(self.close())
        self.assertEqual(self.router.table, {("udp", 1195): SOMEBODY})
        self.assertEqual(self.mapper.endpoints, ())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertIsNone(self.mapped(1195))
        self.successResultOf(self.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.changes, [])

    def test_never_used(self) -> None:
        """There may have been nothing."""
        self.successResultOf(self.close())

    def test_refused(self) -> None:
        """A gateway that refuses or is gone does not keep us, and the other mapping is tried too."""
        self.mapped()
        self.mapped(1194, "tcp-server")
        assert self.gateway is not None
        self.gateway.before = self.trouble
        self.successResultOf(self.close())
        self.assertEqual([call for call in self.gateway.calls if "remove" in call], ["remove 1194"] * 2)

    def test_hung(self) -> None:
        """A gateway that hangs costs the deadline."""
        self.mapped()
        assert self.gateway is not None
        self.gateway.before = Deferred
        closing = self.close()
        self.clock.advance(CLOSE_TIMEOUT - 0.1)
        self.assertNoResult(closing)
        self.clock.advance(0.2)
        self.successResultOf(closing)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_searching(self) -> None:
        """A search under way ends at once, and whoever waits for it has an answer."""

        async def for_ever() -> IGateway | None:
            await Deferred()
            return None

        self.patch(self.mapper, "_find", for_ever)
        mapping = self.map()
        second = self.map(1195)
        self.assertNoResult(mapping)
        self.successResultOf(self.close())
        self.assertIsNone(self.successResultOf(mapping))
        self.assertIsNone(self.successResultOf(second))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_mapping(self) -> None:
        """A mapping on its way is waited for, and then removed."""
        assert self.gateway is not None
        waiting: Deferred[None] = Deferred()
        self.gateway.before = lambda: waiting
        mapping = self.map()
        closing = self.close()
        self.assertNoResult(closing)
        self.gateway.before = lambda: None
        waiting.callback(None)
        self.successResultOf(closing)
        self.assertIsNone(self.successResultOf(mapping))
        self.assertEqual(self.router.table, {})
        self.assertIn("remove 1194", self.gateway.calls)

    def test_mapping_hung(self) -> None:
        """But not for longer than the deadline."""
        assert self.gateway is not None
        self.gateway.before = Deferred
        mapping = self.map()
        closing = self.close()
        self.clock.advance(CLOSE_TIMEOUT)
        self.successResultOf(closing)
        self.assertIsNone(self.successResultOf(mapping))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_renewal_hung(self) -> None:
        """The same during a renewal."""
        self.mapped()
        assert self.gateway is not None
        self.gateway.before = Deferred
        self.advance(LEASE / 2)
        closing = self.close()
        self.clock.advance(CLOSE_TIMEOUT)
        self.successResultOf(closing)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.changes, [])
