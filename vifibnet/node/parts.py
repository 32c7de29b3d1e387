"""The real parts that a node is made of. A test makes others with the same shape."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from ipaddress import IPv6Network
from random import Random
from typing import TYPE_CHECKING, Any

from vifibnet.interfaces import IKernel
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.ways import Health, Way
from vifibnet.node.authorities import Authorities
from vifibnet.node.babeld import Babeld, BabeldSettings
from vifibnet.node.client import Client
from vifibnet.node.config import NodeConfig
from vifibnet.node.documents import Documents, Keeper
from vifibnet.node.ends import Partners
from vifibnet.node.fragments import allow_fragments
from vifibnet.node.heartbeats import Heartbeats
from vifibnet.node.homes import Homes
from vifibnet.node.hurry import Hurry
from vifibnet.node.kernel import Kernel
from vifibnet.node.lock import Lock
from vifibnet.node.openvpn import OpenVPNClient
from vifibnet.node.openvpnserver import OpenVPNServer
from vifibnet.node.parameters import Parameters
from vifibnet.node.peers import PeerRefresh
from vifibnet.node.peertalk import Credentials, PeerTalk, Sights
from vifibnet.node.preflight import openvpn_settings, vacate
from vifibnet.node.renewal import Renewal
from vifibnet.node.revocations import RevocationFiles
from vifibnet.node.steadystore import SteadyStore
from vifibnet.node.taps import server_taps
from vifibnet.node.trust import Trust
from vifibnet.pki.certificates import Identity
from vifibnet.store.peers import PeerStore

if TYPE_CHECKING:
    from vifibnet.node.portmap.mapper import PortMapper
    from vifibnet.node.registryclient import RegistryClient


class Parts:
    """Makes each part when it is asked for. What only some nodes need is imported only then."""

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        config: NodeConfig,
        identity: Identity,
        calendar: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is made yet. ``calendar`` tells Unix time, by which certificates count."""
        self._calendar = calendar
        self._reactor = reactor
        self._rng = rng
        self._config = config
        self._identity = identity
        self.openvpn = openvpn_settings(config)

    def lock(self) -> Lock:
        """Take the lock. Raises BadInput when another node has it."""
        return Lock(self._config.state)

    def vacate(self) -> None:
        """End what a killed node has left running. Raises BadInput."""
        vacate(self._config)

    def store(self) -> PeerStore:
        """Open the peer database. Raises BadInput."""
        return SteadyStore.open(self._config.peers_db, self._identity.network)

    def kernel(self) -> IKernel:
        """The machine's network."""
        return Kernel(self._reactor, self._config.state, self._identity.prefix.link_local)

    def heartbeats(
        self,
        partners: Callable[[], Partners],
        babeld: Babeld,
        on_change: Callable[[], None],
        on_woken: Callable[[], None],
    ) -> Heartbeats:
        """What watches the tunnels."""
        return Heartbeats(
            self._reactor,
            self._identity.prefix.link_local,
            self._config.heartbeat,
            partners,
            lambda: babeld.neighbours,
            babeld.announced,
            babeld.elsewhere,
            babeld.unused,
            babeld.covered,
            on_change,
            on_woken,
            hello=self._config.hello,
        )

    def change(self, config: NodeConfig) -> None:
        """From now on, make parts for this config."""
        self._config = config
        self.openvpn = openvpn_settings(config)

    def parameters(self, authorities: Authorities, on_change: Callable[[NodeConfig], None]) -> Parameters:
        """What the network sets, as of our last run."""
        parameters = Parameters(self._config, authorities.cas, authorities.known, on_change)
        parameters.document.load()
        return parameters

    def babeld(
        self,
        taps: Sequence[str],
        on_change: Callable[[], None],
        kernel: IKernel,
        direct: Callable[[], dict[IPv6Network, Way]],
        health: Callable[[str, str], Health],
    ) -> Babeld:
        """The routing daemon, over all our taps and the operator's interfaces."""
        settings = self.babeld_settings(self._config, taps)
        made = Babeld(self._reactor, self._rng, settings, on_change, kernel, direct, health)
        link_local, length = settings.prefix.link_local, settings.network.subnet(settings.prefix).prefixlen
        made.hurry = Hurry(self._reactor, link_local, length, made)
        return made

    def babeld_settings(self, config: NodeConfig, taps: Sequence[str]) -> BabeldSettings:
        """What babeld is told."""
        return BabeldSettings(
            network=self._identity.network,
            prefix=self._identity.prefix,
            tunnels=tuple(taps),
            state=config.state,
            log=config.log,
            lan=config.interfaces,
            hello=config.hello,
            wireless=config.wireless,
            verbose=config.verbose,
            update_interval=config.update_interval,
            key=config.babel_key,
        )

    def authorities(self) -> Authorities:
        """Whom to believe. Raises BadInput."""
        config = self._config
        made = Authorities(self._calendar, config.state, config.ca, self._identity.cas)
        made.open()
        return made

    def trust(self, authorities: Authorities, on_change: Callable[[frozenset[Prefix]], None]) -> Trust:
        """Who was revoked. Raises BadInput."""
        files = RevocationFiles(self._config.state, authorities.cas, authorities.known)
        files.open()
        return Trust(files, self._identity.certificate.serial_number, on_change)

    def documents(self, keepers: Sequence[Keeper]) -> Documents:
        """What the registry says to everybody."""
        return Documents(self._reactor, self._rng, keepers)

    def renewal(
        self,
        authorities: Authorities,
        on_renewed: Callable[[], None],
        replace: Callable[[float, float], None],
    ) -> Renewal:
        """Our certificate."""
        return Renewal(
            self._reactor,
            self._rng,
            self._config,
            self._identity,
            authorities,
            on_renewed,
            replace,
            calendar=self._calendar,
        )

    def homes(self, kernel: IKernel) -> Homes:
        """What watches the machine's addresses."""
        return Homes(self._reactor, self._identity.network.ip_network, kernel.addresses)

    def servers(
        self,
        on_change: Callable[[], None],
        welcome: Callable[[Prefix, int | None], bool],
        before: Callable[[str], Awaitable[None]],
        homes: Homes,
    ) -> dict[str, OpenVPNServer]:
        """The openvpn servers by their taps; ``before(tap)`` is awaited before every start."""
        make = partial(OpenVPNServer, self._reactor, self._rng, self.openvpn, several=lambda: homes.several)
        taps = server_taps(len(self._config.pp))
        return {
            tap: make(tap, port, proto, on_change, welcome, partial(before, tap), allow_fragments)
            for tap, (port, proto) in zip(taps, self._config.pp, strict=True)
        }

    def connect(
        self, tap: str, peer: Prefix, endpoints: Sequence[Endpoint], on_change: Callable[[], None]
    ) -> Client:
        """An openvpn client, not started yet."""
        return OpenVPNClient(self._reactor, self.openvpn, tap, peer, endpoints, on_change)

    def registry(
        self,
        on_connected: Callable[[], None],
        on_seen: Callable[[], None],
        on_document: Callable[[], None],
        trust: Trust,
        renewal: Renewal,
        authorities: Authorities,
    ) -> RegistryClient | None:
        """The registry, if we were given one."""
        if self._config.server is None:
            return None
        from twisted.internet.endpoints import HostnameEndpoint

        from vifibnet.node.registryclient import RegistryClient
        from vifibnet.node.registryendpoint import RegistryEndpoint

        def address() -> HostnameEndpoint:
            config = self._config
            return HostnameEndpoint(self._reactor, config.server or "", config.server_port, timeout=10)

        return RegistryClient(
            self._reactor,
            self._rng,
            RegistryEndpoint(address, lambda: renewal.identity, authorities.cas),
            self._config.registry,
            on_connected,
            on_seen,
            on_document,
            trust.expel,
        )

    def talk(
        self,
        store: PeerStore,
        trust: Trust,
        renewal: Renewal,
        authorities: Authorities,
        sights: Sights,
        on_news: Callable[[], None],
    ) -> PeerTalk:
        """What nodes say to each other over the network itself."""
        config, me = self._config, self._identity
        them = Credentials(lambda: renewal.identity, authorities.cas, trust.files.welcome)
        how = (me.network, me.prefix, config.peer_port, config.peers_db_refresh)
        return PeerTalk(self._reactor, self._rng, *how, store, them, sights, on_news)

    def peers(
        self,
        registry: RegistryClient | None,
        store: PeerStore,
        endpoints: Callable[[], tuple[Endpoint, ...] | None],
        on_peers: Callable[[], None],
    ) -> PeerRefresh | None:
        """What asks the registry for peers, if there is one."""
        config = self._config
        if registry is None:
            return None
        return PeerRefresh(
            self._reactor,
            self._rng,
            registry,
            store,
            self._identity.prefix,
            interval=config.peers_db_refresh,
            wanted=config.connection_count,
            endpoints=endpoints,
            on_peers=on_peers,
        )

    def mapper(self, on_change: Callable[[], None]) -> PortMapper:
        """What asks gateways for ports; ``on_change`` is called when an endpoint has come or gone."""
        from vifibnet.node.portmap.mapper import make_mapper

        return make_mapper(self._reactor, self._rng, on_change=lambda _: on_change())
