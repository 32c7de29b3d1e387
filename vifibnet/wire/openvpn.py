"""OpenVPN 2.6: its command lines, and the lines of its management interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint

SERVER_PROTOCOLS = ("udp", "tcp-server")
"""What an OpenVPN server may listen with (``--pp``); both take IPv4 and IPv6."""


@dataclass(frozen=True)
class OpenVPNSettings:
    """What all OpenVPN processes of a node have in common.

    ``hello`` is babeld's hello interval in seconds, ``mtu`` the taps' in bytes, ``verbose`` 0 to 5;
    ``key`` is None when the operator's ``extra`` arguments hold it. ``state`` gets the management sockets,
    ``log`` one file per tap.
    """

    ca: Path
    cert: Path
    key: Path | None
    state: Path
    log: Path
    hello: float = 15
    mtu: int = 1400
    verbose: int = 0
    extra: tuple[str, ...] = ()
    max_clients: int = 256

    def socket(self, tap: str) -> Path:
        """The management socket of the process that holds this tap."""
        return self.state / f"{tap}.sock"

    def log_file(self, tap: str) -> Path:
        """The log file of the process that holds this tap."""
        return self.log / f"vifibnet-openvpn-{tap}.log"


def server_command(settings: OpenVPNSettings, *, tap: str, port: int, proto: str) -> list[str]:
    """The command line of a server; ``proto`` is one of SERVER_PROTOCOLS."""
    raise NotImplementedError


def client_command(
    settings: OpenVPNSettings, *, tap: str, peer: Prefix, endpoints: Sequence[Endpoint]
) -> list[str]:
    """The command line of a client that tries each endpoint once and believes only ``peer``'s certificate."""
    raise NotImplementedError
