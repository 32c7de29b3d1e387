"""What the node changes in the machine's network, and how it takes that back, also after a crash.

Every change is written down in ``kernel.json`` before it is made, with what takes it back.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2s
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from vifibnet.errors import CommandFailed
from vifibnet.interfaces import IKernel
from vifibnet.model.ways import Place, Way
from vifibnet.node.command import run
from vifibnet.node.taps import is_ours

BABEL = "42"
"""The protocol number that babeld's routes carry in the kernel."""

ANNOUNCED = ("static", "244")
"""The protocols that our subnet's route carries in turn; the second is nobody's."""

KEPT = "243"
"""The protocol number of the routes that we keep beside babeld's; nobody else's."""

KEPT_METRICS = (2048, 3072, 512)
"""Their metrics by rank: babeld's own have 1024, those of it that reject 65535, and ours LAST_RESORT."""

LAST_RESORT = 2**32 - 1
"""The metric of the route that keeps the network's traffic off the default route."""

TAP_SYSCTLS = {
    "disable_ipv6": "0",
    # The link-local address is usable at once, and the peer on the other side configures nothing of ours.
    "accept_dad": "0",
    "accept_ra": "0",
    "autoconf": "0",
    "accept_redirects": "0",
    # Without its openvpn a tap has no carrier: packets take the next way at once, whatever babel thinks.
    "ignore_routes_with_linkdown": "1",
}

RESOLVE = "retrans 100 ucast_probes 30 mcast_probes 30"
"""How a tap asks for the hardware address of a neighbour (RFC 4861): again after so many milliseconds, for
three seconds altogether as by default. The kernel forgets the addresses when a tap loses its carrier, and
would wait a second to ask again where the first question went into a tunnel that was just coming up."""

GROUP = 0x76696662
"""The group of the taps that are deleted, all at once: the kernel takes a twentieth of a second for each that
goes alone. Nobody else's."""

_SYSCTL = Path("/proc/sys/net/ipv6/conf")


@implementer(IKernel)
class Kernel:
    """The real machine, by iproute2 and /proc/sys."""

    log = Logger()

    def __init__(self, reactor: Any, state: Path, link_local: IPv6Address | None = None) -> None:
        """``state`` keeps a record of what was changed, for the start after a crash. ``link_local``: what the
        taps' address is to be, None for one made from each tap's own."""
        self._link_local = link_local
        self._reactor = reactor
        self._record = _Record(state / "kernel.json")
        self._address: IPv6Address | None = None
        self._subnet: IPv6Network | None = None
        self._announced = 0

    async def clean(self) -> None:
        """Remove whatever an earlier run left: our taps, our routes. Raises CommandFailed."""
        await self.restore()
        await self._delete([name for _, name in socket.if_nameindex() if is_ours(name)])

    async def add_taps(self, names: Sequence[str], mtu: int) -> None:
        """Make persistent taps that are up, with their link-local address alone. Raises CommandFailed."""
        self._record.add(reversed(_deletion(names)))
        try:
            await self._make(names, mtu)
        except CommandFailed:
            # What is there already would be in the way of the next try.
            try:
                await self._delete(names)
            except CommandFailed as error:
                self.log.warn("taps that were only half made stay: {error}", error=error)
            raise

    async def set_mtu(self, names: Sequence[str], mtu: int) -> None:
        """Give taps that are there another MTU. Raises CommandFailed."""
        await self._batch(f"link set dev {name} mtu {mtu}" for name in names)

    async def add_subnet(
        self, interface: str, address: IPv6Address, subnet: IPv6Network, network: IPv6Network
    ) -> None:
        """Own the subnet: the address on the interface, the rest of subnet and network unreachable.

        Turns forwarding on. Makes the interface (a dummy) when there is none. Raises CommandFailed.
        """
        self._record.network, self._address = str(network), address
        if interface not in (name for _, name in socket.if_nameindex()):
            self._record.add([f"link delete {interface}"])
            await self._add_dummy(interface)
        (link,) = json.loads(await self._ip("-json", "address", "show", "dev", interface))
        if "UP" not in link["flags"]:
            self._record.add([f"link set {interface} down"])
        self._set({_SYSCTL / interface / "disable_ipv6": "0"})
        if str(address) not in (known["local"] for known in link["addr_info"] if "local" in known):
            self._record.add([f"address delete {address}/128 dev {interface}"])
        reject = f"route {{}} unreachable {network} dev lo proto static metric {LAST_RESORT}"
        reject_own = f"route {{}} unreachable {subnet} dev lo"
        self._record.add([reject.format("delete"), reject_own.format("delete")])
        self._subnet = subnet
        await self._batch(
            [
                f"link set {interface} up",
                f"address replace {address}/128 dev {interface} nodad",
                reject.format("replace"),
                f"{reject_own.format('replace')} proto {ANNOUNCED[0]}",
            ]
        )
        self._forward()

    async def addresses(self) -> list[list[IPv4Address | IPv6Address]]:
        """The addresses of each interface that are valid beyond its link, but those of our taps'."""
        links = json.loads(await self._ip("-json", "address", "show", "scope", "global"))
        return [
            [ip_address(known["local"]) for known in link.get("addr_info", ()) if "local" in known]
            for link in links
            if not is_ours(link.get("ifname", ""))
        ]

    async def flush_routes(self) -> None:
        """Remove the routes that a killed babeld left behind in our network; before every babeld.

        What was kept beside them carries the packets until that one knows better. (babeld takes a route that
        is there for its own, whatever way that goes: leaving them would leave wrong ones.)
        """
        await self._batch(self._flushing(BABEL), "-6")

    async def announce(self) -> None:
        """Have babeld send our subnet to all neighbours now, not with its next full update.

        It does so when the protocol number of the route changes, and nothing else comes of that (babeld 1.12,
        check_xroutes). Raises CommandFailed.
        """
        if self._subnet is not None:
            self._announced += 1
            proto = ANNOUNCED[self._announced % 2]
            await self._batch([f"route replace unreachable {self._subnet} dev lo proto {proto}"])

    async def keep(self, put: Mapping[Place, Way], drop: Sequence[Place]) -> None:
        """Have these ways in our network beside babeld's, for when it has none, and those no more.

        Raises CommandFailed; what can be done is done nevertheless.
        """
        lines = [
            f"route replace {place.prefix} via {way.via} dev {way.interface} proto {KEPT} "
            f"metric {KEPT_METRICS[place.rank]} src {self._address}"
            for place, way in put.items()
        ]
        lines += [
            f"route delete {place.prefix} proto {KEPT} metric {KEPT_METRICS[place.rank]}" for place in drop
        ]
        await self._batch(lines, "-force", "-6")

    async def restore(self) -> None:
        """Take back everything that add_taps and add_subnet did. What cannot be taken back is logged."""
        # The administrator may have removed some of it meanwhile: the rest goes nevertheless.
        try:
            await self._batch([*self._flushing(BABEL, KEPT), *reversed(self._record.undo)], "-force", "-6")
        except CommandFailed as error:
            self.log.warn("not everything could be taken back: {error}", error=error)
        for path, value in self._record.sysctls.items():
            # An interface that has gone meanwhile has taken its sysctls with it.
            with suppress(CommandFailed):
                _write(Path(path), value)
        self._record.clear()
        self._subnet = None

    def _flushing(self, *protocols: str) -> list[str]:
        """The lines for ``ip -6 -batch`` that remove all routes of these protocols in our network."""
        network = self._record.network
        return [f"route flush root {network} proto {protocol}" for protocol in protocols if network]

    async def _make(self, names: Sequence[str], mtu: int) -> None:
        """Make all of them. Raises CommandFailed where some may be there, or half of one."""
        mode = "eui64" if self._link_local is None else "none"
        hardware = "" if self._link_local is None else f" address {hardware_address(self._link_local)}"
        await self._batch(
            line
            for name in names
            for line in (
                f"tuntap add dev {name} mode tap",
                f"link set dev {name} mtu {mtu} multicast on addrgenmode {mode}{hardware}",
                f"ntable change name ndisc_cache dev {name} {RESOLVE}",
            )
        )
        for name in names:
            for key, value in TAP_SYSCTLS.items():
                _write(_SYSCTL / name / key, value)
        lines = [f"link set dev {name} up" for name in names]
        if self._link_local is not None:
            lines += [f"address add {self._link_local}/64 dev {name} nodad" for name in names]
        await self._batch(lines)

    async def _delete(self, names: Sequence[str]) -> None:
        """Delete those of them that are there and taps: another kind of interface has its name by chance."""
        if names:
            links = json.loads(await self._ip("-json", "-details", "link", "show"))
            taps = {link["ifname"] for link in links if link.get("linkinfo", {}).get("info_kind") == "tun"}
            await self._batch(_deletion([name for name in names if name in taps]))

    async def _add_dummy(self, name: str) -> None:
        """Make an interface that leads nowhere. Raises CommandFailed."""
        try:
            await self._batch([f"link add {name} type dummy"])
        except CommandFailed:
            # Small kernels know no dummy; a bridge without ports is as good.
            await self._batch([f"link add {name} type bridge"])
        await self._batch([f"link set {name} up"])

    def _forward(self) -> None:
        """Make the machine a router, and leave every other interface the way it was.

        A router ignores router advertisements unless accept_ra is 2 (Linux, ip-sysctl).
        """
        everywhere = _SYSCTL / "all" / "forwarding"
        if _read(everywhere) != "0":
            return
        others = [path for path in _SYSCTL.iterdir() if path.name != "all" and not is_ours(path.name)]
        # Turning "all" off again turns every interface off: those that were on are put back after it.
        self._record.note([everywhere, *(path / "forwarding" for path in others)])
        self._set({path / "accept_ra": "2" for path in others if _hears_routers(path)})
        _write(everywhere, "1")

    def _set(self, values: dict[Path, str]) -> None:
        values = {path: value for path, value in values.items() if _read(path) != value}
        self._record.note(values)
        for path, value in values.items():
            _write(path, value)

    async def _ip(self, *arguments: str) -> str:
        return await run(self._reactor, ["ip", *arguments])

    async def _batch(self, lines: Iterable[str], *options: str) -> None:
        text = "".join(f"{line}\n" for line in lines)
        if text:
            await run(self._reactor, ["ip", *options, "-batch", "-"], text.encode())


def _deletion(taps: Sequence[str]) -> list[str]:
    """The lines for ``ip -batch`` that delete taps."""
    return [
        *(f"link set dev {name} group {GROUP}" for name in taps),
        *[f"link delete group {GROUP}"] * bool(taps),
    ]


def hardware_address(link_local: IPv6Address) -> str:
    """The hardware address (EUI-48, a locally administered one) of all taps of the node with this address.

    Whoever remembers where its packets go is right, also when it comes back over another tap, or after
    another start: what is remembered is used for seconds before it is doubted (RFC 4861, STALE and DELAY).
    """
    made = blake2s(link_local.packed, digest_size=6).digest()
    return bytes([made[0] & 0xFC | 0x02, *made[1:]]).hex(":")


class _Record:
    """What was changed, on disk before it is: lines for ``ip -batch`` that take it back (the last first),
    and the sysctls' old values (in the order they are to be written)."""

    def __init__(self, path: Path) -> None:
        """Begin with what a killed node has left, if that was here and since the machine was started:
        whatever comes next, also a stop, may write or remove the file."""
        self._path = path
        self.undo: list[str] = []
        self.sysctls: dict[str, str] = {}
        self.network = ""
        try:
            found = json.loads(self._path.read_text())
            if found.pop("where") == _where():
                self.undo, self.sysctls, self.network = found["undo"], found["sysctls"], found["network"]
        except (OSError, ValueError, KeyError, AttributeError, TypeError, CommandFailed):
            return

    def add(self, undo: Iterable[str]) -> None:
        """Note what will take the next change back. Raises CommandFailed."""
        self.undo += undo
        self._save()

    def note(self, paths: Iterable[Path]) -> None:
        """Note the values of some sysctls, before they are changed. Raises CommandFailed."""
        for path in paths:
            self.sysctls.setdefault(str(path), _read(path))
        self._save()

    def clear(self) -> None:
        """Everything is taken back. Raises CommandFailed."""
        self.undo, self.sysctls, self.network = [], {}, ""
        with _failing("remove", self._path):
            self._path.unlink(missing_ok=True)

    def _save(self) -> None:
        found = {"where": _where(), "undo": self.undo, "sysctls": self.sysctls, "network": self.network}
        # Rename alone will do: after a power cut there is nothing to take back.
        new = self._path.with_suffix(".new")
        with _failing("write", self._path):
            new.write_text(json.dumps(found, indent=1))
            new.replace(self._path)


def _where() -> str:
    """This boot of the machine, and this network namespace."""
    return f"{_read(Path('/proc/sys/kernel/random/boot_id'))} {os.readlink('/proc/self/ns/net')}"


def _hears_routers(path: Path) -> bool:
    """Whether an interface heeds router advertisements, as long as it does not forward."""
    return _read(path / "accept_ra") == "1" and _read(path / "forwarding") == "0"


def _read(path: Path) -> str:
    with _failing("read", path):
        return path.read_text().strip()


def _write(path: Path, value: str) -> None:
    """Write where that makes a difference: /proc/sys may well be read-only and right."""
    if _read(path) == value:
        return
    with _failing("write", path):
        path.write_text(value)


@contextmanager
def _failing(verb: str, path: Path) -> Iterator[None]:
    """Raise CommandFailed where the system refuses what is done to a file inside."""
    try:
        yield
    except OSError as error:
        raise CommandFailed(command=f"{verb} {path}", status=error.errno, output=error.strerror) from None
