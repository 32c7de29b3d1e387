"""What is to be done when the machine has slept: most of those whom it had tunnels with have given it up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from vifibnet.model.silence import ANSWERS, GONE
from vifibnet.node.client import Silent
from vifibnet.node.openvpnserver import OpenVPNServer
from vifibnet.node.tunnels import Tunnels


class Waking:
    """Has the tunnels looked after, also those that others have with us."""

    log = Logger()

    def __init__(
        self, reactor: Any, tunnels: Tunnels, servers: Mapping[str, OpenVPNServer], silent: Silent
    ) -> None:
        """``servers`` by their taps; ``silent`` as Tunnels wants it."""
        self._reactor = reactor
        self._tunnels = tunnels
        self._servers = servers
        self._silent = silent
        self._later: IDelayedCall | None = None

    def woken(self) -> None:
        """The machine has just woken."""
        self.stop()
        self._tunnels.woken()
        self._dismiss(GONE)
        self._later = self._reactor.callLater(ANSWERS, self._dismiss, 0.0)

    def stop(self) -> None:
        """Do nothing any more."""
        if self._later is not None and self._later.active():
            self._later.cancel()

    def _dismiss(self, least: float) -> None:
        """openvpn would wait for those that are gone (silent for so many seconds at ``least``) for some more,
        and we would not connect to them because they are connected to us."""
        now = self._reactor.seconds()
        for tap, server in self._servers.items():
            for peer, served in list(server.served.items()):
                silent = self._silent(tap, peer, served.since)
                if silent is not None and now - silent >= least:
                    self.log.info("{peer} has left {tap} while this machine slept", peer=str(peer), tap=tap)
                    done = Deferred.fromCoroutine(server.kick(peer))
                    done.addErrback(lambda failure: self.log.failure("it cannot be disconnected", failure))
