"""OpenVPN processes, watched through their management sockets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.wire.openvpn import OpenVPNSettings

__all__ = ["OpenVPNClient", "OpenVPNServer", "OpenVPNSettings", "Served", "refusal"]


@dataclass(frozen=True)
class Served:
    """A peer that is connected to our server: its OpenVPN client id, the address and port it comes from,
    when it came (the reactor's seconds) and the bytes both ways so far."""

    cid: int
    address: str
    port: int
    since: float
    bytes: int = 0


class OpenVPNClient:
    """One try to reach one peer: one process, which ends when the tunnel does.

    ``up`` says whether the tunnel stands, ``since`` when (the reactor's seconds) it came up, or else was
    started; ``bytes`` both ways so far; ``remote`` the endpoint that answered. ``ended`` fires once, with
    the reason in words, when the process has ended for whatever reason; it never fails.
    ``on_change`` is called when ``up`` has changed.
    """

    up: bool
    since: float
    bytes: int
    remote: Endpoint | None
    ended: Deferred[str]

    def __init__(
        self,
        reactor: Any,
        settings: OpenVPNSettings,
        tap: str,
        peer: Prefix,
        endpoints: Sequence[Endpoint],
        on_change: Callable[[], None],
    ) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Start the process."""
        raise NotImplementedError

    async def stop(self) -> None:
        """End the tunnel, telling the other side; returns when the process is gone."""
        raise NotImplementedError


class OpenVPNServer(Service):
    """One OpenVPN server, kept running.

    ``served`` are the peers connected now; ``on_change`` is called when their set has changed.
    """

    served: dict[Prefix, Served]

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        settings: OpenVPNSettings,
        tap: str,
        port: int,
        proto: str,
        on_change: Callable[[], None],
    ) -> None:
        raise NotImplementedError

    def startService(self) -> None:
        """Start the server."""
        raise NotImplementedError

    def stopService(self) -> Deferred[None]:
        """Stop the server, telling its clients; fires when the process is gone."""
        raise NotImplementedError

    def poll(self) -> None:
        """Ask openvpn now who is connected (it is asked every few seconds anyway)."""
        raise NotImplementedError

    async def kick(self, prefix: Prefix) -> None:
        """Disconnect a peer at once."""
        raise NotImplementedError


def refusal(settings: OpenVPNSettings) -> str | None:
    """What openvpn itself says against the operator's extra arguments, or None. Blocks some 20 ms: for
    checks before the reactor runs."""
    raise NotImplementedError
