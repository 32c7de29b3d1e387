"""A babeld that says what the test wants."""

from __future__ import annotations

from ipaddress import IPv6Network
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.processes import FakeReactor
from vifibnet.model.addresses import Network, Prefix
from vifibnet.node.babeld import Babeld, BabeldSettings, Interface, Xroute

GREETING = ("BABEL 1.0", "version babeld-1.12.1", "host h", "my-id 04:53:7e:30:78:30:2a:4e", "ok")
UP = "add interface vifc0 up true ipv6 fe80::1"
DOWN = "flush interface vifc0 up false"
XROUTE = "add xroute 2001:db8:42:5::/64-::/0 prefix 2001:db8:42:5::/64 from ::/0 metric 0"


def neighbour(verb: str = "add", cost: int = 96, name: str = "a1") -> str:
    """A line about a neighbour."""
    return (
        f"{verb} neighbour {name} address fe80::2 if vifc0 reach ffff ureach 0000 "
        f"rxcost 96 txcost 96 cost {cost}"
    )


def route(verb: str = "add", installed: str = "yes", metric: int = 96) -> str:
    """A line about a route."""
    return (
        f"{verb} route b1 prefix 2001:db8:42:7::/64 from ::/0 installed {installed} "
        f"id bc:1c:92:c6:9b:cc:14:cf metric {metric} refmetric 0 via fe80::2 if vifc0"
    )


class BabeldTests(SynchronousTestCase):
    """What it tells, and when we tell it on."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.changes = 0
        self.state = Path(self.mktemp())
        self.state.mkdir()
        settings = BabeldSettings(
            Network.parse("2001:db8:42::/48"), Prefix(5, 16), ("vifc0",), self.state, self.state
        )
        for leftover in (settings.socket, settings.pid_file):
            leftover.touch()
        self.babeld = Babeld(self.reactor, Random(1), settings, self.changed, before=self.before)
        self.prepared = 0
        self.babeld.startService()

    def changed(self) -> None:
        self.changes += 1

    async def before(self) -> None:
        self.prepared += 1

    def connect(self, *dump: str) -> Any:
        """babeld takes our connection and tells all it has."""
        address, factory, *_ = self.reactor.unixClients[-1]
        self.assertEqual(address, str(self.state / "babeld.sock"))
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(StringTransport())
        self.say(protocol, *GREETING)
        self.assertEqual(protocol.transport.value(), b"monitor\n")
        self.say(protocol, *dump, "ok")
        return protocol

    def say(self, protocol: Any, *lines: str) -> None:
        """babeld says something; then a turn of the reactor passes."""
        protocol.dataReceived("".join(f"{line}\n" for line in lines).encode())
        self.reactor.advance(0)

    def test_start(self) -> None:
        """What a killed one left is gone before it starts."""
        self.assertEqual(self.prepared, 1)
        self.assertEqual(sorted(path.name for path in self.state.iterdir()), ["vifibnet-babeld.log"])
        self.assertEqual(self.reactor.children[0].command[:2], ["setsid", "babeld"])

    def test_dump(self) -> None:
        """What it has at first is one change."""
        protocol = self.connect(UP, neighbour(), XROUTE, route())
        self.assertEqual(self.babeld.interfaces, (Interface("vifc0", True, "fe80::1"),))
        self.assertEqual(self.babeld.xroutes[0].prefix, IPv6Network("2001:db8:42:5::/64"))
        self.assertIsInstance(self.babeld.xroutes[0], Xroute)
        self.assertEqual([known.address for known in self.babeld.neighbours], ["fe80::2"])
        self.assertEqual([known.interface for known in self.babeld.routes], ["vifc0"])
        self.assertEqual(self.changes, 1)
        self.say(protocol, "nonsense", "")
        self.assertEqual(self.changes, 1)

    def test_changes(self) -> None:
        """What matters is told once for many lines; repetitions and mere numbers are not told, but known."""
        protocol = self.connect(UP, neighbour(), route())
        self.say(protocol, UP, neighbour("change"), route("change"), route("change", metric=97))
        self.assertEqual((self.changes, self.babeld.routes[0].metric), (1, 97))
        self.say(protocol, route("change", installed="no"), route("change"), route("change", "no"))
        self.assertEqual(self.changes, 2)
        self.say(protocol, route("change", "yes", 65535))
        self.say(protocol, route("change", "yes", 96))
        self.assertEqual(self.changes, 4)
        self.say(protocol, route("flush"), neighbour("flush"))
        self.assertEqual((self.changes, self.babeld.routes, self.babeld.neighbours), (5, (), ()))
        self.say(protocol, route("flush"))
        self.assertEqual(self.changes, 5)

    def test_interface_down(self) -> None:
        """A neighbour behind an interface that is down is none."""
        protocol = self.connect(UP, neighbour())
        self.say(protocol, DOWN)
        self.assertEqual(self.babeld.interfaces, (Interface("vifc0", False),))
        self.assertEqual(self.babeld.neighbours, ())

    def test_restart(self) -> None:
        """Nothing is known while it does not run; then it is asked again."""
        protocol = self.connect(UP, neighbour(), route())
        self.reactor.children[0].end(signal=9)
        protocol.connectionLost(Failure(ConnectionDone()))
        self.reactor.advance(0)
        self.assertEqual((self.babeld.routes, self.babeld.interfaces, self.changes), ((), (), 2))
        self.reactor.advance(1)
        self.assertEqual((self.prepared, len(self.reactor.children)), (2, 1))
        self.connect(UP)
        self.assertEqual(len(self.babeld.interfaces), 1)

    def test_lost_connection(self) -> None:
        """babeld drops who reads too slowly: we come back, and take no notice of what has not changed."""

        def lose(protocol: Any) -> None:
            protocol.connectionLost(Failure(ConnectionDone()))
            self.reactor.advance(0.1)
            self.assertEqual(len(self.babeld.routes), 1)

        lose(self.connect(UP, neighbour(), route()))
        lose(self.connect(UP, neighbour(), route(metric=99)))
        self.assertEqual((self.changes, self.babeld.routes[0].metric), (1, 99))
        self.connect(UP)
        self.assertEqual((self.changes, self.babeld.routes), (2, ()))

    def test_no_socket_yet(self) -> None:
        """The socket is tried until it is there."""
        for _ in range(3):
            _, factory, *_ = self.reactor.unixClients[-1]
            factory.clientConnectionFailed(None, Failure(FileNotFoundError()))
            self.reactor.advance(0.05)
        self.assertEqual(len(self.reactor.unixClients), 4)

    def test_stop(self) -> None:
        """A stop is over when the process is; nothing follows."""
        self.connect(UP)
        self.reactor.children[0].obeys = ()
        stop = self.babeld.stopService()
        self.assertNoResult(stop)
        self.reactor.children[0].end()
        self.successResultOf(stop)
        self.reactor.advance(1)
        self.assertEqual((self.babeld.interfaces, self.reactor.getDelayedCalls()), ((), []))
