"""Which of our frames the kernel wakes us for."""

from __future__ import annotations

from ipaddress import IPv6Address

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.namespaces import Namespace
from vifibnet.model.liveness import LEAVING
from vifibnet.node.beatsocket import EVERYBODY, BeatSocket
from vifibnet.node.bell import Bell
from vifibnet.wire.heartbeat import Beat, format_beat

WAIT = 5.0
"""Seconds within which it rings."""

QUIET = 0.1
"""Seconds in which it does not."""

PLAIN = Beat(IPv6Address("fe80::1").packed, 0, 0.3, 0)


class BellTests(TestCase):
    """Two namespaces with a cable between them."""

    def setUp(self) -> None:
        """A socket in one, a bell in the other."""
        one, other = Namespace(), Namespace()
        self.addCleanup(other.destroy)
        self.addCleanup(one.destroy)
        one.connect(other, 0)
        self.rung: Deferred[None] | None = None
        with one.entered():
            self.here = BeatSocket()
        with other.entered():
            self.bell = Bell(reactor, self.ring)
        self.addCleanup(self.here.close)
        self.addCleanup(self.bell.close)

    def ring(self) -> None:
        """It is waited for."""
        rung, self.rung = self.rung, None
        assert rung is not None
        rung.callback(None)

    def send(self, beat: Beat) -> None:
        """Over the cable."""
        self.here.send("eth0", EVERYBODY, format_beat(beat))

    async def rings(self, beat: Beat) -> None:
        """Wait until it rings."""
        self.rung = Deferred()
        self.rung.addTimeout(WAIT, reactor)
        rung = self.rung
        self.bell.listen()
        self.send(beat)
        await rung

    async def test_rings(self) -> None:
        """At what says more than that the sender is well, and at nothing else; once."""
        self.bell.listen()
        for number in range(256):
            self.send(PLAIN._replace(number=number, interval=65.0))
        await deferLater(reactor, QUIET)
        for more in ({"eager": True}, {"busy": True}, {"empty": True}, {"cost": 1}, {"cost": LEAVING}):
            await self.rings(PLAIN._replace(**more))
            self.send(PLAIN._replace(**more))
            await deferLater(reactor, QUIET)

    async def test_ignored(self) -> None:
        """What has come while nobody listened has been read otherwise."""
        for number in range(256):
            self.send(PLAIN._replace(number=number, eager=True))
        self.bell.listen()
        await deferLater(reactor, QUIET)
        self.bell.ignore()
        self.send(PLAIN._replace(eager=True))
        await deferLater(reactor, QUIET)
        await self.rings(PLAIN._replace(eager=True))
