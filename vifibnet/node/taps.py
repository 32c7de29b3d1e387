"""Our tap interfaces: a pool that may grow but never shrinks, because babeld forgets no interface."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from twisted.logger import Logger

from vifibnet.errors import CommandFailed

if TYPE_CHECKING:
    from vifibnet.interfaces import IKernel

_NAME = re.compile(r"vif[cs](0|[1-9][0-9]{0,3})", re.ASCII)


SPARE = 4
"""Taps beyond those for the clients that are wanted: a tunnel that seems to be dead, or does not come up, is
still there when another one is opened beside it, and when that does not come up either."""


def client_taps(count: int) -> tuple[str, ...]:
    """The taps of ``count`` OpenVPN clients: ``vifc0``, ``vifc1`` …"""
    return tuple(f"vifc{number}" for number in range(count))


def server_taps(count: int) -> tuple[str, ...]:
    """The taps of ``count`` OpenVPN servers: ``vifs0``, ``vifs1`` …"""
    return tuple(f"vifs{number}" for number in range(count))


def is_ours(name: str) -> bool:
    """Whether an interface's name is one of ours (at most 15 bytes, as Linux wants)."""
    return _NAME.fullmatch(name) is not None


class Taps:
    """The taps that there are. Every call that waits raises CommandFailed, unless it says otherwise."""

    log = Logger()

    def __init__(self, kernel: IKernel, servers: int, spare: int = 0) -> None:
        """None is there yet; ``servers`` will be needed besides the clients' taps, and ``spare`` ones more
        than there are clients, if there are any."""
        self._kernel = kernel
        self._spare = spare
        self._servers = server_taps(servers)
        self._mtus: dict[str, int] = {}

    @property
    def clients(self) -> tuple[str, ...]:
        """Those for clients, the first first."""
        return tuple(name for name in self._mtus if name not in self._servers)

    def with_servers(self, count: int) -> tuple[str, ...]:
        """The names of all there will be when ``count`` clients are wanted."""
        return (*client_taps(max(count + self._spare * (count > 0), len(self.clients))), *self._servers)

    async def clean(self) -> None:
        """Remove all, also those of an earlier run."""
        self._mtus = {}
        await self._kernel.clean()

    async def make(self, count: int, mtu: int) -> None:
        """Make those that are missing for ``count`` clients and the servers."""
        missing = [name for name in self.with_servers(count) if name not in self._mtus]
        if missing:
            await self._kernel.add_taps(missing, mtu)
            self._mtus |= dict.fromkeys(missing, mtu)

    async def shrink(self, mtu: int) -> None:
        """Let none have a greater MTU."""
        await self._set([name for name, now in self._mtus.items() if now > mtu], mtu)

    async def fit(self, name: str, mtu: int) -> None:
        """Give one this MTU: the openvpn that is about to hold it was told so, too. A failure is logged."""
        try:
            await self._set([name] if self._mtus.get(name, mtu) != mtu else [], mtu)
        except CommandFailed as error:
            self.log.error("{tap} keeps its MTU: {error}", tap=name, error=str(error))

    async def _set(self, names: list[str], mtu: int) -> None:
        if names:
            await self._kernel.set_mtu(names, mtu)
            self._mtus |= dict.fromkeys(names, mtu)
