"""babeld, kept running and watched through its control socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Any, TypeVar

from twisted.application.internet import ClientService
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver

from vifibnet.node.supervisor import Child, Exit, Supervisor
from vifibnet.wire import babeld as wire
from vifibnet.wire.babeld import BabeldSettings, Interface, Neighbour, Route, Xroute

__all__ = ["Babeld", "BabeldSettings", "Interface", "Neighbour", "Route", "Xroute"]

CONNECT_RETRY = 0.02
"""Seconds between two tries to reach the socket of a babeld that has just been started."""

Item = Interface | Neighbour | Xroute | Route
T = TypeVar("T", Interface, Neighbour, Xroute, Route)


class Babeld(Service):
    """One babeld. The tuples are what it told last; they are empty while it does not run.

    ``on_change`` is called (once for many lines) when an interface, a neighbour or a route has come, gone,
    gone up or down, or been installed or not; not when only a metric has changed.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        settings: BabeldSettings,
        on_change: Callable[[], None],
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``before`` is awaited before every start: Kernel.flush_routes."""
        self._reactor = reactor
        self._settings = settings
        self._on_change = on_change
        self._before = before
        self._items: dict[tuple[type, str], Item] = {}
        self._soon: IDelayedCall | None = None
        self._watcher = self._new_watcher()
        self.supervisor = Supervisor(
            reactor,
            rng,
            "babeld",
            lambda: wire.command(settings),
            log=settings.log_file,
            before=self._prepare,
            on_start=self._started,
            on_end=self._ended,
        )

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """The interfaces it knows."""
        return self._all(Interface)

    @property
    def neighbours(self) -> tuple[Neighbour, ...]:
        """The babelds it hears. (It forgets those behind an interface that went down only later.)"""
        up = {interface.name for interface in self.interfaces if interface.up}
        return tuple(neighbour for neighbour in self._all(Neighbour) if neighbour.interface in up)

    @property
    def xroutes(self) -> tuple[Xroute, ...]:
        """The routes it announces of its own."""
        return self._all(Xroute)

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes its neighbours announce."""
        return self._all(Route)

    def startService(self) -> None:
        """Start babeld."""
        super().startService()
        self.supervisor.startService()

    def stopService(self) -> Deferred[None]:
        """Stop it: it retracts its routes; fires when the process is gone."""
        super().stopService()
        return self.supervisor.stopService()

    def _all(self, kind: type[T]) -> tuple[T, ...]:
        return tuple(item for item in self._items.values() if isinstance(item, kind))

    def _new_watcher(self) -> ClientService:
        endpoint = UNIXClientEndpoint(self._reactor, str(self._settings.socket))
        factory = Factory.forProtocol(lambda: _Watcher(self))
        factory.noisy = False
        return ClientService(endpoint, factory, retryPolicy=lambda _: CONNECT_RETRY, clock=self._reactor)

    async def _prepare(self) -> None:
        """babeld refuses to start over the files that a killed one left."""
        for path in (self._settings.socket, self._settings.pid_file):
            with suppress(FileNotFoundError):
                path.unlink()
        if self._before is not None:
            await self._before()

    def _started(self, child: Child) -> None:
        self._watcher = self._new_watcher()
        self._watcher.startService()

    def _ended(self, end: Exit) -> None:
        self._watcher.stopService()
        self._replace({})

    def _replace(self, items: dict[tuple[type, str], Item]) -> None:
        """Everything anew."""
        changed = set(map(_shape, self._items.values())) != set(map(_shape, items.values()))
        self._items = items
        if changed:
            self._changed()

    def _apply(self, change: wire.Change) -> None:
        """One thing has changed."""
        key, item = _key(change.item), change.item
        before = self._items.get(key)
        # An interface that is down is flushed, but babeld goes on waiting for it.
        if change.verb == "flush" and not isinstance(item, Interface):
            if self._items.pop(key, None) is not None:
                self._changed()
            return
        self._items[key] = item
        if before is None or _shape(before) != _shape(item):
            self._changed()

    def _changed(self) -> None:
        if self._soon is None:
            self._soon = self._reactor.callLater(0, self._tell)

    def _tell(self) -> None:
        self._soon = None
        self._on_change()


class _Watcher(LineOnlyReceiver):
    """A connection to babeld's control socket: all that it has, then every change."""

    delimiter = b"\n"

    def __init__(self, babeld: Babeld) -> None:
        self._babeld = babeld
        self._replies = 0
        self._dump: dict[tuple[type, str], Item] = {}

    def lineReceived(self, line: bytes) -> None:
        event = wire.parse_monitor(line.decode(errors="replace"))
        if isinstance(event, wire.Reply):
            self._replies += 1
            if self._replies == 1:
                self.sendLine(b"monitor")
            elif self._replies == 2:
                self._babeld._replace(self._dump)
        elif event is not None and self._replies < 2:
            self._dump[_key(event.item)] = event.item
        elif event is not None:
            self._babeld._apply(event)


def _key(item: Item) -> tuple[type, str]:
    return type(item), item.name if isinstance(item, Interface) else item.id


def _shape(item: Item) -> tuple[object, ...]:
    """What about it matters enough to be told."""
    match item:
        case Interface():
            return Interface, item.name, item.up
        case Neighbour():
            return Neighbour, item.address, item.interface, item.cost < wire.INFINITY
        case Xroute():
            return Xroute, item.prefix
        case Route():
            return Route, item.prefix, item.via, item.interface, item.installed, item.reachable
