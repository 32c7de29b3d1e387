"""What the operator asked for, checked as far as that goes without looking at the machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vifibnet.model.endpoints import Endpoint

SERVER_PROTOCOLS = ("udp", "tcp-server")
"""What ``--pp`` takes."""

DEFAULT_PORT = (1194, "udp")
"""The openvpn server that runs when no ``--pp`` is given."""


@dataclass(frozen=True)
class NodeConfig:
    """The options of ``twistd vifibnet-node``, named as in the manual. Durations are in seconds.

    ``ip``: what to advertise, verbatim; ``interfaces``: where LAN neighbours are looked for; ``pp``: port and
    protocol of each openvpn server; ``key``: also read from the openvpn arguments, which do not hold it any
    more; ``server`` None: the node lives from its peer database alone; ``dh``: accepted and unused.
    """

    ca: Path
    cert: Path
    key: Path
    ip: tuple[Endpoint, ...] = ()
    interfaces: tuple[str, ...] = ()
    peers_db_refresh: float = 3600.0
    log: Path = Path("/var/log")
    state: Path = Path("/var/lib/vifibnet")
    verbose: int = 0
    server: str | None = None
    server_port: int = 0
    hello: float = 15.0
    wireless: bool = False
    pp: tuple[tuple[int, str], ...] = (DEFAULT_PORT,)
    tunnel_refresh: float = 300.0
    dh: Path | None = None
    connection_count: int = 20
    refresh_rate: float = 0.05
    openvpn_args: tuple[str, ...] = ()
    main_interface: str = "lo"
    mtu: int = 1400

    @property
    def peers_db(self) -> Path:
        """The peer database."""
        return self.state / "peers.db"

    @property
    def babeld_state(self) -> Path:
        """Where babeld keeps its sequence number."""
        return self.state / "vifibnet.babeld.state"
