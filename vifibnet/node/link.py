"""One tunnel that we have opened, from its start until its tap is free again."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from twisted.internet.defer import Deferred

from vifibnet.model.addresses import Prefix
from vifibnet.model.status import TunnelStatus
from vifibnet.model.tunnels import Drop, Tunnel
from vifibnet.node.client import Client
from vifibnet.node.drain import Emptying
from vifibnet.wire.endpoints import format_endpoints


@dataclass
class Link:
    """One client until its process has ended, and its tap is free: then ``gone`` fires.

    ``reason`` is why it is there, or goes. ``up_at`` is when it came up; ``stopping`` from the decision to
    drop it; ``forced`` if that cannot be taken back, and ``rest`` if the peer is to be left alone afterwards;
    ``needed`` is when it was found to be the only way to somewhere.
    """

    tap: str
    peer: Prefix
    client: Client
    emptying: Emptying
    reason: str
    up_at: float | None = None
    stopping: bool = False
    forced: bool = False
    rest: bool = False
    needed: float = -inf
    gone: Deferred[None] = field(default_factory=Deferred)

    def drop(self, decision: Drop) -> None:
        """It is to end."""
        self.stopping, self.rest = True, decision.rest
        self.reason = f"being dropped: {decision.reason}"

    def stay(self, routes: int, now: float) -> None:
        """It is not, after all: so many routes that babel has installed would have no other way."""
        self.stopping, self.rest, self.needed = False, False, now
        only = f"the only way to {routes} subnet{'s' * (routes != 1)}"
        self.reason = only if routes else "its other end goes no other way"

    def observed(self, routes: int, rtt: float | None, failures: int, silent: float | None) -> Tunnel:
        """What the decisions are made by."""
        return Tunnel(
            tap=self.tap,
            peer=self.peer,
            up=self.client.up,
            since=self.client.since,
            routes=routes,
            traffic=self.client.bytes,
            rtt=rtt,
            failures=failures,
            stopping=self.stopping,
            needed=self.needed,
            silent=silent,
        )

    def status(self, routes: int) -> TunnelStatus:
        """The same for the operator's eyes."""
        remote = self.client.remote
        return TunnelStatus(
            tap=self.tap,
            peer=str(self.peer),
            remote=None if remote is None else format_endpoints([remote]),
            up=self.client.up,
            since=self.client.since,
            routes=routes,
            traffic=self.client.bytes,
            reason=self.reason,
        )
