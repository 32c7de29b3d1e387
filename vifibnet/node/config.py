"""What the operator asked for, checked as far as that goes without looking at the machine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vifibnet.model.endpoints import Endpoint
from vifibnet.model.parameters import PARAMETERS, Values
from vifibnet.wire.peertalk import PORT

SERVER_PROTOCOLS = ("udp", "tcp-server")
"""What ``--pp`` takes."""

DEFAULT_PORT = (1194, "udp")
"""The openvpn server that runs when no ``--pp`` is given."""


STATE = Path("/var/lib/vifibnet")
"""Where a node keeps its files when no ``--state`` is given."""


def _default(name: str) -> Any:
    """The manual's default of one of the network's parameters."""
    return PARAMETERS[name].default


@dataclass(frozen=True)
class NodeConfig:
    """The options of ``twistd vifibnet-node``, named as in the manual. Durations are in seconds.

    ``ip``: what to advertise, verbatim; ``interfaces``: where LAN neighbours are looked for; ``pp``: port and
    protocol of each openvpn server; ``key``: also read from the openvpn arguments, which do not hold it any
    more; ``server`` None: the node lives from its peer database alone; ``dh``: accepted and unused;
    ``peer_port``: where nodes talk to each other over the network itself, 0 for nowhere;
    ``given``: the network's parameters that the command line says, by name. ``roll`` and ``babel_key`` only
    the network says; the key is a secret.
    """

    ca: Path
    cert: Path
    key: Path
    ip: tuple[Endpoint, ...] = ()
    interfaces: tuple[str, ...] = ()
    peers_db_refresh: float = 3600.0
    log: Path = Path("/var/log")
    state: Path = STATE
    verbose: int = 0
    server: str | None = None
    server_port: int = 0
    hello: float = _default("hello")
    heartbeat: float = _default("heartbeat")
    wireless: bool = False
    pp: tuple[tuple[int, str], ...] = (DEFAULT_PORT,)
    tunnel_refresh: float = _default("tunnel-refresh")
    dh: Path | None = None
    connection_count: int = _default("connection-count")
    refresh_rate: float = _default("refresh-rate")
    openvpn_args: tuple[str, ...] = ()
    main_interface: str = "lo"
    fresh_key: bool = False
    mtu: int = _default("mtu")
    update_interval: float | None = _default("update-interval")
    max_clients: int = _default("max-clients")
    peer_port: int = PORT
    roll: float = _default("roll")
    babel_key: bytes | None = field(default=_default("babel-key"), repr=False)
    given: frozenset[str] = frozenset()

    @property
    def peers_db(self) -> Path:
        """The peer database."""
        return self.state / "peers.db"

    @property
    def registry(self) -> str:
        """Where the registry is, in words."""
        return f"{self.server} port {self.server_port}"

    @property
    def babeld_state(self) -> Path:
        """Where babeld keeps its sequence number."""
        return self.state / "vifibnet.babeld.state"

    @property
    def values(self) -> Values:
        """The values of the network's parameters that hold for this node."""
        values = {name: getattr(self, each.field) for name, each in PARAMETERS.items()}
        return {name: value for name, value in values.items() if value is not None}


def follow(config: NodeConfig, values: Values) -> NodeConfig:
    """The config that holds where the network sets these values: but what the command line says, wins."""
    followed: dict[str, Any] = {PARAMETERS[name].field: values[name] for name in values.keys() - config.given}
    return replace(config, **followed)
