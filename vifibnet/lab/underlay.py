"""The network under the network: a namespace per host, and one with the bridge that joins them all.

Every name on the machine belongs to a lab: ``vifib-NAME-net`` and ``vifib-NAME-h0`` onwards. Nothing else
is ever touched, so labs of different names live side by side.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from vifibnet.errors import BadInput, CommandFailed
from vifibnet.lab.children import Reactor, run

NAMESPACES = Path("/run/netns")
ADDRESSES: dict[int, IPv4Network | IPv6Network] = {
    4: IPv4Network("192.0.2.0/24"),
    6: IPv6Network("3fff::/64"),
}
"""The hosts' underlay addresses, by IP version: documentation prefixes (RFC 5737, RFC 9637)."""

MAX_HOSTS = 200
INTERFACE = "eth0"
LAN = "lan0"

# What the two bridge ports of a pair send each other is dropped here, so that neither host can tell a cut
# from a lost cable far away: no error, no change on its own interface.
_BRIDGE_FILTER = """
table bridge vifibnet_lab {
  set cut { type ifname . ifname; }
  set dark { type ifname; }
  set apart { type ifname . ifname; }
  chain loss { }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname . oifname @cut drop
    iifname @dark drop
    oifname @dark drop
    iifname . oifname @apart meta l4proto udp drop
    jump loss
  }
}
"""


def check_name(name: str) -> str:
    """Return a lab's name. Raises BadInput unless it is one that namespaces and paths can carry."""
    if re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", name) is None:
        raise BadInput(
            "--name",
            f"{name!r} is no name for a lab",
            "use up to 31 lower-case letters, digits and dashes",
        )
    return name


class Underlay:
    """The hosts' namespaces and the wires between them; what is cut is known to the kernel alone."""

    def __init__(self, reactor: Reactor, name: str, version: int = 4) -> None:
        self.reactor = reactor
        self.name = check_name(name)
        self.version = version
        self.bridge = f"vifib-{name}-net"

    def namespace(self, host: int) -> str:
        """The name of a host's namespace."""
        return f"vifib-{self.name}-h{host}"

    def address(self, host: int) -> str:
        """A host's address in the underlay."""
        return str(ADDRESSES[self.version][host + 1])

    def inside(self, host: int, argv: Sequence[str]) -> list[str]:
        """The command line that runs ``argv`` on a host."""
        return ["ip", "netns", "exec", self.namespace(host), *argv]

    def existing(self) -> list[str]:
        """The namespaces of this lab that the machine has now."""
        ours = re.compile(rf"vifib-{re.escape(self.name)}-(net|h\d+)")
        with suppress(FileNotFoundError):
            return sorted(entry for entry in os.listdir(NAMESPACES) if ours.fullmatch(entry))
        return []

    async def claim(self) -> None:
        """Make the bridge's namespace. Raises CommandFailed where it exists: then it is another run's."""
        await self._ip(None, [f"netns add {self.bridge}"])

    async def create(self) -> None:
        """Make the bridges."""
        bridges = (f"link add {bridge} type bridge stp_state 0 mcast_snooping 0" for bridge in ("br0", LAN))
        await self._ip(self.bridge, [*bridges, "link set br0 up", f"link set {LAN} up"])
        await self._bridge_rules(_BRIDGE_FILTER)

    async def add(self, host: int, lan: bool = False) -> None:
        """Make a host and plug it in; with ``lan``, also into the LAN as ``lan0``, without an address."""
        name = self.namespace(host)
        wires = [(INTERFACE, f"h{host}", "br0")] + ([(LAN, f"l{host}", LAN)] if lan else [])
        await self._ip(None, [f"netns add {name}"])
        # Nobody else uses these addresses; looking for somebody who does would take two seconds.
        default = "/proc/sys/net/ipv6/conf/default/accept_dad"
        await run(self.reactor, self.inside(host, ["sh", "-c", f"echo 0 > {default}"]))
        await self._ip(
            None,
            [
                f"link add {inner} netns {name} type veth peer name {port} netns {self.bridge}"
                for inner, port, _ in wires
            ],
        )
        await self._ip(self.bridge, [f"link set {port} master {bridge} up" for _, port, bridge in wires])
        length = ADDRESSES[self.version].prefixlen
        await self._ip(
            name,
            [
                "link set lo up",
                f"address add {self.address(host)}/{length} dev {INTERFACE}" + " nodad" * (self.version == 6),
                *(f"link set {inner} up" for inner, _, _ in wires),
            ],
        )

    async def cut(self, a: int, b: int) -> None:
        """From now on silently drop everything that the two hosts send each other."""
        await self._nft("add", a, b)

    async def cut_one_way(self, source: int, target: int) -> None:
        """From now on silently drop everything that the one sends the other, but not its answers."""
        await self._bridge_rules(f'add element bridge vifibnet_lab cut {{ "h{source}" . "h{target}" }}')

    async def darken(self, hosts: Iterable[int]) -> None:
        """From now on, all at once, silently drop everything that these hosts send or are sent."""
        names = ", ".join(f'"h{host}"' for host in hosts)
        await self._bridge_rules(f"add element bridge vifibnet_lab dark {{ {names} }}")

    async def lose(self, a: int, b: int, percent: int) -> None:
        """From now on silently drop so much, at random, of what the two hosts send each other."""
        match = 'iifname "h{}" oifname "h{}" ' + f"numgen random mod 100 < {percent}"
        await self.drop(match.format(a, b), match.format(b, a))

    async def drop(self, *matches: str) -> None:
        """From now on silently drop the packets between hosts that one of these, in nft's words, describes.

        What comes from and goes to ``hN`` has that as its ``iifname`` and ``oifname``.
        """
        await self._bridge_rules(*(f"add rule bridge vifibnet_lab loss {match} drop" for match in matches))

    async def part(self, pairs: Iterable[tuple[int, int]]) -> None:
        """From now on and for good, silently drop the UDP packets that these pairs of hosts send each other:
        a tunnel over UDP between them is out of the question, but not the registry."""
        names = ", ".join(f'"h{a}" . "h{b}", "h{b}" . "h{a}"' for a, b in pairs)
        if names:
            await self._bridge_rules(f"add element bridge vifibnet_lab apart {{ {names} }}")

    async def mend(self) -> None:
        """Let everything pass again: no cut, no darkness, no loss."""
        await self._bridge_rules(
            "flush set bridge vifibnet_lab cut",
            "flush set bridge vifibnet_lab dark",
            "flush chain bridge vifibnet_lab loss",
        )

    async def readdress(self, host: int, old: str, new: str) -> None:
        """Give a host another address in the place of the one it has."""
        length = ADDRESSES[self.version].prefixlen
        nodad = " nodad" * (self.version == 6)
        await self._ip(
            self.namespace(host),
            [
                f"address delete {old}/{length} dev {INTERFACE}",
                f"address add {new}/{length} dev {INTERFACE}{nodad}",
            ],
        )

    async def heal(self, a: int, b: int) -> None:
        """Let the two hosts' packets pass again. Raises BadInput where they are not cut."""
        if frozenset((a, b)) not in await self.cuts():
            raise BadInput(f"h{a} h{b}", "these two are not cut", "see vifibnet lab status")
        await self._nft("delete", a, b)

    async def cuts(self) -> frozenset[frozenset[int]]:
        """The pairs of hosts that are cut now."""
        command = ["ip", "netns", "exec", self.bridge, "nft", "list", "set", "bridge", "vifibnet_lab", "cut"]
        text = (await run(self.reactor, command)).output
        pairs = re.findall(r'"h(\d+)" \. "h(\d+)"', text)
        return frozenset(frozenset((int(a), int(b))) for a, b in pairs)

    async def delete(self) -> None:
        """Remove every namespace of this lab; the wires and the bridge go with them."""
        for name in self.existing():
            # Somebody else may be at the same.
            with suppress(CommandFailed):
                await run(self.reactor, ["ip", "netns", "delete", name])

    def processes(self, hosts: Iterable[str] | None = None) -> dict[int, str]:
        """The processes in the given namespaces (all of this lab), each with its namespace."""
        wanted: dict[tuple[int, int], str] = {}
        for name in self.existing() if hosts is None else hosts:
            with suppress(OSError):
                status = os.stat(NAMESPACES / name)
                wanted[status.st_dev, status.st_ino] = name
        found: dict[int, str] = {}
        for entry in filter(str.isdigit, os.listdir("/proc") if wanted else ()):
            with suppress(OSError):
                status = os.stat(f"/proc/{entry}/ns/net")
                if (status.st_dev, status.st_ino) in wanted:
                    found[int(entry)] = wanted[status.st_dev, status.st_ino]
        return found

    async def _ip(self, namespace: str | None, lines: Iterable[str]) -> None:
        inside = ["-n", namespace] if namespace else []
        await run(self.reactor, ["ip", *inside, "-batch", "-"], stdin="".join(f"{line}\n" for line in lines))

    async def _nft(self, verb: str, a: int, b: int) -> None:
        elements = f'{{ "h{a}" . "h{b}", "h{b}" . "h{a}" }}'
        await self._bridge_rules(f"{verb} element bridge vifibnet_lab cut {elements}")

    async def _bridge_rules(self, *lines: str) -> None:
        text = "".join(f"{line}\n" for line in lines)
        await run(self.reactor, ["ip", "netns", "exec", self.bridge, "nft", "-f", "-"], stdin=text)


def overlaps_underlay(network: str) -> bool:
    """Whether a VPN network would swallow the addresses of the underlay."""
    vpn = ip_network(network)
    return any(vpn.version == under.version and vpn.overlaps(under) for under in ADDRESSES.values())
