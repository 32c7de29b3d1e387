"""babeld 1.12: its command line, and the lines of its control socket."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Network
from pathlib import Path

from vifibnet.model.addresses import Network, Prefix


@dataclass(frozen=True)
class BabeldSettings:
    """What babeld is told. ``tunnels`` are our taps (whether they exist yet or not), ``lan`` the operator's
    interfaces; ``hello`` in seconds; ``verbose`` 0 to 5; ``log`` is the directory of its log file."""

    network: Network
    prefix: Prefix
    tunnels: tuple[str, ...]
    state: Path
    log: Path
    lan: tuple[str, ...] = ()
    hello: float = 15
    wireless: bool = False
    verbose: int = 0

    @property
    def socket(self) -> Path:
        """Its control socket."""
        return self.state / "babeld.sock"

    @property
    def pid_file(self) -> Path:
        """Its pid file."""
        return self.state / "babeld.pid"

    @property
    def log_file(self) -> Path:
        """Its log file."""
        return self.log / "vifibnet-babeld.log"


@dataclass(frozen=True)
class Interface:
    """An interface as babeld sees it; ``address`` is its link-local one, or None while there is none."""

    name: str
    up: bool
    address: str | None = None


@dataclass(frozen=True)
class Neighbour:
    """Another babeld on an interface. ``cost`` 65535 means unreachable; ``rtt`` in milliseconds, or None."""

    id: str
    address: str
    interface: str
    reach: int
    rxcost: int
    txcost: int
    cost: int
    rtt: float | None = None


@dataclass(frozen=True)
class Xroute:
    """A route that babeld announces of its own."""

    id: str
    prefix: IPv6Network
    metric: int


@dataclass(frozen=True)
class Route:
    """A route that a neighbour, ``via``, announces. ``metric`` 65535 means unreachable."""

    id: str
    prefix: IPv6Network
    installed: bool
    metric: int
    refmetric: int
    via: str
    interface: str
