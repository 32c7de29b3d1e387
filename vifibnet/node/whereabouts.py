"""Where a node can be reached: what its operator says, or else what gateways grant and others see."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger

from vifibnet.model.addresses import Network
from vifibnet.model.endpoints import Endpoint
from vifibnet.node.config import NodeConfig
from vifibnet.node.external import endpoints_to_declare

if TYPE_CHECKING:
    from vifibnet.node.portmap.mapper import PortMapper

MAP_AFTER = 2.0
"""Seconds from the first tunnels to the search for a gateway."""


class Whereabouts:
    """Asks gateways to let others reach our servers, where the operator does not say where that is."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        config: NodeConfig,
        network: Network,
        make_mapper: Callable[[Callable[[], None]], PortMapper],
        seen: Callable[[], tuple[str | None, ...]],
        on_change: Callable[[], None],
    ) -> None:
        """``seen`` are the addresses that others see us come from; ``on_change`` is called when ``endpoints``
        may have changed, but for what is seen."""
        self._reactor = reactor
        self._config = config
        self._network = network
        self._make_mapper = make_mapper
        self._seen = seen
        self._on_change = on_change
        self._mapper: PortMapper | None = None
        self._mapping: Deferred[Any] = succeed(None)
        self._started = False

    def start(self) -> None:
        """The servers run."""
        self._started = True
        self._map()

    def change(self, config: NodeConfig) -> None:
        """Obey another config."""
        before, self._config = self._config, config
        if before.ip != config.ip:
            self._map()
            self._on_change()

    def stop(self) -> None:
        """Ask for nothing any more."""
        self._started = False
        self._mapping.cancel()

    async def close(self) -> None:
        """Give back what gateways have granted."""
        if self._mapper is not None:
            await self._mapper.close()

    def endpoints(self) -> tuple[Endpoint, ...] | None:
        """Where we can be reached; None while nobody has told us anything about that."""
        config = self._config
        seen = self._seen()
        mapped = self._mapper.endpoints if self._mapper is not None else ()
        if not config.ip and not mapped and not any(seen):
            return None
        return endpoints_to_declare(
            given=config.ip, mapped=mapped, seen=seen, servers=config.pp, network=self._network
        )

    def _map(self) -> None:
        if self._started and not self._config.ip and self._mapper is None and self._mapping.called:
            self._mapping = Deferred.fromCoroutine(self._map_ports())
            self._mapping.addErrback(lambda failure: failure.trap(CancelledError))
            self._mapping.addErrback(lambda failure: self.log.failure("mapping ports failed", failure))

    async def _map_ports(self) -> None:
        """Ask a gateway to let others reach our servers. That there is none is a normal answer."""
        # Loading the libraries holds everything up for a moment: the first tunnels are worth more.
        await deferLater(self._reactor, MAP_AFTER)
        self._mapper = self._make_mapper(self._on_change)
        for port, proto in self._config.pp:
            await self._mapper.map(port, proto)
            self._on_change()
