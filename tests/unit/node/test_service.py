"""The node put together from fakes: what starts when, what stops when, who hears of what."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.unit.node.fakes import NETWORK, NOW, FakeClient, FakeDrain, FakeRegistry, config, endpoint, node
from tests.unit.pki.making import authority, identity, pem
from vifibnet.errors import BadInput, CommandFailed
from vifibnet.interfaces import IKernel, IPortMapper
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.node.openvpn import Served
from vifibnet.node.renewal import Renewal
from vifibnet.node.revocations import RevocationFiles
from vifibnet.node.service import MAP_AFTER, NodeService
from vifibnet.node.trust import FIRST_WAIT, Trust
from vifibnet.node.tunnels import EMPTY_AFTER
from vifibnet.pki.authority import new_serial
from vifibnet.pki.requests import check_request
from vifibnet.pki.revocation import sign_revocations
from vifibnet.store.peers import PeerStore
from vifibnet.wire.babeld import Neighbour, Route
from vifibnet.wire.revocation import Revoked

OWN = node(5)
SERIAL = 555
"""Our certificate's."""


class Part(Service):
    """Something with a start and an end, noted in a diary."""

    def __init__(self, name: str, diary: list[str]) -> None:
        self.title = name
        self.diary = diary
        self.gate: Deferred[None] | None = None
        self.broken = False
        self.served: dict[Prefix, Served] = {}
        self.welcome: Callable[[Prefix, int | None], bool] = lambda *_: True
        self.routes: tuple[Route, ...] = ()
        self.neighbours: tuple[Neighbour, ...] = ()

    def startService(self) -> None:
        """Note it."""
        super().startService()
        self.diary.append(f"{self.title} starts")
        if self.broken:
            raise OSError("no")

    def stopService(self) -> Deferred[None]:
        """Note it; done at once unless there is a gate."""
        super().stopService()
        self.diary.append(f"{self.title} stops")
        return self.gate or succeed(None)

    def holder(self) -> Callable[[], None]:
        """Notes that it would be started anew."""
        return lambda: self.diary.append(f"{self.title} starts anew")

    async def dismiss(self) -> None:
        """As an openvpn server does."""
        self.served = {
            peer: served for peer, served in self.served.items() if self.welcome(peer, served.serial)
        }


@implementer(IKernel)
class FakeKernel:
    """A machine that takes everything, or fails as often as the test says."""

    def __init__(self, diary: list[str]) -> None:
        self.diary = diary
        self.failures = 0
        self.gate: Deferred[None] | None = None

    async def clean(self) -> None:
        """Fail as often as wanted, wait if wanted."""
        self.diary.append("clean")
        if self.gate is not None:
            await self.gate
        if self.failures:
            self.failures -= 1
            raise CommandFailed(command="ip", status=1, output="no")

    async def add_taps(self, names: Sequence[str], mtu: int) -> None:
        """Note them."""
        self.diary.append(f"taps {' '.join(names)} {mtu}")

    async def add_subnet(
        self, interface: str, address: IPv6Address, subnet: IPv6Network, network: IPv6Network
    ) -> None:
        """Note them."""
        self.diary.append(f"{interface} {address} {subnet} {network}")

    async def flush_routes(self) -> None:
        """Nothing to do."""

    async def restore(self) -> None:
        """Note it."""
        self.diary.append("restore")


@implementer(IPortMapper)
class FakeMapper:
    """A gateway that maps each port to itself, when the test says so."""

    def __init__(self, diary: list[str], on_change: Callable[[], None]) -> None:
        self.diary = diary
        self.on_change = on_change
        self.endpoints: tuple[Endpoint, ...] = ()

    async def map(self, port: int, proto: str) -> Endpoint | None:
        """There is no gateway yet."""
        self.diary.append(f"map {port} {proto}")
        return None

    async def close(self) -> None:
        """Note it."""
        self.diary.append("unmap")


class FakeLock:
    """A lock."""

    def __init__(self, diary: list[str]) -> None:
        self.diary = diary
        diary.append("lock")

    def release(self) -> None:
        """Note it."""
        self.diary.append("unlock")


class RegistryService(FakeRegistry, Service):
    """The fake registry as a service."""

    connected = True


class Parts:
    """Fakes for all parts, and the diary that they write."""

    def __init__(self, directory: Path, reactor: Any) -> None:
        self.diary: list[str] = []
        self.directory = directory
        self.reactor = reactor
        self.path = directory / "peers.db"
        self.identity = identity(now=datetime.fromtimestamp(NOW, UTC))
        PeerStore.create(self.path, NETWORK).close()
        self.fake_kernel = FakeKernel(self.diary)
        self.fake_babeld = Part("babeld", self.diary)
        self.server = Part("vifs0", self.diary)
        self.clients: list[FakeClient] = []
        self.locked = False
        self.asked: list[str] = []
        self.fake_registry: RegistryService | None = RegistryService()
        self.fake_mapper: FakeMapper | None = None

    def know(self, *numbers: int) -> None:
        """Fill the peer database."""
        store = PeerStore.open(self.path, NETWORK)
        store.update([(node(n), (endpoint(n),)) for n in numbers], NOW)
        store.close()

    def lock(self) -> FakeLock:
        """The lock, unless another node has it."""
        if self.locked:
            raise BadInput("--state", "taken", "wait")
        return FakeLock(self.diary)

    def store(self) -> PeerStore:
        """The real peer database."""
        return PeerStore.open(self.path, NETWORK)

    def kernel(self) -> FakeKernel:
        """The machine."""
        return self.fake_kernel

    def drain(self) -> FakeDrain:
        """What silences babel."""
        return FakeDrain()

    def babeld(self, on_change: Callable[[], None], before: Callable[[], Awaitable[None]]) -> Part:
        """The routing daemon."""
        self.routes_changed = on_change
        return self.fake_babeld

    def send_to(self, neighbour: Neighbour, packet: bytes) -> None:
        """Note whom."""
        self.asked.append(neighbour.address)

    def trust(self, on_change: Callable[[frozenset[Prefix]], None]) -> Trust:
        """The real one, with files elsewhere."""
        files = RevocationFiles(self.directory, authority().ca, self.directory / "run")
        files.open()
        return Trust(self.reactor, Random(1), files, SERIAL, on_change)

    def renewal(
        self, on_renewed: Callable[[], None], holders: Callable[[], list[Callable[[], None]]]
    ) -> Renewal:
        """The real one."""
        me = self.identity
        return Renewal(self.reactor, Random(1), config(self.directory), me, on_renewed, holders)

    def servers(
        self, on_change: Callable[[], None], welcome: Callable[[Prefix, int | None], bool]
    ) -> dict[str, Part]:
        """One server."""
        self.served_changed = on_change
        self.server.welcome = welcome
        return {"vifs0": self.server}

    def connect(
        self, tap: str, peer: Prefix, endpoints: Sequence[Endpoint], on_change: Callable[[], None]
    ) -> FakeClient:
        """A client."""
        self.diary.append(f"{tap} starts")
        client = FakeClient(tap, peer, endpoints, on_change, NOW)
        client.ended.addCallback(self._client_ended, tap)
        self.clients.append(client)
        return client

    def _client_ended(self, reason: str, tap: str) -> str:
        self.diary.append(f"{tap} stops")
        return reason

    def registry(
        self,
        on_connected: Callable[[], None],
        on_seen: Callable[[], None],
        trust: Trust,
        renewal: Renewal,
    ) -> RegistryService | None:
        """The registry."""
        self.connected, self.seen = on_connected, on_seen
        return self.fake_registry

    def mapper(self, on_change: Callable[[], None]) -> FakeMapper:
        """The gateway."""
        self.fake_mapper = FakeMapper(self.diary, on_change)
        return self.fake_mapper


class Me:
    """Who we are."""

    network = NETWORK
    prefix = OWN


class NodeServiceTests(SynchronousTestCase):
    """Start, stop, and what happens in between."""

    def setUp(self) -> None:
        """A machine on which nothing has happened yet."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.reactor = MemoryReactorClock()
        self.reactor.advance(NOW)
        self.parts = Parts(self.directory, self.reactor)
        self.diary = self.parts.diary
        self.service: NodeService | None = None

    def start(self, **options: object) -> NodeService:
        """Start a node; it is stopped at the end."""
        settings: Any = config(self.directory, connection_count=2, hello=1.0, **options)
        parts, me = (self.parts, Me())  # the shapes are what counts
        self.service = NodeService(self.reactor, Random(1), settings, me, parts)  # type: ignore[arg-type]
        self.service.startService()
        self.addCleanup(self.stop)
        return self.service

    def stop(self) -> None:
        """Stop it, if that has not happened."""
        if self.service is not None and self.service.running:
            done = self.service.stopService()
            self.reactor.pump([0.1] * 60)
            self.successResultOf(done)

    def own_log(self) -> str:
        """What the node wrote to its own log."""
        return (self.directory / "vifibnet-node.log").read_text()

    def test_order(self) -> None:
        """The lock, the machine, babeld and servers, tunnels; at the end babeld first, the lock last."""
        self.parts.know(1)
        self.start(ip=(endpoint(5),))
        self.assertEqual(
            self.diary,
            [
                "lock",
                "clean",
                "taps vifc0 vifc1 vifs0 1400",
                "lo 2001:db8:42:5::1 2001:db8:42:5::/64 2001:db8:42::/48",
                "babeld starts",
                "vifs0 starts",
                "vifc0 starts",
            ],
        )
        self.diary.clear()
        self.stop()
        self.assertEqual(self.diary, ["babeld stops", "vifc0 stops", "vifs0 stops", "restore", "unlock"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_lock_taken(self) -> None:
        """The start fails, with one sentence in the log, and nothing is touched."""
        self.parts.locked = True
        self.assertRaises(BadInput, self.start)
        self.assertEqual(self.diary, [])
        self.assertIn("--state: taken; wait.", self.own_log())

    def test_no_peer_database(self) -> None:
        """The start fails, and the lock is free again."""
        self.parts.path.unlink()
        self.assertRaises(BadInput, self.start)
        self.assertEqual(self.diary, ["lock", "unlock"])

    def test_the_machine_refuses(self) -> None:
        """What cannot be done now is tried again, with a sentence in the log, until it can."""
        self.parts.fake_kernel.failures = 2
        self.start()
        self.assertEqual(self.diary, ["lock", "clean"])
        self.assertIn("ip ended with status 1: no", self.own_log())
        self.reactor.pump([0.1] * 60)
        self.assertIn("babeld starts", self.diary)

    def test_stop_while_the_machine_refuses(self) -> None:
        """A stop in between is a stop."""
        self.parts.fake_kernel.failures = 10
        self.start()
        self.stop()
        self.assertNotIn("babeld starts", self.diary)
        self.assertEqual(self.diary[-2:], ["restore", "unlock"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stop_during_the_start(self) -> None:
        """The step under way is waited for, no other follows."""
        gate: Deferred[None] = Deferred()
        self.parts.fake_kernel.gate = gate
        service = self.start()
        done = service.stopService()
        self.assertNoResult(done)
        self.assertNotIn("restore", self.diary)
        gate.callback(None)
        self.successResultOf(done)
        self.assertNotIn("babeld starts", self.diary)
        self.assertEqual(self.diary[-2:], ["restore", "unlock"])

    def test_stop_is_bounded(self) -> None:
        """Whatever hangs, the rest is stopped, within five seconds."""
        self.parts.know(1)
        service = self.start()
        self.parts.fake_babeld.gate = Deferred()
        self.parts.server.gate = Deferred()
        done = service.stopService()
        self.reactor.pump([0.1] * 49)
        self.successResultOf(done)
        for entry in ("vifc0 stops", "vifs0 stops", "restore", "unlock"):
            self.assertIn(entry, self.diary)
        self.assertEqual(self.own_log().count("did not stop within"), 2)

    def test_a_child_that_cannot_be_started(self) -> None:
        """Is never fatal."""
        self.parts.know(1)
        self.parts.fake_babeld.broken = self.parts.server.broken = True
        self.start()
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 2)
        self.assertIn("vifc0 starts", self.diary)

    def test_without_registry(self) -> None:
        """A node that was given none works from its peer database."""
        self.parts.fake_registry = None
        self.parts.know(1)
        service = self.start()
        self.assertIn("vifc0 starts", self.diary)
        self.assertIsNone(service.status().registry)

    def test_peers_come_from_the_registry(self) -> None:
        """They are connected to as soon as they are known."""
        registry = self.parts.fake_registry
        assert registry is not None
        registry.known = [(node(7), (endpoint(7),)), (OWN, (endpoint(5),))]
        self.start()
        self.assertEqual([client.peer for client in self.parts.clients], [node(7)])

    def test_peers_before_the_taps(self) -> None:
        """An answer of the registry that comes early is not lost, and opens nothing too early."""
        gate: Deferred[None] = Deferred()
        self.parts.fake_kernel.gate = gate
        registry = self.parts.fake_registry
        assert registry is not None
        registry.known = [(node(7), (endpoint(7),))]
        self.start()
        self.assertEqual(self.parts.clients, [])
        gate.callback(None)
        self.assertEqual([client.peer for client in self.parts.clients], [node(7)])

    def test_declares(self) -> None:
        """First what the registry sees, then what a gateway maps, and nothing before either is known."""
        registry = self.parts.fake_registry
        assert registry is not None
        service = self.start()
        self.assertEqual([call for call in registry.calls if call not in ("peers", "revocations 0")], [])
        registry.seen = "192.0.2.5"
        self.parts.seen()
        self.assertEqual(registry.calls[-1], ("declare", endpoint(5)))
        self.reactor.advance(MAP_AFTER)
        mapper = self.parts.fake_mapper
        assert mapper is not None
        self.assertIn("map 1194 udp", self.diary)
        mapper.endpoints = (endpoint(77),)
        mapper.on_change()
        self.assertEqual(registry.calls[-1], ("declare", endpoint(77)))
        self.assertEqual(service.status().endpoints, "192.0.2.77,1194,udp")
        self.stop()
        self.assertIn("unmap", self.diary)

    def test_given_endpoints(self) -> None:
        """What the operator gave is declared at once, and no gateway is asked."""
        registry = self.parts.fake_registry
        assert registry is not None
        self.start(ip=(endpoint(55),))
        self.assertIn(("declare", endpoint(55)), registry.calls)
        self.reactor.advance(MAP_AFTER + 1)
        self.assertIsNone(self.parts.fake_mapper)

    def route(self, number: int, interface: str, refmetric: int, metric: int = 96) -> Route:
        """A route to a node."""
        subnet = NETWORK.subnet(node(number))
        return Route(f"{number}{interface}", subnet, True, metric, refmetric, "fe80::1", interface)

    def test_lan(self) -> None:
        """Who is reached directly over the operator's interface is not tunnelled to; who is behind is."""
        self.parts.know(1, 2)
        self.start(interfaces=("eth0",))
        self.assertEqual({client.peer for client in self.parts.clients}, {node(1), node(2)})
        for client in self.parts.clients:
            client.come_up(NOW)
        self.parts.fake_babeld.routes = (
            self.route(1, "eth0", 0),
            self.route(2, "eth0", 96),
            self.route(2, "vifc1", 0),
        )
        self.parts.routes_changed()
        self.reactor.pump([0.3, EMPTY_AFTER * 1.0])
        ended = {client.peer for client in self.parts.clients if client.ended.called}
        self.assertEqual(ended, {node(1)})
        self.parts.fake_babeld.routes = (self.route(1, "eth0", 0, metric=65535),)
        self.parts.routes_changed()
        self.reactor.advance(0.3)
        self.assertEqual(self.parts.clients[-1].peer, node(1))
        self.assertEqual(len(self.parts.clients), 3)

    def test_served(self) -> None:
        """A peer that comes to us while we come to it: the greater drops its client."""
        self.parts.know(1)
        self.start()
        self.parts.clients[0].come_up(NOW)
        self.parts.server.served = {node(1): Served(1, "192.0.2.1", 4000, NOW)}
        self.parts.served_changed()
        self.reactor.pump([0.3, EMPTY_AFTER * 1.0])
        self.assertTrue(self.parts.clients[0].ended.called)

    def revoke(self, number: int, *revoked: Revoked) -> None:
        """The registry has a new list, and says so."""
        registry = self.parts.fake_registry
        assert registry is not None
        registry.list = sign_revocations(authority(), number, revoked)

    def test_revoked(self) -> None:
        """Whoever is revoked loses its tunnels at once, ours to it and its to us, and gets no other."""
        self.parts.know(1, 2)
        self.start()
        for client in self.parts.clients:
            client.come_up(NOW)
        server = self.parts.server
        server.served = {node(n): Served(n, "192.0.2.1", 4000, NOW, serial=n) for n in (3, 4)}
        self.revoke(9, Revoked(1, node(1)), Revoked(3, node(3)), Revoked(4444, node(4), node=False))
        self.parts.connected()
        self.assertEqual([client.peer for client in self.parts.clients if client.ended.called], [node(1)])
        self.assertEqual(list(server.served), [node(4)])
        self.reactor.advance(100)
        self.assertEqual(len(self.parts.clients), 2)
        self.assertEqual(len(list((self.directory / "run").glob("*/*"))), 3)
        self.stop()
        self.assertEqual(list((self.directory / "run").iterdir()), [])
        self.parts.clients.clear()
        self.start()
        self.assertEqual([client.peer for client in self.parts.clients], [node(2)])

    def test_one_certificate_revoked(self) -> None:
        """A node that goes on with another certificate is connected to anew: it may be somebody else."""
        self.parts.know(1)
        self.start()
        self.parts.clients[0].come_up(NOW)
        self.revoke(9, Revoked(1, node(1), node=False))
        self.parts.connected()
        self.assertTrue(self.parts.clients[0].ended.called)
        self.reactor.advance(1)
        self.assertEqual([client.peer for client in self.parts.clients], [node(1), node(1)])
        self.parts.clients[1].come_up(NOW)
        self.revoke(10, Revoked(1, node(1), node=False), Revoked(2, node(2)))
        self.parts.connected()
        self.assertFalse(self.parts.clients[1].ended.called)

    def test_first_answer(self) -> None:
        """No tunnel before the registry has said who was revoked; it is not waited for long."""
        self.parts.know(1)
        registry = self.parts.fake_registry
        assert registry is not None
        answer: Deferred[bytes | None] = Deferred()

        async def revocations(known: int) -> bytes | None:
            return await answer

        registry.revocations = revocations  # type: ignore[method-assign]
        self.start()
        self.assertNotIn("vifs0 starts", self.diary)
        self.revoke(9, Revoked(1, node(1)))
        answer.callback(registry.list)
        self.assertIn("vifs0 starts", self.diary)
        self.assertEqual(self.parts.clients, [])
        self.stop()

        self.diary.clear()
        answer = Deferred()
        self.start()
        self.reactor.advance(FIRST_WAIT - 0.01)
        self.assertNotIn("vifs0 starts", self.diary)
        self.reactor.advance(0.02)
        self.assertIn("vifs0 starts", self.diary)

    def test_stop_before_the_first_answer(self) -> None:
        """A stop does not wait for it."""
        registry = self.parts.fake_registry
        assert registry is not None

        async def revocations(known: int) -> bytes | None:
            return await Deferred[bytes | None]()

        registry.revocations = revocations  # type: ignore[method-assign]
        service = self.start()
        self.successResultOf(service.stopService())
        self.assertNotIn("vifs0 starts", self.diary)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_outcast(self) -> None:
        """A node that was revoked says so once, and tries its peers rarely."""
        self.parts.know(1)
        self.start()
        self.revoke(9, Revoked(SERIAL, OWN))
        self.parts.connected()
        for _ in range(12):
            self.parts.clients[-1].end("refused")
            self.reactor.pump([10] * 120)
        self.assertEqual(self.own_log().count("certificate was revoked"), 1)
        self.assertLess(len(self.parts.clients), 14)

    def test_renewed(self) -> None:
        """A new certificate: the registry is shown it, tunnels and servers are replaced one after another."""
        self.parts.know(1)
        self.parts.identity = identity(now=datetime.fromtimestamp(NOW, UTC), days=90)
        registry = self.parts.fake_registry
        assert registry is not None
        service = self.start()
        self.parts.clients[0].come_up(NOW)
        registry.certificate = self.sign
        self.reactor.pump([3600] * 24 * 61)
        self.assertEqual(
            [call for call in registry.calls if call in ("renew", "reconnect")][:2], ["renew", "reconnect"]
        )
        self.assertNotIn("vifs0 starts anew", self.diary)
        self.reactor.pump([3600] * 24 * 25)
        self.assertEqual(self.diary.count("vifs0 starts anew"), 1)
        self.assertTrue(self.parts.clients[0].ended.called)
        self.assertEqual(self.parts.clients[-1].peer, node(1))
        self.assertIsNotNone(service)

    @staticmethod
    def sign(request: str) -> str:
        """As the registry does, 60 days from the start on."""
        now = datetime.fromtimestamp(NOW + 60 * 24 * 3600, UTC)
        return pem(authority().sign(check_request(request), OWN, new_serial(), now, 90)).decode()

    def test_expired(self) -> None:
        """With an expired certificate nothing is touched until the registry has given a new one."""
        self.parts.know(1)
        registry = self.parts.fake_registry
        assert registry is not None
        self.parts.identity = identity(now=datetime.fromtimestamp(NOW - 40 * 24 * 3600, UTC), days=30)
        service = self.start()
        self.assertEqual(self.diary, ["lock"])
        self.assertIn("waiting for the registry to renew it", self.own_log())
        self.assertEqual(service.status().prefix, str(OWN))
        registry.certificate = self.sign
        self.parts.connected()
        self.assertIn("vifs0 starts", self.diary)
        self.assertIn("vifc0 starts", self.diary)

    def test_stop_while_expired(self) -> None:
        """A stop is a stop."""
        self.parts.identity = identity(now=datetime.fromtimestamp(NOW - 40 * 24 * 3600, UTC), days=30)
        self.start()
        self.stop()
        self.assertNotIn("clean", self.diary)
        self.assertEqual(self.diary[-1], "unlock")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_new_neighbours_are_asked(self) -> None:
        """As babeld alone would not."""
        self.start()
        self.parts.fake_babeld.neighbours = (Neighbour("a", "fe80::a", "vifs0", 0x8000, 96, 96, 96),)
        self.parts.routes_changed()
        self.assertEqual(self.parts.asked, ["fe80::a"])

    def test_status(self) -> None:
        """What an operator sees, as it is."""
        self.parts.know(1)
        service = self.start()
        self.parts.clients[0].come_up(NOW)
        self.parts.fake_babeld.routes = (self.route(1, "vifc0", 0), self.route(2, "vifc0", 96, 192))
        self.parts.fake_babeld.neighbours = (Neighbour("a", "fe80::a", "vifc0", 0xFFFF, 96, 96, 96),)
        self.parts.server.served = {node(9): Served(1, "192.0.2.9", 4000, NOW)}
        status = json.loads(json.dumps(asdict(service.status())))
        self.assertEqual(
            {
                key: status[key]
                for key in ("prefix", "address", "subnet", "network", "started", "peers_known")
            },
            {
                "prefix": "5/16",
                "address": "2001:db8:42:5::1",
                "subnet": "2001:db8:42:5::/64",
                "network": "2001:db8:42::/48",
                "started": NOW,
                "peers_known": 1,
            },
        )
        [tunnel] = status["tunnels"]
        self.assertEqual((tunnel["tap"], tunnel["peer"], tunnel["routes"]), ("vifc0", "1/16", 2))
        self.assertEqual(status["served"], [{"peer": "9/16", "address": "192.0.2.9", "server": "vifs0"}])
        self.assertEqual(status["neighbours"], [{"address": "fe80::a", "interface": "vifc0", "cost": 96}])
        self.assertEqual(
            status["routes"][1],
            {
                "prefix": "2001:db8:42:2::/64",
                "interface": "vifc0",
                "metric": 192,
                "installed": True,
                "via": "fe80::1",
            },
        )
        self.assertEqual(status["registry"], {"connected": True, "seen": None})

    def test_own_log(self) -> None:
        """Debug messages only from verbose 3 on, and nothing after the stop."""
        self.parts.know(1)
        self.start()
        self.stop()
        text = self.own_log()
        self.assertIn("node 5/16 of 2001:db8:42::/48 starts, address 2001:db8:42:5::1", text)
        self.assertIn("has stopped", text)
        self.assertNotIn("connecting to 1/16", text)
        self.start(verbose=3)
        self.assertIn("connecting to 1/16", self.own_log())
