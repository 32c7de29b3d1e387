"""Calls to peers in the test's own memory."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from zope.interface import implementer

from vifibnet.errors import PeerUnreachable
from vifibnet.interfaces import IPeerCaller
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.news import News
from vifibnet.model.visits import Visit
from vifibnet.node.knowledge import Knowledge


@implementer(IPeerCaller)
class FakeCaller:
    """Asks others' knowledge directly; ``calls`` has whom and what, ``gate`` holds all answers up."""

    def __init__(self, own: Prefix, peers: dict[Prefix, Knowledge] | None = None) -> None:
        self.own = own
        self.peers = peers if peers is not None else {}
        self.calls: list[Visit] = []
        self.told: list[tuple[Prefix, tuple[Endpoint, ...]]] = []
        self.gate: Deferred[None] | None = None

    async def visit(self, visit: Visit, own: Sequence[Endpoint]) -> list[News]:
        """As a real one does."""
        self.calls.append(visit)
        if self.gate is not None:
            await self.gate
        if visit.peer not in self.peers:
            raise PeerUnreachable(peer=str(visit.peer), problem="nobody is there")
        self.told.append((visit.peer, tuple(own)))
        theirs = self.peers[visit.peer]
        theirs.hear(self.own, [News(self.own, tuple(own), 0.0)])
        news = [News(visit.peer, theirs.here(), 0.0), *theirs.of(visit.wanted, self.own)]
        return [*news, *(theirs.sample(visit.count, self.own) if visit.count else ())]
