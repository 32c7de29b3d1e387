"""What nodes say to each other over the network itself, put together: a port to be called on, and calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed

from vifibnet.interfaces import IPeerCaller
from vifibnet.model.addresses import Network, Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.node.asking import Asking
from vifibnet.node.knowledge import Knowledge
from vifibnet.node.peercaller import PeerCaller, over_the_network
from vifibnet.node.peerport import PeerFactory, PeerPort
from vifibnet.pki.certificates import CA, Identity
from vifibnet.pki.peertls import PeerContexts, Welcome
from vifibnet.store.peers import PeerStore
from vifibnet.wire.peertalk import ALPN


@dataclass(frozen=True)
class Credentials:
    """Who we are, whom we trust, and who is a member; each may change while we run."""

    identity: Callable[[], Identity]
    cas: Callable[[], Sequence[CA]]
    welcome: Welcome


@dataclass(frozen=True)
class Sights:
    """What the talk depends on, as it is at the moment.

    ``endpoints``: where we are reached, None while that is not known; ``tunnels``: whom ours lead to;
    ``others``: who else is a neighbour; ``revoked``: who is nobody's peer; ``wanted``: how many tunnels there
    should be; ``registry``: whether it answers.
    """

    endpoints: Callable[[], Sequence[Endpoint] | None]
    tunnels: Callable[[], frozenset[Prefix]]
    others: Callable[[], frozenset[Prefix]]
    revoked: Callable[[], frozenset[Prefix]]
    wanted: Callable[[], int]
    registry: Callable[[], bool]


class PeerTalk(Service):
    """Tells, asks and answers; with port 0 it does nothing."""

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        network: Network,
        own: Prefix,
        port: int,
        interval: float,
        store: PeerStore,
        credentials: Credentials,
        sights: Sights,
        on_news: Callable[[], None],
        caller: IPeerCaller | None = None,
    ) -> None:
        """``interval`` in seconds, as Asking's; ``on_news`` is called when the store holds something new."""
        self._port: PeerPort | None = None
        self._asking: Asking | None = None
        if port == 0:
            return
        knowledge = Knowledge(
            reactor, rng, store, own, sights.endpoints, sights.tunnels, sights.revoked, on_news
        )
        them = credentials
        reach = over_the_network(reactor, network, own, port)
        caller = caller or PeerCaller(reactor, reach, them.identity, them.cas, them.welcome)
        asking = self._asking = Asking(
            reactor,
            rng,
            caller,
            knowledge,
            lambda: (sights.tunnels() | sights.others()) - sights.revoked(),
            sights.registry,
            lambda: len(sights.tunnels()) < sights.wanted(),
            interval,
        )
        factory = PeerFactory(reactor, knowledge, them.welcome, asking.met)
        contexts = PeerContexts(them.identity, them.cas, them.welcome, ALPN)
        self._port = PeerPort(reactor, str(network.address(own)), port, contexts, factory)

    def startService(self) -> None:
        """Our address is there: be called, and call."""
        super().startService()
        if self._port is not None and self._asking is not None:
            self._port.startService()
            self._asking.startService()

    def stopService(self) -> Deferred[Any]:
        """Hang up; fires when nobody is listened to any more."""
        if not self.running or self._port is None or self._asking is None:
            return succeed(None)
        super().stopService()
        self._asking.stopService()
        return self._port.stopService()

    def look(self) -> None:
        """Who our neighbours are, or where we are reached, may have changed."""
        if self._asking is not None:
            self._asking.look()

    def failed(self, peer: Prefix) -> None:
        """No tunnel to this peer comes up."""
        if self._asking is not None:
            self._asking.failed(peer)
