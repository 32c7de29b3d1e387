"""After a sleep: the tunnels are looked after, and who has left our servers is forgotten."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fakes import node
from vifibnet.model.addresses import Prefix
from vifibnet.model.silence import ANSWERS, GONE
from vifibnet.node.openvpnserver import Served
from vifibnet.node.waking import Waking


class Tunnels:
    """Counts."""

    wakings = 0

    def woken(self) -> None:
        """Once more."""
        self.wakings += 1


class Server:
    """Has two peers."""

    def __init__(self) -> None:
        self.served = {node(number): Served(number, "192.0.2.1", 1194, 10.0) for number in (1, 2)}

    async def kick(self, prefix: Prefix) -> None:
        """One less."""
        del self.served[prefix]


class WakingTests(SynchronousTestCase):
    """On a clock."""

    def setUp(self) -> None:
        """One of the two peers does not answer."""
        self.clock, self.tunnels, self.server = Clock(), Tunnels(), Server()
        self.clock.advance(15.0)
        self.waking = Waking(self.clock, self.tunnels, {"vifs0": self.server}, self.silent)  # type: ignore[arg-type,dict-item]

    def silent(self, tap: str, peer: Prefix, since: float) -> float | None:
        """Only the first."""
        self.assertEqual((tap, since), ("vifs0", 10.0))
        return 5.0 if peer == node(1) else None

    def test_woken(self) -> None:
        """They have a while to answer."""
        self.waking.woken()
        self.assertEqual((self.tunnels.wakings, len(self.server.served)), (1, 2))
        self.clock.advance(ANSWERS)
        self.assertEqual(list(self.server.served), [node(2)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_woken_late(self) -> None:
        """After a long sleep nobody waits for somebody who is gone for sure."""
        self.clock.advance(GONE)
        self.waking.woken()
        self.assertEqual(list(self.server.served), [node(2)])

    def test_woken_again(self) -> None:
        """The while begins anew; when the node stops, nothing follows."""
        self.waking.woken()
        self.clock.advance(ANSWERS / 2)
        self.waking.woken()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.waking.stop()
        self.clock.advance(ANSWERS)
        self.assertEqual(len(self.server.served), 2)
