"""babeld 1.12: its command line, its configuration, and the lines of its control socket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

from vifibnet.errors import BadInput
from vifibnet.model.addresses import Network, Prefix
from vifibnet.model.liveness import INFINITY

PORT = 6696
"""Babel's UDP port."""

UPDATES = (2.0, 20.0)
"""Seconds between two full dumps of the routes, at least and at most; four hellos in between. A new neighbour
waits that long for what we know of others, and all of it costs some 30 bytes a route each time."""


ASK_AGAIN = 0.2
"""Seconds within which a request for a lost route is repeated, twice."""

RTT_DECAY = 10
"""What a new round-trip time counts beside those before, of 256; there is one in three hellos. So the old
ones fade in some 77 seconds, at our hello interval as at babeld's own of 4 s with its 42. With more, the cost
of a tunnel changes with almost every one, and then babeld tells all its routes anew."""

NOTHING = ""
"""A line that changes nothing and tells of nothing: it is answered with ``ok``."""

KEY_LENGTHS = range(16, 33)
"""How many bytes a key may have: blake2s takes no more, and fewer could be guessed."""


@dataclass(frozen=True)
class BabeldSettings:
    """What babeld is told. ``tunnels`` are our taps (whether they exist yet or not), ``lan`` the operator's
    interfaces; ``hello`` in seconds; ``update_interval``, too, or None for one that suits the hello interval;
    ``key``: only who has it is believed; ``verbose`` 0 to 5; ``log`` is the directory of its log file.

    Raises BadInput for a key of a wrong length.
    """

    network: Network
    prefix: Prefix
    tunnels: tuple[str, ...]
    state: Path
    log: Path
    lan: tuple[str, ...] = ()
    hello: float = 15
    wireless: bool = False
    verbose: int = 0
    update_interval: float | None = None
    key: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.key is not None and len(self.key) not in KEY_LENGTHS:
            shortest, longest = KEY_LENGTHS[0], KEY_LENGTHS[-1]
            raise BadInput("babel key", f"it has {len(self.key)} bytes", f"give {shortest} to {longest}")

    @property
    def socket(self) -> Path:
        """Its control socket."""
        return self.state / "babeld.sock"

    @property
    def pid_file(self) -> Path:
        """Its pid file."""
        return self.state / "babeld.pid"

    @property
    def configuration_file(self) -> Path:
        """Its configuration; the key is in it."""
        return self.state / "vifibnet-babeld.conf"

    @property
    def log_file(self) -> Path:
        """Its log file."""
        return self.log / "vifibnet-babeld.log"

    @property
    def update(self) -> float:
        """Seconds between two full dumps of the routes."""
        if self.update_interval is not None:
            return self.update_interval
        return min(max(4 * self.hello, UPDATES[0]), UPDATES[1])


def command(settings: BabeldSettings) -> list[str]:
    """babeld's command line: everybody on the machine may read it, so what matters is in a file."""
    # Each interface has an interval of its own. This one decides how soon an unanswered request for a lost
    # route is asked again: after half of it.
    hello = _seconds(min(settings.hello, ASK_AGAIN))
    result = ["babeld", "-c", str(settings.configuration_file), "-h", hello, "-H", hello]
    result += ["-d", str(settings.verbose), "-I", str(settings.pid_file)]
    result += ["-S", str(settings.state / "vifibnet.babeld.state")]
    return [*result, "-G", str(settings.socket), "-L", str(settings.log_file)]


def configuration(settings: BabeldSettings) -> str:
    """babeld's configuration. It sets no sysctl, and listens to nobody outside.

    It announces our subnet alone, believes routes inside the network alone, and none to our own subnet.
    Its router id is a new one at every start: what others remember of an earlier run cannot stand against us.
    """
    subnet = settings.network.subnet(settings.prefix)
    statements = [
        "skip-kernel-setup true",
        "random-id true",
        # A metric counts as it is: smoothed ones would keep a direct way unused for half a minute, because a
        # route that is heard of before its link's cost is known counts as infinitely long at first.
        "smoothing-half-life 0",
        # A tap without its openvpn has no carrier: the neighbours behind it are gone at once.
        "link-detect true",
        f"redistribute ip {subnet} eq {subnet.prefixlen} allow",
        "redistribute local deny",
        "redistribute deny",
        f"in ip {subnet} deny",
        f"in ip {settings.network} ge {settings.network.length} allow",
        "in deny",
        f"install pref-src {settings.network.address(settings.prefix)}",
        *_set_key(settings),
        *(_add_interface(settings, name) for name in _interfaces(settings)),
    ]
    return "".join(f"{statement}\n" for statement in statements)


def change(old: BabeldSettings, new: BabeldSettings) -> tuple[str, ...] | None:
    """The lines that make a running babeld with the old settings obey the new ones; None when only another
    start does.

    It takes a new value for a key that it has, and new interfaces; whatever else is said of an interface that
    it has is answered with ``ok`` and forgotten.
    """
    before, after = _interfaces(old), _interfaces(new)
    added = [name for name in after if name not in before]
    same = replace(old, key=new.key, tunnels=new.tunnels, lan=new.lan)
    if same != new or not before.items() <= after.items() or (old.key is None) != (new.key is None):
        return None
    return (*(_set_key(new) if old.key != new.key else ()), *(_add_interface(new, name) for name in added))


def _interfaces(settings: BabeldSettings) -> dict[str, bool]:
    """All interfaces, and whether each is a tunnel."""
    return {name: name in settings.tunnels for name in (*settings.tunnels, *settings.lan)}


def _set_key(settings: BabeldSettings) -> tuple[str, ...]:
    """What gives the key its value."""
    if settings.key is None:
        return ()
    return (f"key id vifibnet type blake2s128 value {settings.key.hex()}",)


def _add_interface(settings: BabeldSettings, name: str) -> str:
    """What adds an interface, with all parameters: defaults do not hold for one that is added later."""
    kind = "tunnel" if name in settings.tunnels else "auto"
    words = [f"interface {_quoted(name)} type {'wireless' if settings.wireless else kind}"]
    words += [f"hello-interval {_seconds(settings.hello)} update-interval {_seconds(settings.update)}"]
    if name in settings.tunnels:
        words.append(f"rtt-decay {RTT_DECAY}")
    # openvpn authenticates the tunnels, and node.prompter has no key.
    signed = settings.key is not None and name not in settings.tunnels
    return " ".join(words + (["key vifibnet"] if signed else []))


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


@lru_cache(maxsize=4096)
def _address(text: str) -> str:
    """An address as everybody spells it. The same few are read all the time. Raises ValueError."""
    return str(IPv6Address(text))


@lru_cache(maxsize=4096)
def _prefix(text: str) -> IPv6Network:
    """Likewise."""
    return IPv6Network(text)


def _interface(name: str, fields: dict[str, str]) -> Interface:
    return Interface(name, {"true": True, "false": False}[fields["up"]], fields.get("ipv6"))


def _neighbour(name: str, fields: dict[str, str]) -> Neighbour:
    return Neighbour(
        id=name,
        address=_address(fields["address"]),
        interface=fields["if"],
        reach=int(fields["reach"], 16),
        rxcost=int(fields["rxcost"]),
        txcost=int(fields["txcost"]),
        cost=int(fields["cost"]),
        rtt=float(fields["rtt"]) if "rtt" in fields else None,
    )


def _xroute(name: str, fields: dict[str, str]) -> Xroute:
    return Xroute(name, _prefix(fields["prefix"]), int(fields["metric"]))


def _route(name: str, fields: dict[str, str]) -> Route:
    return Route(
        id=name,
        prefix=_prefix(fields["prefix"]),
        installed={"yes": True, "no": False}[fields["installed"]],
        metric=int(fields["metric"]),
        refmetric=int(fields["refmetric"]),
        via=_address(fields["via"]),
        interface=fields["if"],
    )


_READERS: dict[str, Callable[[str, dict[str, str]], Interface | Neighbour | Xroute | Route]] = {
    "interface": _interface,
    "neighbour": _neighbour,
    "xroute": _xroute,
    "route": _route,
}
