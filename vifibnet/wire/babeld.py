"""babeld 1.12: its command line, and the lines of its control socket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

from vifibnet.model.addresses import Network, Prefix

INFINITY = 65535
"""A cost or metric that means unreachable (RFC 8966)."""

UPDATES = (2.0, 20.0)
"""Seconds between two full dumps of the routes, at least and at most; four hellos in between. A new neighbour
waits that long for what we know of others, and all of it costs some 30 bytes a route each time."""


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


def command(settings: BabeldSettings) -> list[str]:
    """babeld's command line. It reads no configuration file, sets no sysctl, and listens to nobody outside.

    It announces our subnet alone, believes routes inside the network alone, and none to our own subnet.
    Its router id is a new one at every start: what others remember of an earlier run cannot stand against us.
    """
    kind = "wireless" if settings.wireless else "tunnel"
    interfaces = [(name, kind) for name in settings.tunnels]
    interfaces += [(name, "wireless" if settings.wireless else "auto") for name in settings.lan]
    hello = _seconds(settings.hello)
    update = _seconds(min(max(4 * settings.hello, UPDATES[0]), UPDATES[1]))
    subnet = settings.network.subnet(settings.prefix)
    statements = [
        "skip-kernel-setup true",
        "random-id true",
        # A route heard of before its link's cost is known counts as infinitely long at first, and at half of
        # what is too much after each of these seconds: by default a direct way is shunned for half a minute.
        "smoothing-half-life 1",
        # A tap without its openvpn has no carrier: the neighbours behind it are gone at once.
        "link-detect true",
        f"redistribute ip {subnet} eq {subnet.prefixlen} allow",
        "redistribute local deny",
        "redistribute deny",
        f"in ip {subnet} deny",
        f"in ip {settings.network} ge {settings.network.length} allow",
        "in deny",
        f"install pref-src {settings.network.address(settings.prefix)}",
        *(
            f"interface {_quoted(name)} type {kind} hello-interval {hello} update-interval {update}"
            for name, kind in interfaces
        ),
    ]
    result = ["babeld", "-c", "/dev/null", "-h", hello, "-H", hello, "-d", str(settings.verbose)]
    result += ["-I", str(settings.pid_file), "-S", str(settings.state / "vifibnet.babeld.state")]
    result += ["-G", str(settings.socket), "-L", str(settings.log_file)]
    for statement in statements:
        result += ["-C", statement]
    return result


def _quoted(name: str) -> str:
    """An interface's name as a string of babeld's language."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _seconds(duration: float) -> str:
    """A duration with the three decimals that babeld reads."""
    return f"{duration:.3f}".rstrip("0").rstrip(".")


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
    """A route that a neighbour, ``via``, announces. ``metric`` 65535 means unreachable: such a route may be
    installed, too, as one that rejects."""

    id: str
    prefix: IPv6Network
    installed: bool
    metric: int
    refmetric: int
    via: str
    interface: str

    @property
    def reachable(self) -> bool:
        """Whether packets to the prefix go this way."""
        return self.installed and self.metric < INFINITY


@dataclass(frozen=True)
class Change:
    """babeld says that something is there (``verb`` add or change) or gone (flush)."""

    verb: str
    item: Interface | Neighbour | Xroute | Route


@dataclass(frozen=True)
class Reply:
    """The end of an answer: ``word`` is ok, no or bad."""

    word: str
    text: str = ""


def parse_monitor(line: str) -> Change | Reply | None:
    """One line of the control socket; None for what means nothing to us, whatever it is."""
    words = line.split()
    if words and words[0] in ("ok", "no", "bad"):
        return Reply(words[0], " ".join(words[1:]))
    if len(words) < 3 or words[0] not in ("add", "change", "flush") or len(words) % 2 == 0:
        return None
    verb, kind, name = words[:3]
    read = _READERS.get(kind)
    fields = dict(zip(words[3::2], words[4::2], strict=True))
    try:
        return Change(verb, read(name, fields)) if read is not None else None
    except (KeyError, ValueError):
        return None


def _interface(name: str, fields: dict[str, str]) -> Interface:
    return Interface(name, {"true": True, "false": False}[fields["up"]], fields.get("ipv6"))


def _neighbour(name: str, fields: dict[str, str]) -> Neighbour:
    return Neighbour(
        id=name,
        address=str(IPv6Address(fields["address"])),
        interface=fields["if"],
        reach=int(fields["reach"], 16),
        rxcost=int(fields["rxcost"]),
        txcost=int(fields["txcost"]),
        cost=int(fields["cost"]),
        rtt=float(fields["rtt"]) if "rtt" in fields else None,
    )


def _xroute(name: str, fields: dict[str, str]) -> Xroute:
    return Xroute(name, IPv6Network(fields["prefix"]), int(fields["metric"]))


def _route(name: str, fields: dict[str, str]) -> Route:
    return Route(
        id=name,
        prefix=IPv6Network(fields["prefix"]),
        installed={"yes": True, "no": False}[fields["installed"]],
        metric=int(fields["metric"]),
        refmetric=int(fields["refmetric"]),
        via=str(IPv6Address(fields["via"])),
        interface=fields["if"],
    )


_READERS: dict[str, Callable[[str, dict[str, str]], Interface | Neighbour | Xroute | Route]] = {
    "interface": _interface,
    "neighbour": _neighbour,
    "xroute": _xroute,
    "route": _route,
}
