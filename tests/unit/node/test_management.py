"""Reaching an openvpn that may not listen yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.error import ConnectionLost, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.node.management import FIRST_WAIT, LAST_WAIT, ManagementLink


class ManagementLinkTests(SynchronousTestCase):
    """Tries, and what ends them."""

    def setUp(self) -> None:
        """A file is left by somebody who is not there any more."""
        self.reactor = MemoryReactorClock()
        self.path = Path(self.mktemp())
        self.path.touch()
        self.link = ManagementLink(self.reactor, self.path, ["state on"], lambda event: None)
        self.link.open()

    @property
    def tries(self) -> int:
        """How many there were."""
        return len(self.reactor.unixClients)

    def end(self, reason: Exception) -> None:
        """The last one comes to this end."""
        factory: Any = self.reactor.unixClients[-1][1]
        how = factory.clientConnectionLost
        if isinstance(reason, ConnectionRefusedError):
            how = factory.clientConnectionFailed
        how(self.reactor.connectors[-1], Failure(reason))

    def connect(self) -> StringTransport:
        """It succeeds."""
        transport = StringTransport()
        self.reactor.unixClients[-1][1].buildProtocol(None).makeConnection(transport)
        return transport

    def test_not_yet(self) -> None:
        """It is tried again, soon at first, until somebody listens, who is told what we want to know."""
        self.assertFalse(self.path.exists())
        self.assertEqual(self.reactor.unixClients[0][0], str(self.path))
        for number in range(1, 9):
            self.assertEqual(self.tries, number)
            self.end(ConnectionRefusedError())
            self.reactor.advance(min(LAST_WAIT, FIRST_WAIT * 2 ** (number - 1)))
        self.link.send("status 3")
        transport = self.connect()
        self.link.send("status 3")
        self.assertEqual(transport.value(), b"state on\nstatus 3\n")

    def test_hangs_up(self) -> None:
        """It is called again."""
        self.connect()
        self.end(ConnectionLost())
        self.link.send("status 3")
        self.reactor.advance(FIRST_WAIT)
        self.assertEqual(self.tries, 2)
        self.assertEqual(self.connect().value(), b"state on\n")

    def test_close(self) -> None:
        """No more tries, whatever there was; nor does an earlier one count that ends late."""
        self.end(ConnectionRefusedError())
        self.link.close()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.link.open()
        transport = self.connect()
        self.link.close()
        self.assertTrue(transport.disconnecting)
        self.end(ConnectionLost())
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.link.open()
        self.link.close()
        self.assertTrue(self.reactor.connectors[-1].stoppedConnecting)
