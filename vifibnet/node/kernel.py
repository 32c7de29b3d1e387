"""What the node changes in the machine's network, and how it takes that back, also after a crash."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

from zope.interface import implementer

from vifibnet.interfaces import IKernel


@implementer(IKernel)
class Kernel:
    """The real machine, by iproute2 and /proc/sys."""

    def __init__(self, reactor: Any, state: Path) -> None:
        """``state`` keeps a record of what was changed, for the start after a crash."""
        raise NotImplementedError

    async def clean(self) -> None:
        """Remove whatever an earlier run left: our taps, our routes, our babeld. Raises CommandFailed."""
        raise NotImplementedError

    async def add_taps(self, names: Sequence[str], mtu: int) -> None:
        """Make persistent taps that are up, with their link-local address alone. Raises CommandFailed."""
        raise NotImplementedError

    async def add_subnet(
        self, interface: str, address: IPv6Address, subnet: IPv6Network, network: IPv6Network
    ) -> None:
        """Own the subnet: the address on the interface, the rest of subnet and network unreachable.

        Turns forwarding on. Makes the interface (a dummy) when there is none. Raises CommandFailed.
        """
        raise NotImplementedError

    async def flush_routes(self) -> None:
        """Remove the routes that a killed babeld left behind in our network; before every babeld."""
        raise NotImplementedError

    async def restore(self) -> None:
        """Take back everything that add_taps and add_subnet did."""
        raise NotImplementedError
