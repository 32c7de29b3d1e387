"""What the tests of the mapper share: a mapper, a router and a clock."""

import random

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import provider

from tests.unit.node.portmap.fakes import FakeGateway, FakeRouter
from vifibnet.model.endpoints import Endpoint
from vifibnet.node.portmap.gateway import GatewayTrouble, IGateway
from vifibnet.node.portmap.mapper import (
    PortMapper,
)

UDP = Endpoint("44.128.0.2", 1194, "udp")
TCP = Endpoint("44.128.0.2", 1194, "tcp-client")
ME, SOMEBODY = ("192.168.77.2", 1194), ("192.168.77.9", 1194)


class MapperTest(SynchronousTestCase):
    """Tests with a mapper, a router and a clock."""

    def setUp(self) -> None:
        """Make them."""
        self.clock = Clock()
        self.router = FakeRouter()
        self.gateway: FakeGateway | None = FakeGateway(self.router)
        self.searches: list[float] = []
        self.changes: list[Endpoint | None] = []
        self.mapper = PortMapper(self.clock, random.Random(1), self.find, on_change=self.changes.append)
        self.said: list[str] = []

        @provider(ILogObserver)
        def hear(event: LogEvent) -> None:
            if event["log_level"] != LogLevel.debug:
                self.said.append(formatEvent(event))

        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)

    async def find(self) -> IGateway | None:
        """Find ``self.gateway``."""
        self.searches.append(self.clock.seconds())
        return self.gateway

    def map(self, port: int = 1194, proto: str = "udp") -> Deferred[Endpoint | None]:
        """Begin to map."""
        return Deferred.fromCoroutine(self.mapper.map(port, proto))

    def close(self) -> Deferred[None]:
        """Begin to close."""
        return Deferred.fromCoroutine(self.mapper.close())

    def mapped(self, port: int = 1194, proto: str = "udp") -> Endpoint | None:
        """Map, which must not take any time."""
        return self.successResultOf(self.map(port, proto))

    def advance(self, seconds: float) -> None:
        """Let time go by."""
        self.clock.pump([1] * int(seconds))

    def trouble(self) -> None:
        """What a gateway that is gone does."""
        raise GatewayTrouble(where="fake", problem="gone")
