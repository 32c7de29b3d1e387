"""babeld, kept running and watched through its control socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from vifibnet.wire.babeld import BabeldSettings, Interface, Neighbour, Route, Xroute

__all__ = ["Babeld", "BabeldSettings", "Interface", "Neighbour", "Route", "Xroute"]


class Babeld(Service):
    """One babeld. The tuples are what it told last; they are empty while it does not run.

    ``on_change`` is called (once for many lines) when an interface, a neighbour or a route has come, gone,
    gone up or down, or been installed or not; not when only a metric has changed.
    """

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        settings: BabeldSettings,
        on_change: Callable[[], None],
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``before`` is awaited before every start: Kernel.flush_routes."""
        raise NotImplementedError

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """The interfaces it knows."""
        raise NotImplementedError

    @property
    def neighbours(self) -> tuple[Neighbour, ...]:
        """The babelds it hears."""
        raise NotImplementedError

    @property
    def xroutes(self) -> tuple[Xroute, ...]:
        """The routes it announces of its own."""
        raise NotImplementedError

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes its neighbours announce."""
        raise NotImplementedError

    def startService(self) -> None:
        """Start babeld."""
        raise NotImplementedError

    def stopService(self) -> Deferred[None]:
        """Stop it: it retracts its routes; fires when the process is gone."""
        raise NotImplementedError
