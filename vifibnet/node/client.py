"""A tunnel of ours, as those who decide about it see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint


class Client(Protocol):
    """What OpenVPNClient is to us: one try to reach one peer."""

    up: bool
    full: bool
    since: float
    bytes: int
    remote: Endpoint | None
    ended: Deferred[str]

    def start(self) -> None:
        """Start the process; that it could not be started is a reason in ``ended``, too."""

    async def stop(self, *, farewell: bool = True) -> None:
        """End the tunnel, telling the other end if there is one; returns when the process is gone."""


Connect = Callable[[str, Prefix, Sequence[Endpoint], Callable[[], None]], Client]
"""Makes a client, not started yet: tap, peer, its endpoints, what to call when ``up`` has changed."""


Silent = Callable[[str, Prefix, float], float | None]
"""Since when nothing has been heard from a peer over a tap, for a tunnel that came up then; None while it is
heard."""
