"""The real parts that a node is made of. A test makes others with the same shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from vifibnet.interfaces import IKernel
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.node import nudge
from vifibnet.node.babeld import Babeld, BabeldSettings, Neighbour
from vifibnet.node.config import NodeConfig
from vifibnet.node.drain import Drain
from vifibnet.node.kernel import Kernel
from vifibnet.node.lock import Lock
from vifibnet.node.openvpn import OpenVPNClient, OpenVPNServer
from vifibnet.node.preflight import openvpn_settings
from vifibnet.node.renewal import Renewal
from vifibnet.node.revocations import RevocationFiles
from vifibnet.node.taps import client_taps, server_taps
from vifibnet.node.trust import Trust
from vifibnet.node.tunnels import Client
from vifibnet.pki.certificates import Identity
from vifibnet.store.peers import PeerStore

if TYPE_CHECKING:
    from vifibnet.node.portmap.mapper import PortMapper
    from vifibnet.node.registryclient import RegistryClient


class Parts:
    """Makes each part when it is asked for. What only some nodes need is imported only then."""

    def __init__(self, reactor: Any, rng: Random, config: NodeConfig, identity: Identity) -> None:
        """Nothing is made yet."""
        self._reactor = reactor
        self._rng = rng
        self._config = config
        self._identity = identity
        self._openvpn = openvpn_settings(config)

    def lock(self) -> Lock:
        """Take the lock. Raises BadInput when another node has it."""
        return Lock(self._config.state)

    def store(self) -> PeerStore:
        """Open the peer database. Raises BadInput."""
        return PeerStore.open(self._config.peers_db, self._identity.network)

    def kernel(self) -> IKernel:
        """The machine's network."""
        return Kernel(self._reactor, self._config.state)

    def drain(self) -> Drain:
        """What silences babel on a tap."""
        return Drain(self._reactor, self._config.state)

    def babeld(self, on_change: Callable[[], None], before: Callable[[], Awaitable[None]]) -> Babeld:
        """The routing daemon, over all our taps and the operator's interfaces."""
        config, identity = self._config, self._identity
        settings = BabeldSettings(
            network=identity.network,
            prefix=identity.prefix,
            tunnels=(*client_taps(config.connection_count), *server_taps(len(config.pp))),
            state=config.state,
            log=config.log,
            lan=config.interfaces,
            hello=config.hello,
            wireless=config.wireless,
            verbose=config.verbose,
        )
        return Babeld(self._reactor, self._rng, settings, on_change, before)

    def send_to(self, neighbour: Neighbour, packet: bytes) -> None:
        """Send a Babel packet to a neighbour of our babeld."""
        nudge.send(neighbour, packet)

    def trust(self, on_change: Callable[[frozenset[Prefix]], None]) -> Trust:
        """Who was revoked. Raises BadInput."""
        files = RevocationFiles(self._config.state, self._identity.ca)
        files.open()
        return Trust(self._reactor, self._rng, files, self._identity.certificate.serial_number, on_change)

    def renewal(
        self, on_renewed: Callable[[], None], holders: Callable[[], list[Callable[[], None]]]
    ) -> Renewal:
        """Our certificate."""
        return Renewal(self._reactor, self._rng, self._config, self._identity, on_renewed, holders)

    def servers(
        self, on_change: Callable[[], None], welcome: Callable[[Prefix, int | None], bool]
    ) -> dict[str, OpenVPNServer]:
        """The openvpn servers by their taps."""
        taps = server_taps(len(self._config.pp))
        return {
            tap: OpenVPNServer(self._reactor, self._rng, self._openvpn, tap, port, proto, on_change, welcome)
            for tap, (port, proto) in zip(taps, self._config.pp, strict=True)
        }

    def connect(
        self, tap: str, peer: Prefix, endpoints: Sequence[Endpoint], on_change: Callable[[], None]
    ) -> Client:
        """An openvpn client, not started yet."""
        return OpenVPNClient(self._reactor, self._openvpn, tap, peer, endpoints, on_change)

    def registry(
        self, on_connected: Callable[[], None], on_seen: Callable[[], None], trust: Trust, renewal: Renewal
    ) -> RegistryClient | None:
        """The registry, if we were given one."""
        config = self._config
        if config.server is None:
            return None
        from twisted.internet.endpoints import HostnameEndpoint

        from vifibnet.node.registryclient import RegistryClient
        from vifibnet.node.registryendpoint import RegistryEndpoint

        address = HostnameEndpoint(self._reactor, config.server, config.server_port, timeout=10)
        return RegistryClient(
            self._reactor,
            self._rng,
            RegistryEndpoint(address, lambda: renewal.identity),
            f"{config.server} port {config.server_port}",
            on_connected,
            on_seen,
            trust.ask,
            trust.expel,
        )

    def mapper(self, on_change: Callable[[], None]) -> PortMapper:
        """What asks gateways for ports; ``on_change`` is called when an endpoint has come or gone."""
        from vifibnet.node.portmap.mapper import make_mapper

        return make_mapper(self._reactor, self._rng, on_change=lambda _: on_change())
