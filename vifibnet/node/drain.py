"""Silencing babel on a tap while its tunnel goes on carrying data: both ends move their routes elsewhere.

A tunnel that is closed while it carries routes loses packets until the other end notices, which takes it
three hello intervals. Raising the cost of an interface does not work in a running babeld (1.12); filters do.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import DeferredLock

from vifibnet.node.supervisor import run
from vifibnet.wire.babel import PORT

TABLE = "inet vifibnet_drain"
"""Our table of nftables; it is there only while something is silenced."""


def rules(taps: Iterable[str]) -> str:
    """What nft is to do, in one transaction, so that babel is silent on these taps and on no other."""
    lines = [f"add table {TABLE}", f"delete table {TABLE}"]
    taps = sorted(taps)
    if taps:
        lines.append(f"add table {TABLE}")
    for chain, word in (("input", "iifname"), ("output", "oifname")):
        if taps:
            lines.append(f"add chain {TABLE} {chain} {{ type filter hook {chain} priority 0; }}")
        lines += [f'add rule {TABLE} {chain} {word} "{tap}" udp dport {PORT} drop' for tap in taps]
    return "".join(f"{line}\n" for line in lines)


class Quiet(Protocol):
    """What Drain is to the tunnels. Both calls raise CommandFailed."""

    async def silence(self, tap: str) -> None:
        """Let no babel pass on this tap."""

    async def release(self, tap: str) -> None:
        """Let it pass again."""


class Drain:
    """Which taps are silenced. Every call raises CommandFailed, also where there is no nft."""

    def __init__(self, reactor: Any, state: Path) -> None:
        """``state`` gets a file that is there as long as there may be rules of ours, also after a crash."""
        self._reactor = reactor
        self._mark = state / "drain"
        self._taps: set[str] = set()
        self._lock = DeferredLock()

    async def clean(self) -> None:
        """Take all rules back, also those that a killed node left."""
        self._taps = set()
        if self._mark.exists():
            await self._apply()

    async def silence(self, tap: str) -> None:
        """Let no babel pass on this tap."""
        self._taps.add(tap)
        await self._apply()

    async def release(self, tap: str) -> None:
        """Let it pass again."""
        self._taps.discard(tap)
        await self._apply()

    async def _apply(self) -> None:
        """Make it so; one at a time, so that the last word is the last."""
        async with self._lock:
            if self._taps:
                self._mark.touch()
            await run(self._reactor, ["nft", "-f", "-"], rules(self._taps).encode())
            if not self._taps:
                self._mark.unlink(missing_ok=True)
