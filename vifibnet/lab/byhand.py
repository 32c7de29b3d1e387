"""Openvpn tunnels between hosts of a lab, started by hand with the best settings known, to compare with ours.

They are chosen for speed: AES-256-GCM (openvpn's own choice), large socket buffers, ``--fast-io``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Network, ip_network

from vifibnet.lab.children import Child, run
from vifibnet.lab.network import Lab, NotReached
from vifibnet.lab.probe import SMALL, answers, full_size
from vifibnet.lab.stream import End

FIRST_PORT = 1195
_BEST = ("--sndbuf", "4194304", "--rcvbuf", "4194304", "--fast-io", "--ping", "1", "--ping-exit", "60")


@dataclass(frozen=True)
class Hop:
    """One tunnel of a chain: the hosts that its client and its server run on."""

    client: str
    server: str

    def other(self, name: str) -> str:
        """The end that is not this one."""
        return self.server if name == self.client else self.client


class Chain:
    """Tunnels one after the other, with static routes from each end to the other."""

    def __init__(self, lab: Lab, number: int, mtu: int, hops: Sequence[Hop], first: str) -> None:
        """``number`` tells it from other chains; ``first`` is the host at one end."""
        self.lab = lab
        self.number = number
        self.mtu = mtu
        self.hops = tuple(hops)
        self.names = [first]
        for hop in hops:
            self.names.append(hop.other(self.names[-1]))
        self._children: list[Child] = []

    @property
    def tap(self) -> str:
        """What the names of its taps begin with."""
        return f"hand{self.number}"

    def _subnet(self, hop: int) -> IPv6Network:
        """The addresses on one of the tunnels.

        The network's last ones, which no node has: with others, the nodes' servers would have to find out at
        which of their host's addresses they are asked (see node.homes).
        """
        last = int(ip_network(self.lab.settings.network).broadcast_address)
        return IPv6Network((last >> 48 << 48 | self.number << 32 | hop << 16, 112))

    def _address(self, hop: int, name: str) -> str:
        """The address of a host on one of the tunnels."""
        return str(self._subnet(hop)[self.names.index(name) + 1])

    @property
    def ends(self) -> tuple[End, End]:
        """The first host and the last."""
        first, last = self.names[0], self.names[-1]
        return (
            End(partial(self.lab.inside, first), self._address(0, first)),
            End(partial(self.lab.inside, last), self._address(len(self.hops) - 1, last)),
        )

    async def up(self) -> None:
        """Start them; return when full packets pass. Raises NotReached."""
        for number, hop in enumerate(self.hops):
            for name in (hop.server, hop.client):
                await self._start(number, hop, name)
        await self._route()
        first, last = self.ends
        sizes = (SMALL, full_size(self.mtu))
        found = await answers(self.lab.reactor, first.inside, [last.address], sizes=sizes, timeout=20)
        if len(found) < len(sizes):
            pairs = f"{self.names[0]} → {self.names[-1]}"
            raise NotReached(seconds=20.0, count=1, pairs=pairs, directory=self.lab.home)

    async def _start(self, number: int, hop: Hop, name: str) -> None:
        """One end of one tunnel."""
        tap, directory = f"{self.tap}{number}", self.lab.directory(name)
        for words in (
            ["tuntap", "add", "dev", tap, "mode", "tap"],
            ["address", "add", f"{self._address(number, name)}/112", "dev", tap, "nodad"],
            ["link", "set", "dev", tap, "mtu", str(self.mtu), "up"],
        ):
            await run(self.lab.reactor, self.lab.inside(name, ["ip", *words]))
        port = str(FIRST_PORT + 10 * self.number + number)
        if name == hop.server:
            role = ["--mode", "server", "--tls-server", "--dh", "none", "--proto", "udp4", "--port", port]
        else:
            role = ["--client", "--nobind", "--remote", self.lab.host(hop.server).underlay, port, "udp4"]
        files = ["--ca", "ca.pem", "--cert", "cert.crt", "--key", "cert.key"]
        device = ["--dev", tap, "--dev-type", "tap", "--tun-mtu", str(self.mtu), "--verb", "1"]
        command = self.lab.inside(name, ["openvpn", *role, *files, *device, *_BEST])
        child = Child(self.lab.reactor, command)
        child.start(directory)
        self._children.append(child)

    async def _route(self) -> None:
        """The ends of a chain of two know the way to the other's tunnel."""
        if len(self.hops) == 1:
            return
        first, middle, last = self.names
        for name, own, far in ((first, 0, 1), (last, 1, 0)):
            route = [str(self._subnet(far)), "via", self._address(own, middle)]
            await run(self.lab.reactor, self.lab.inside(name, ["ip", "-6", "route", "add", *route]))

    async def down(self) -> None:
        """End the tunnels. The taps go with the lab."""
        for child in self._children:
            await child.stop()
