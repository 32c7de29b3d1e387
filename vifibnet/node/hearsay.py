"""What the two ends of a tunnel tell each other: where we come from, and the registry's documents (gossip).

A server knows the address of everybody it serves. It says so to all nodes on its tap (multicast to ff02::1),
and each picks out what is said of itself. Only what comes in over the tap of a tunnel of ours counts: at its
other end is the one peer whose certificate we have checked.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from vifibnet.model.addresses import Prefix
from vifibnet.node.documents import Documents
from vifibnet.node.gossip import Gossip
from vifibnet.node.tapsocket import ALL_NODES, TapSocket, open_socket
from vifibnet.wire.hearsay import PORT, format_seen, parse_seen

REPEAT = 60.0
"""Seconds between two tellings of the same: the first may come before the other end listens."""

SOON = 1.0
"""Seconds from a peer's coming to the first telling: its tap must be up."""

Telling = tuple[str, Prefix, str]
"""Over which tap, to whom, and the address that it comes from."""


class Hearsay(Service):
    """Tells served peers where they come from, and hears it from those that serve us."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        own: Prefix,
        served: Callable[[], Iterable[Telling]],
        tunnels: Callable[[], Mapping[str, Prefix]],
        on_change: Callable[[], None],
        documents: Documents,
        make_socket: Callable[[], socket.socket] | None = None,
    ) -> None:
        """``served`` tells who is to be told what, ``tunnels`` the peer behind each tap whose tunnel is up.
        ``on_change`` is called when ``address`` may be another; ``documents`` are passed on."""
        self._reactor = reactor
        self._own = own
        self._served = served
        self._tunnels = tunnels
        self._on_change = on_change
        self._make_socket = make_socket or open_socket
        self._heard: dict[str, tuple[Prefix, str]] = {}
        self._socket: TapSocket | None = None
        self._gossip = Gossip(reactor, documents, self._taps, self._send)
        self._soon: Any = None
        self._loop = LoopingCall(self.tell)
        self._loop.clock = reactor

    @property
    def address(self) -> str | None:
        """Where most of the peers that we are connected to see us; None when none has told."""
        tunnels = self._tunnels()
        said = Counter(address for tap, (peer, address) in self._heard.items() if tunnels.get(tap) == peer)
        return said.most_common(1)[0][0] if said else None

    def startService(self) -> None:
        """Listen, and tell again and again. Without the port we only tell nobody anything."""
        super().startService()
        try:
            self._socket = TapSocket(self._reactor, self._make_socket(), self._datagram)
        except OSError as error:
            self.log.warn(
                "UDP port {port} cannot be used ({problem}): peers can tell us nothing",
                port=PORT,
                problem=error.strerror,
            )
            return
        self._socket.startReading()
        self._loop.start(REPEAT, now=False)
        self._gossip.start()

    def stopService(self) -> None:
        """Neither tell nor listen any more."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        if self._soon is not None and self._soon.active():
            self._soon.cancel()
        self._gossip.stop()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def served_changed(self) -> None:
        """Somebody has come: tell soon."""
        if self._socket is None:
            return
        self._gossip.somebody_came()
        if not (self._soon is not None and self._soon.active()):
            self._soon = self._reactor.callLater(SOON, self._tell_seen)

    def tell(self) -> None:
        """Tell everybody; what is lost is told again."""
        self._tell_seen()
        self._gossip.tell()

    def _tell_seen(self) -> None:
        for tap, peer, address in self._served():
            self._send(tap, format_seen(peer, address))

    def _taps(self) -> Counter[str]:
        """How many peers there are behind each tap: all that are listened to, and told anything."""
        return Counter([*self._tunnels(), *(tap for tap, _, _ in self._served())])

    def _send(self, interface: str, data: bytes, to: str = ALL_NODES) -> None:
        if self._socket is not None:
            self._socket.send(interface, data, to)

    def _datagram(self, data: bytes, tap: str, source: str) -> None:
        """Somebody has told something; over which tap is what makes it credible."""
        self._gossip.datagram(data, tap, source)
        said, peer = parse_seen(data), self._tunnels().get(tap)
        if said is None or said[0] != self._own or peer is None:
            return
        heard = peer, str(said[1])
        if self._heard.get(tap) != heard:
            self._heard[tap] = heard
            self.log.debug("{peer} sees us at {address}", peer=str(peer), address=heard[1])
            self._on_change()
