"""The node put together from fakes: what starts when, what stops when, who hears of what."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.unit.node.fakes import (
    NETWORK,
    NOW,
    FakeClient,
    FakeHeartbeats,
    FakeLeaving,
    FakeRegistry,
    authorities,
    config,
    endpoint,
    node,
)
from tests.unit.pki.making import authority, identity, parameters, pem, revocation_list
from vifibnet.errors import BadInput, CommandFailed
from vifibnet.interfaces import IKernel, IPortMapper
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.ways import Health, Place, Way
from vifibnet.node.authorities import Authorities
from vifibnet.node.config import NodeConfig
from vifibnet.node.documents import FIRST_WAIT, Documents, Keeper
from vifibnet.node.homes import SETTLE, Homes
from vifibnet.node.openvpnserver import Served
from vifibnet.node.parameters import Parameters
from vifibnet.node.parts import Parts as RealParts
from vifibnet.node.peertalk import Sights
from vifibnet.node.preflight import openvpn_settings
from vifibnet.node.renewal import Renewal
from vifibnet.node.revocations import RevocationFiles
from vifibnet.node.service import NodeService
from vifibnet.node.supervisor import Supervisor
from vifibnet.node.trust import Trust
from vifibnet.node.whereabouts import MAP_AFTER
from vifibnet.pki.authority import new_serial
from vifibnet.pki.requests import check_request
from vifibnet.store.peers import PeerStore
from vifibnet.wire.babeld import BabeldSettings, Neighbour, Route
from vifibnet.wire.document import Kind
from vifibnet.wire.revocation import Revoked

OWN = node(5)
SERIAL = 555
"""Our certificate's."""

KEY = bytes(range(100, 116))


class Part(Service):
    """Something with a start and an end, noted in a diary."""

    def __init__(self, name: str, diary: list[str]) -> None:
        self.title = name
        self.diary = diary
        self.gate: Deferred[None] | None = None
        self.broken = self.learning = False
        self.looks = 0
        self.served: dict[Prefix, Served] = {}
        self.leaving = False
        self.welcome: Callable[[Prefix, int | None], bool] = lambda *_: True
        self.routes: tuple[Route, ...] = ()
        self.neighbours: tuple[Neighbour, ...] = ()
        self.told: list[Any] = []
        self.supervisor = Supervisor(Clock(), Random(1), name, list)

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

    def look(self) -> None:
        """Nothing to see."""
        self.looks += 1

    def failed(self, peer: Prefix) -> None:
        """Note it."""
        self.told.append(peer)

    def destinations(self) -> frozenset[frozenset[str]]:
        """None that matter."""
        return frozenset()

    def spares(self, interface: str) -> bool:
        """All are reached twice."""
        return True

    def holder(self, leaving: FakeLeaving) -> Callable[[], Deferred[None]]:
        """Notes that it would be started anew."""

        def restart() -> Deferred[None]:
            self.diary.append(f"{self.title} starts anew")
            return succeed(None)

        return restart

    def rehome(self, leaving: FakeLeaving) -> Deferred[None]:
        """Note it."""
        self.diary.append(f"{self.title} gets another home")
        return succeed(None)

    def change(self, settings: Any) -> Any:
        """Note what is new."""
        self.told.append(settings)
        return succeed(None)

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
        self.homes = ["192.0.2.5"]
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

    async def set_mtu(self, names: Sequence[str], mtu: int) -> None:
        """Note it."""
        self.diary.append(f"mtu {' '.join(names)} {mtu}")

    async def add_subnet(
        self, interface: str, address: IPv6Address, subnet: IPv6Network, network: IPv6Network
    ) -> None:
        """Note them."""
        self.diary.append(f"{interface} {address} {subnet} {network}")

    async def addresses(self) -> Sequence[Sequence[IPv4Address | IPv6Address]]:
        """One, or more."""
        return [[ip_address(text)] for text in self.homes]

    async def flush_routes(self) -> None:
        """Nothing to do."""

    async def announce(self) -> None:
        """Nothing to do."""

    async def keep(self, put: Mapping[Place, Way], drop: Sequence[Place]) -> None:
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
    since = NOW


class Parts:
    """Fakes for all parts, and the diary that they write."""

    def __init__(self, directory: Path, reactor: Any) -> None:
        self.diary: list[str] = []
        self.directory = directory
        self.given = config(directory)
        self.reactor = reactor
        self.path = directory / "peers.db"
        self.identity = identity(now=datetime.fromtimestamp(NOW, UTC))
        PeerStore.create(self.path, NETWORK).close()
        self.fake_kernel = FakeKernel(self.diary)
        self.fake_babeld = Part("babeld", self.diary)
        self.server = Part("vifs0", self.diary)
        self.fake_talk = Part("talk", [])
        self.clients: list[FakeClient] = []
        self.netlinks: list[socket.socket] = []
        self.locked = self.taken = False
        self.told_babeld: BabeldSettings | None = None
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

    def vacate(self) -> None:
        """Nothing was left running; somebody may have a port."""
        if self.taken:
            # The lock is held, and all else has been prepared.
            assert (self.diary, self.told_babeld is not None) == (["lock"], True)
            raise BadInput("--pp 1194 udp", "taken", "wait")

    def store(self) -> PeerStore:
        """The real peer database."""
        return PeerStore.open(self.path, NETWORK)

    def kernel(self) -> FakeKernel:
        """The machine."""
        return self.fake_kernel

    def heartbeats(self, *arguments: object) -> FakeHeartbeats:
        """What watches the tunnels."""
        self.hearts = FakeHeartbeats()
        return self.hearts

    def change(self, config: NodeConfig) -> None:
        """From now on, this holds."""
        self.config = config
        self.openvpn = openvpn_settings(config)

    def parameters(self, authorities: Authorities, on_change: Callable[[NodeConfig], None]) -> Parameters:
        """The real ones."""
        parameters = Parameters(self.given, authorities.cas, authorities.known, on_change)
        parameters.document.load()
        return parameters

    def babeld_settings(self, config: NodeConfig, taps: Sequence[str]) -> BabeldSettings:
        """What is told to babeld."""
        return RealParts(self.reactor, Random(1), config, self.identity).babeld_settings(config, taps)

    def babeld(
        self,
        taps: Sequence[str],
        on_change: Callable[[], None],
        kernel: object,
        direct: Callable[[], dict[IPv6Network, Way]],
        health: Callable[[str, str], Health],
    ) -> Part:
        """The routing daemon."""
        self.direct = direct
        self.routes_changed = on_change
        self.told_babeld = self.babeld_settings(self.config, taps)
        return self.fake_babeld

    def authorities(self) -> Authorities:
        """The real ones, with files elsewhere."""
        return authorities(self.reactor, self.directory, self.identity.cas)

    def trust(self, authorities: Authorities, on_change: Callable[[frozenset[Prefix]], None]) -> Trust:
        """The real one, with files elsewhere."""
        files = RevocationFiles(self.directory, authorities.cas, run=self.directory / "run")
        files.open()
        return Trust(files, SERIAL, on_change)

    def documents(self, keepers: Sequence[Keeper]) -> Documents:
        """The real ones."""
        return Documents(self.reactor, Random(1), keepers)

    def renewal(
        self,
        authorities: Authorities,
        on_renewed: Callable[[], None],
        replace: Callable[[float, float], None],
    ) -> Renewal:
        """The real one."""
        me = self.identity
        return Renewal(self.reactor, Random(1), self.given, me, authorities, on_renewed, replace)

    def homes(self, kernel: FakeKernel) -> Homes:
        """The real one."""
        return Homes(self.reactor, NETWORK.ip_network, kernel.addresses, self.homes_socket)

    def homes_socket(self) -> socket.socket:
        """What tells of new addresses, with one of ``netlinks`` at its other end."""
        ours, netlink = socket.socketpair(type=socket.SOCK_DGRAM)
        ours.setblocking(False)
        self.netlinks.append(netlink)
        return ours

    def servers(
        self,
        on_change: Callable[[], None],
        welcome: Callable[[Prefix, int | None], bool],
        before: Callable[[str], Coroutine[Deferred[Any], Any, None]],
        homes: Homes,
    ) -> dict[str, Part]:
        """One server."""
        self.fit = before
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
        on_document: Callable[[], None],
        trust: Trust,
        renewal: Renewal,
        authorities: Authorities,
    ) -> RegistryService | None:
        """The registry."""
        self.connected, self.seen = on_connected, on_seen
        return self.fake_registry

    def talk(
        self,
        store: PeerStore,
        trust: Trust,
        renewal: Renewal,
        authorities: Authorities,
        sights: Sights,
        on_news: Callable[[], None],
    ) -> Part:
        """What is said to other nodes."""
        self.sights, self.news = sights, on_news
        return self.fake_talk

    def peers(self, *arguments: Any) -> Any:
        """The real one."""
        return RealParts(self.reactor, Random(1), self.config, self.identity).peers(*arguments)

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
        self.parts.given = settings
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
            for netlink in self.parts.netlinks:
                netlink.close()

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
                "taps vifc0 vifc1 vifc2 vifc3 vifc4 vifc5 vifs0 1400",
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

    def test_port_taken(self) -> None:
        """Likewise when somebody has a port of ours; the lock is free again."""
        self.parts.taken = True
        self.assertRaises(BadInput, self.start)
        self.assertEqual(self.diary, ["lock", "unlock"])
        self.assertIn("--pp 1194 udp: taken; wait.", self.own_log())
        self.assertFalse((self.directory / "run").exists())

    def test_no_peer_database(self) -> None:
        """The start fails, and nothing is left of it; the lock is free again."""
        self.parts.path.unlink()
        self.assertRaises(BadInput, self.start)
        self.assertEqual(self.diary, ["lock", "unlock"])
        self.assertFalse((self.directory / "run").exists())

    def test_the_machine_refuses(self) -> None:
        """What cannot be done now is tried again, with a sentence in the log, until it can."""
        self.parts.fake_kernel.failures = 2
        self.start()
        self.assertEqual(self.diary, ["lock", "clean"])
        self.assertIn("ip ended with status 1: no", self.own_log())
        self.reactor.pump([0.1] * 60)
        self.assertIn("babeld starts", self.diary)

    def test_the_start_fails(self) -> None:
        """Of anything else, and the process is to end; a stop in between is only a stop."""
        given_up: list[str] = []
        for broken in (OSError("no"), ValueError("no")):
            gate: Deferred[None] = Deferred()
            self.parts.fake_kernel.gate = gate
            service = self.start()
            service.give_up = lambda: given_up.append("over")
            gate.errback(broken)
            self.assertEqual(len(self.flushLoggedErrors(type(broken))), 1)
            self.assertIn("the start failed", self.own_log())
            self.stop()
        self.assertEqual(given_up, ["over"] * 2)
        self.parts.fake_kernel.gate = Deferred()
        self.start().give_up = lambda: given_up.append("over")
        self.stop()
        self.assertEqual(len(given_up), 2)
        self.flushLoggedErrors()

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
        self.assertEqual(
            [call for call in registry.calls if call != "peers" and not str(call).endswith(" 0")], []
        )
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
        self.reactor.pump([0.3, 0.2])
        ended = {client.peer for client in self.parts.clients if client.ended.called}
        self.assertEqual(ended, {node(1)})
        # Another babeld knows nothing at first.
        self.parts.fake_babeld.routes, self.parts.fake_babeld.learning = (), True
        self.parts.routes_changed()
        self.reactor.advance(0.3)
        self.assertEqual(len(self.parts.clients), 2)
        self.parts.fake_babeld.learning = False
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
        self.reactor.pump([0.3, 0.2])
        self.assertTrue(self.parts.clients[0].ended.called)

    def revoke(self, number: int, *revoked: Revoked) -> None:
        """The registry has a new list, and says so."""
        registry = self.parts.fake_registry
        assert registry is not None
        registry.documents[Kind.REVOCATIONS] = revocation_list(authority(), number, revoked)

    def test_talk(self) -> None:
        """Who talks with other nodes knows who they are, hears of every change, and what they say is used."""
        self.parts.know(1)
        service = self.start(ip=(endpoint(5),))
        talk, sights = self.parts.fake_talk, self.parts.sights
        self.assertTrue(talk.running)
        self.assertEqual((sights.endpoints(), sights.wanted()), ((endpoint(5),), 2))
        self.assertTrue(sights.registry())
        for change in (
            lambda: self.parts.clients[0].come_up(NOW),
            self.parts.served_changed,
            self.parts.seen,
        ):
            before = talk.looks
            change()
            self.assertGreater(talk.looks, before)
        self.parts.server.served = {node(3): Served(3, "192.0.2.1", 4000, NOW)}
        self.assertEqual((sights.tunnels(), sights.others()), ({node(1)}, {node(3)}))
        service._store.update([(node(4), (endpoint(4),))], NOW)
        self.parts.news()
        self.assertEqual(self.parts.clients[-1].peer, node(4))
        self.parts.clients[-1].end("not reached")
        self.assertEqual(talk.told, [node(4)])
        self.stop()
        self.assertFalse(talk.running)

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
        self.assertEqual(len(list((self.directory / "run").glob("*/[0-9]*"))), 3)
        self.stop()
        self.assertFalse((self.directory / "run").exists())
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

        async def document(kind: Kind, known: int) -> bytes | None:
            return await answer

        registry.document = document  # type: ignore[method-assign]
        self.start()
        self.assertNotIn("vifs0 starts", self.diary)
        self.revoke(9, Revoked(1, node(1)))
        answer.callback(registry.documents[Kind.REVOCATIONS])
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

        async def document(kind: Kind, known: int) -> bytes | None:
            return await Deferred[bytes | None]()

        registry.document = document  # type: ignore[method-assign]
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

    def set(self, number: int, **values: float | int | bytes) -> None:
        """The registry has new parameters, and says so."""
        registry = self.parts.fake_registry
        assert registry is not None
        named = {name.replace("_", "-"): value for name, value in values.items()}
        registry.documents[Kind.PARAMETERS] = parameters(authority(), number, named)
        if self.service is not None and self.service.running:
            self.parts.connected()

    def test_parameters_before_the_start(self) -> None:
        """They count from the first tap on; so does what the last run kept, without a registry."""
        self.set(7, mtu=1300, connection_count=1, babel_key=KEY, max_clients=9, hello=0.5)
        self.start(given=frozenset({"hello"}))
        self.assertIn("taps vifc0 vifc1 vifc2 vifc3 vifc4 vifs0 1300", self.diary)
        self.stop()
        self.diary.clear()
        self.parts.fake_registry = None
        self.parts.know(1, 2)
        service = self.start(given=frozenset({"hello"}))
        self.assertIn("taps vifc0 vifc1 vifc2 vifc3 vifc4 vifs0 1300", self.diary)
        self.assertEqual(len(self.parts.clients), 1)
        self.assertEqual((self.parts.openvpn.max_clients, self.parts.openvpn.mtu), (9, 1300))
        assert self.parts.told_babeld is not None
        self.assertEqual(
            (self.parts.told_babeld.hello, self.parts.told_babeld.key, self.parts.told_babeld.tunnels),
            (1.0, KEY, ("vifc0", "vifc1", "vifc2", "vifc3", "vifc4", "vifs0")),
        )
        values = service.status().parameters.values
        self.assertEqual((values["hello"], values["mtu"], values["babel-key"]), ("1", "1300", "set"))
        self.assertNotIn(KEY.hex(), self.own_log())

    def test_parameters_during_the_start(self) -> None:
        """The first answer comes when the taps are there: they are made fit before anything starts."""
        registry = self.parts.fake_registry
        assert registry is not None
        answer: Deferred[None] = Deferred()

        async def document(kind: Kind, known: int) -> bytes | None:
            await answer
            return registry.documents.get(kind)

        registry.document = document  # type: ignore[method-assign]
        self.set(7, mtu=1300, connection_count=3)
        self.start()
        self.diary.clear()
        answer.callback(None)
        self.assertEqual(
            self.diary,
            [
                "mtu vifc0 vifc1 vifc2 vifc3 vifc4 vifc5 vifs0 1300",
                "taps vifc6 1300",
                "babeld starts",
                "vifs0 starts",
            ],
        )
        [told] = self.parts.fake_babeld.told
        self.assertEqual(
            told.tunnels, ("vifc0", "vifc1", "vifc2", "vifc3", "vifc4", "vifc5", "vifc6", "vifs0")
        )

    def test_a_new_key(self) -> None:
        """babeld is told at once; nothing else happens."""
        self.parts.know(1)
        self.start()
        self.diary.clear()
        self.set(7, babel_key=KEY)
        [told] = self.parts.fake_babeld.told
        self.assertEqual((told.key, told.hello, self.diary), (KEY, 1.0, []))

    def test_more_tunnels(self) -> None:
        """Taps are made, and used; fewer are ended, emptied first."""
        self.parts.know(1, 2, 3)
        self.start()
        self.set(7, connection_count=3)
        self.reactor.pump([0.1] * 5)
        self.assertIn("taps vifc6 1400", self.diary)
        self.assertEqual([client.tap for client in self.parts.clients], ["vifc0", "vifc1", "vifc2"])
        taps = ("vifc0", "vifc1", "vifc2", "vifc3", "vifc4", "vifc5", "vifc6", "vifs0")
        self.assertEqual(self.parts.fake_babeld.told[-1].tunnels, taps)
        for client in self.parts.clients:
            client.come_up(self.reactor.seconds())
        self.set(8, connection_count=1)
        self.reactor.pump([0.1] * 60)
        self.assertEqual(len([each for each in self.parts.clients if each.ended.called]), 2)

    def test_mtu(self) -> None:
        """Every openvpn is replaced within the roll, the server when its clients' routes have moved; with the
        new process comes the greater MTU."""
        self.parts.know(1)
        self.start()
        self.parts.clients[0].come_up(NOW)
        self.parts.server.served = {node(9): Served(1, "192.0.2.9", 4000, NOW)}
        self.set(7, mtu=1420, roll=10.0)
        self.assertEqual((self.parts.openvpn.mtu, self.parts.server.told[-1].mtu), (1420, 1420))
        self.assertFalse([entry for entry in self.diary if entry.startswith("mtu")])
        self.reactor.pump([0.1] * 160)
        self.assertEqual(self.diary.count("vifs0 starts anew"), 1)
        self.assertTrue(self.parts.clients[0].ended.called)
        self.assertEqual(self.parts.clients[-1].tap, "vifc0")
        self.assertIn("mtu vifc0 1420", self.diary)
        self.successResultOf(ensureDeferred(self.parts.fit("vifs0")))
        self.assertIn("mtu vifs0 1420", self.diary)

    def test_hello(self) -> None:
        """babeld is told within the roll."""
        self.start()
        self.set(7, hello=0.5, roll=10.0)
        self.assertEqual(self.parts.fake_babeld.told, [])
        self.reactor.pump([0.1] * 100)
        [told] = self.parts.fake_babeld.told
        self.assertEqual(
            (told.hello, told.tunnels), (0.5, ("vifc0", "vifc1", "vifc2", "vifc3", "vifc4", "vifc5", "vifs0"))
        )

    def test_overridden(self) -> None:
        """What the command line says stays; the log says so, and nobody is told anything."""
        self.start(given=frozenset({"hello", "connection-count"}), ip=(endpoint(5),))
        self.diary.clear()
        self.set(7, hello=0.5, connection_count=9)
        self.reactor.pump([1.0] * 100)
        self.assertEqual((self.diary, self.parts.fake_babeld.told), ([], []))
        self.assertIn("hello 0.5 (overridden by our command line)", self.own_log())

    def test_homes(self) -> None:
        """The servers are told when the machine has a second address."""
        self.start()
        self.parts.fake_kernel.homes.append("192.0.2.55")
        self.parts.netlinks[0].send(b"")
        for reader in self.reactor.getReaders():
            reader.doRead()
        self.assertNotIn("vifs0 gets another home", self.diary)
        self.assertEqual(self.parts.hearts.shown, 1)
        self.reactor.advance(SETTLE)
        self.assertIn("vifs0 gets another home", self.diary)

    def test_direct_ways(self) -> None:
        """Who is at the other end of a tunnel, ours or theirs, is at its one address there."""
        self.parts.know(1)
        self.start()
        self.assertEqual(self.parts.direct(), {})
        self.parts.clients[0].come_up(NOW)
        self.parts.server.served = {node(7): Served(1, "192.0.2.7", 4000, NOW)}
        self.assertEqual(
            {str(subnet): f"{way.via} {way.interface}" for subnet, way in self.parts.direct().items()},
            {
                "2001:db8:42:1::/64": "fe80::1:0:0:1 vifc0",
                "2001:db8:42:7::/64": "fe80::7:0:0:1 vifs0",
            },
        )

    def test_greeted(self) -> None:
        """Who has just come is looked at at once: it waits for a word of ours."""
        self.parts.know(1)
        self.start()
        self.parts.clients[0].come_up(NOW)
        self.assertEqual(self.parts.hearts.looks, 1)
        self.parts.served_changed()
        self.assertEqual(self.parts.hearts.looks, 2)

    def test_obey(self) -> None:
        """Other options of the operator's reach whom they concern, and nobody else."""
        service = self.start(ip=(endpoint(5),))
        self.diary.clear()
        wanted = replace(
            self.parts.given,
            ip=(endpoint(6),),
            interfaces=("eth0",),
            peers_db_refresh=7.0,
            verbose=3,
            server="registry.example",
            server_port=9201,
        )
        service.obey(wanted)
        self.reactor.advance(1)
        self.assertEqual(service.status().endpoints, "192.0.2.6,1194,udp")
        self.assertEqual(self.parts.fake_babeld.told[-1].lan, ("eth0",))
        assert self.parts.fake_registry is not None
        self.assertIn(("declare", endpoint(6)), self.parts.fake_registry.calls)
        self.assertEqual(self.parts.fake_registry.where, "registry.example port 9201")
        # babeld is started anew, too: the openvpns wait until it knows the ways again.
        self.assertEqual(self.diary, [])
        self.reactor.advance(8)
        self.assertEqual(self.diary, ["vifs0 starts anew"])
        self.reactor.pump([1.0] * 8)
        self.assertGreaterEqual(self.parts.fake_registry.calls.count("peers"), 2)

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
        [served] = status["served"]
        self.assertEqual(
            (served["peer"], served["address"], served["server"]), ("9/16", "192.0.2.9", "vifs0")
        )
        self.assertEqual((served["since"], served["traffic"]), (NOW, 0))
        expires = self.parts.identity.certificate.not_valid_after_utc.timestamp()
        self.assertEqual(status["certificate_expires"], expires)
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
        self.assertEqual(status["registry"], {"connected": True, "since": NOW, "seen": None})
        self.assertEqual([each["name"] for each in status["children"]], ["babeld", "vifs0"])

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
