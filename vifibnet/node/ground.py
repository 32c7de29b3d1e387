"""What a node stands on: its interfaces and its address on the machine."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger

from vifibnet.errors import CommandFailed
from vifibnet.interfaces import IKernel
from vifibnet.node.config import NodeConfig
from vifibnet.node.taps import Taps
from vifibnet.pki.certificates import Identity

LONGEST = 60.0
"""Seconds between two tries, at most."""


class Ground:
    """Makes them, and goes on trying: without them there is nothing to do."""

    log = Logger()

    def __init__(self, reactor: Any, rng: Random, identity: Identity, kernel: IKernel, taps: Taps) -> None:
        """Nothing is made yet."""
        self._reactor = reactor
        self._rng = rng
        self._identity = identity
        self._kernel = kernel
        self._taps = taps
        self._pause: Deferred[Any] = succeed(None)
        self._stopped = False

    async def make(self, config: Callable[[], NodeConfig]) -> None:
        """Return when all is there, as the config of that moment says, or when it is stopped."""
        network, prefix = self._identity.network, self._identity.prefix
        delay = 1.0
        while not self._stopped:
            wanted = config()
            try:
                await self._taps.clean()
                making = Deferred.fromCoroutine(self._taps.make(wanted.connection_count, wanted.mtu))
                try:
                    # Meanwhile: all of this is waiting for ip.
                    await self._kernel.add_subnet(
                        wanted.main_interface,
                        network.address(prefix),
                        network.subnet(prefix),
                        network.ip_network,
                    )
                finally:
                    await making
                return
            except CommandFailed as error:
                self.log.error("{error}; next try in {delay:.0f} s", error=str(error), delay=delay)
            self._pause = deferLater(self._reactor, delay * (0.5 + self._rng.random()))
            self._pause.addErrback(lambda failure: failure.trap(CancelledError))
            await self._pause
            delay = min(delay * 2, LONGEST)

    def stop(self) -> None:
        """Try no more."""
        self._stopped = True
        self._pause.cancel()
