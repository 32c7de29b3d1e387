"""babeld, kept running and watched through its control socket."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv6Network
from random import Random
from typing import Any

from twisted.application.internet import ClientService
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, TimeoutError
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from vifibnet.errors import BabeldDeaf
from vifibnet.files import write_atomically
from vifibnet.interfaces import IKernel
from vifibnet.model.liveness import DRAINED, INFINITY
from vifibnet.model.tunnels import destinations
from vifibnet.model.ways import Health, Offer, Way
from vifibnet.node.hurry import Hurry
from vifibnet.node.monitor import Monitor
from vifibnet.node.pace import CALM
from vifibnet.node.supervisor import Child, Exit, Supervisor
from vifibnet.node.told import Item, Told
from vifibnet.node.watchdog import Watchdog
from vifibnet.node.ways import Ways
from vifibnet.wire import babeld as wire
from vifibnet.wire.babeld import BabeldSettings, Interface, Neighbour, Route, Xroute

__all__ = ["Babeld", "BabeldSettings", "Interface", "Neighbour", "Route", "Xroute"]

CONNECT_RETRY = 0.02
"""Seconds between two tries to reach the socket of a babeld that has just been started."""

ANSWER = 5.0
"""Seconds that a babeld may take to answer, also one that has just been started."""

HOLD = (3.0, 4)
"""A route that babel has given up is kept in the kernel for so many seconds and so many hello intervals more.

When a babeld is killed and started again, its neighbours lose each other for one hello interval, and routes
over it for 1.3 s at hello 0.2 and 0.5 (the longest of 16); with the routes kept, not one of 100 pings a
second was lost on four nodes in a row.
"""

GREETINGS = 0.2
"""Seconds between two announcements of our subnet to newcomers, at least."""

LEARN = 1.5
"""A babeld that was started again hears of all routes within so many update intervals: its question for them
is not answered while its neighbours do not know its signature yet."""


WARY = 1.0
"""Seconds for which everything that babeld says is read at once when a way has been lost."""


class Babeld(Service):
    """One babeld. The tuples are what it told last, metrics but for a little; they are empty while it does
    not run.

    ``on_change`` is called (once for many lines) when an interface, a neighbour or a route has come, gone,
    gone up or down, become usable or direct, or been installed, or not any more; not when only a metric has
    changed. ``on_neighbour``, which may be set, is called when anything about a neighbour has, ``on_learnt``
    when it is not ``learning`` any more; ``leisure``, too, tells for how many seconds what it says may wait
    when no way is lost. ``hurry`` runs while babeld does, if it is set before.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        settings: BabeldSettings,
        on_change: Callable[[], None],
        kernel: IKernel,
        direct: Callable[[], Mapping[IPv6Network, Way]] = dict,
        health: Callable[[str, str], Health] = lambda *_: Health.UNKNOWN,
    ) -> None:
        """Nothing runs yet. ``direct``: the ways to those at the other ends of our tunnels; ``health``: what
        others know about a neighbour, by interface and link-local address; ``look`` is to be called when
        either changes."""
        self._reactor = reactor
        self._settings = settings
        self._on_change = on_change
        self._kernel = kernel
        self._told = Told()
        self._soon: IDelayedCall | None = None
        self._lock = DeferredLock()
        self._link: Monitor | None = None
        self._waiting: list[Deferred[Monitor]] = []
        self._known = False
        self._learnt: IDelayedCall | None = None
        self._ways = Ways(reactor, kernel.keep, self._tells, direct, health)
        self._greeting: IDelayedCall | None = None
        self._newcomers = False
        self.on_neighbour: Callable[[], None] = lambda: None
        self.on_learnt: Callable[[], None] = lambda: None
        self.leisure: Callable[[], float] = lambda: CALM
        self._wary = 0.0
        self.hurry: Hurry | None = None
        self._watcher = self._new_watcher()
        self.supervisor = Supervisor(
            reactor,
            rng,
            "babeld",
            lambda: wire.command(self._settings),
            log=settings.log_file,
            before=self._prepare,
            on_start=self._started,
            on_end=self._ended,
        )
        self._watchdog = Watchdog(reactor, self.supervisor.hangs, self._ask_for_life)

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """The interfaces it knows."""
        return self._told.all(Interface)

    @property
    def neighbours(self) -> tuple[Neighbour, ...]:
        """The babelds it hears. (It forgets those behind an interface that went down only later.)"""
        up = {interface.name for interface in self.interfaces if interface.up}
        return tuple(neighbour for neighbour in self._told.all(Neighbour) if neighbour.interface in up)

    @property
    def xroutes(self) -> tuple[Xroute, ...]:
        """The routes it announces of its own."""
        return self._told.all(Xroute)

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes its neighbours announce."""
        return self._told.all(Route)

    @property
    def learning(self) -> bool:
        """Whether it does not run, or has just begun, and may not know yet what the one before knew."""
        return not self._tells() or self._learnt is not None

    def is_tunnel(self, interface: str) -> bool:
        """Whether that is one of our taps, rather than one of the operator's interfaces."""
        return interface in self._settings.tunnels

    def offers(self, prefix: IPv6Network) -> Collection[Offer]:
        """The ways to a destination that its neighbours announce."""
        return self._ways.around.offers(prefix)

    def count(self) -> int:
        """How many destinations its neighbours announce."""
        return len(self._ways.around.prefixes)

    def announced(self) -> Iterator[IPv6Network]:
        """Where it leads others to."""
        yield from (each.prefix for each in self.xroutes)
        yield from (each.prefix for each in self.routes if each.reachable)

    def elsewhere(self, interface: str, via: str) -> Mapping[Way, Sequence[IPv6Network]]:
        """For what goes via this neighbour, who has the shortest other way."""
        return self._ways.around.elsewhere(Way(via, interface))

    def destinations(self) -> frozenset[frozenset[str]]:
        """Over which interfaces each destination can be reached, if what neighbours announce does not lead
        back over us; the kept ways count where babel has none, and while it does not run."""
        found = [(each.prefix, each.interface) for each in self.routes if each.metric < INFINITY]
        known = {prefix for prefix, _ in found}
        return destinations(found + [each for each in self._ways.kept() if each[0] not in known])

    def spares(self, interface: str) -> bool:
        """Whether every destination that is reached over this interface is reached over another one, too."""
        return frozenset([interface]) not in self.destinations() and self._ways.around.spares(interface)

    def unused(self, interface: str, via: str) -> bool:
        """Whether this neighbour, which is being left, carries nothing that has a better way."""
        return self._ways.around.unused(Way(via, interface), DRAINED)

    def covered(self, interface: str, via: str) -> bool:
        """Whether others offer a way to all that goes via this neighbour."""
        return self._ways.covered(Way(via, interface))

    def startService(self) -> None:
        """Start babeld."""
        super().startService()
        if self.hurry is not None:
            self.hurry.on_trouble = self._beware
            self.hurry.startService()
        self.supervisor.startService()

    def stopService(self) -> Deferred[None]:
        """Stop it: it retracts its routes; fires when the process is gone."""
        super().stopService()
        self._ways.stop()
        if self.hurry is not None and self.hurry.running:
            self.hurry.stopService()
        if self._greeting is not None:
            self._greeting.cancel()
            self._greeting = None
        waiting, self._waiting = self._waiting, []
        for linked in waiting:
            linked.cancel()
        return self.supervisor.stopService()

    def look(self) -> None:
        """Tunnels have come or gone, or something else is known about a neighbour."""
        self._ways.look()

    async def change(self, settings: BabeldSettings) -> None:
        """Obey other settings: at once where babeld can, else by another start, which loses no packet.

        Raises BabeldDeaf when babeld does not answer even then; it goes on being started with the settings.
        """
        async with self._lock:
            lines = wire.change(self._settings, settings)
            self._settings = settings
            # One that does not run at the moment is started with the new settings anyway.
            if self.supervisor.child is None or lines == ():
                return
            if lines is None or not await self._tell_all(lines):
                self._link = None
                self.supervisor.restart()
                if not await self._tell_all(()) and self.running:
                    raise BabeldDeaf(seconds=ANSWER)

    async def _tell_all(self, lines: tuple[str, ...]) -> bool:
        """Say the lines to babeld; whether it has taken them all."""
        try:
            link = await self._linked()
            for line in lines:
                reply = await link.ask(line).addTimeout(ANSWER, self._reactor)
                if reply.word != "ok":
                    # The line may hold the key.
                    self.log.warn("babeld refuses a line about its {what}", what=line.split()[0])
                    return False
        except (CancelledError, ConnectionError, TimeoutError):
            return False
        return True

    async def _linked(self) -> Monitor:
        """The connection to a babeld that has told what it has."""
        if self._link is not None:
            return self._link
        linked: Deferred[Monitor] = Deferred()
        self._waiting.append(linked)
        return await linked.addTimeout(ANSWER, self._reactor)

    def _new_watcher(self) -> ClientService:
        endpoint = UNIXClientEndpoint(self._reactor, str(self._settings.socket))
        factory = Factory.forProtocol(lambda: Monitor(self._reactor, self))
        factory.noisy = False
        return ClientService(endpoint, factory, retryPolicy=lambda _: CONNECT_RETRY, clock=self._reactor)

    async def _prepare(self) -> None:
        """babeld refuses to start over the files that a killed one left."""
        await self._kernel.flush_routes()
        for path in (self._settings.socket, self._settings.pid_file):
            with suppress(FileNotFoundError):
                path.unlink()
        # Only now: the settings may have changed while the routes were removed.
        file = self._settings.configuration_file
        write_atomically(file, wire.configuration(self._settings).encode(), mode=0o600, overwrite=True)

    def _started(self, child: Child) -> None:
        hold = HOLD[0] + HOLD[1] * self._settings.hello
        learning = LEARN * self._settings.update
        self._ways.started(hold, learning)
        self._learnt = self._reactor.callLater(learning, self._learn_no_more)
        self._watcher = self._new_watcher()
        self._watcher.startService()
        self._watchdog.start()

    def _learn_no_more(self) -> None:
        self._learnt = None
        self.on_learnt()

    def _ended(self, end: Exit) -> None:
        self._watchdog.stop()
        if self._learnt is not None:
            self._learnt.cancel()
            self._learnt = None
        self._watcher.stopService()
        self._link, self._known = None, False
        self._settings.configuration_file.unlink(missing_ok=True)
        self._replace(Told())

    def known(self, link: Monitor, told: Told) -> None:
        """babeld has told all that it has (as a Listener of its monitor, like ``lost``, ``changed`` and
        ``patience``)."""
        self._watchdog.answered()
        self._link, self._known = link, True
        self._replace(told)
        waiting, self._waiting = self._waiting, []
        for linked in waiting:
            linked.callback(link)

    def patience(self) -> float:
        """For how many seconds what it says may wait."""
        return 0.0 if self._reactor.seconds() < self._wary else self.leisure()

    def _beware(self) -> None:
        """Somebody has lost a way: what follows from that is not to wait."""
        self._wary = self._reactor.seconds() + WARY
        if self._link is not None:
            self._link.hasten()

    def _ask_for_life(self) -> None:
        """Whatever it answers will do. Without a connection there is nobody to ask, and no answer."""
        if self._link is not None:
            answer = self._link.ask(wire.NOTHING)
            answer.addCallbacks(
                lambda _: self._watchdog.answered(), lambda failure: failure.trap(ConnectionError)
            )

    def _greet(self) -> None:
        """Tell a newcomer of our subnet: of itself babeld would not, until its next full update."""
        self._newcomers = True
        if self._greeting is None:
            self._greet_now()

    def _greet_now(self) -> None:
        self._greeting = None
        if not (self._newcomers and self.running):
            return
        self._newcomers = False
        self._greeting = self._reactor.callLater(GREETINGS, self._greet_now)
        Deferred.fromCoroutine(self._kernel.announce()).addErrback(
            lambda failure: self.log.warn("could not announce our subnet: {error}", error=failure.value)
        )

    def _tells(self) -> bool:
        """Whether it has told all that it has, and will go on."""
        return bool(self._known and self.running)

    def _is_mute(self) -> bool:
        """Whether it does not announce our subnet: it has read the kernel's routes in a moment when that was
        not to be seen, or somebody has removed it. It would look again after half a minute, or five."""
        return self._tells() and not self.xroutes

    def lost(self, link: Monitor) -> None:
        """A connection has ended; another one will come if babeld runs on."""
        # Only one that lives hangs up.
        self._watchdog.answered()
        if self._link is link:
            self._link = None

    def _replace(self, told: Told) -> None:
        """Everything anew."""
        newcomers = any(_is_newcomer(self._told.get(item), item) for item in told)
        changed = set(map(_shape, self._told)) != set(map(_shape, told))
        self._told = told
        if newcomers or self._is_mute():
            self._greet()
        self._ways.learn(told)
        if changed:
            self._notice()

    def changed(self, change: wire.Change) -> None:
        """One thing has changed."""
        item = change.item
        # An interface that is down is flushed, but babeld goes on waiting for it.
        gone = change.verb == "flush" and not isinstance(item, Interface)
        before, after = self._told.get(item), None if gone else item
        self._ways.note(item, gone=gone)
        if after is None:
            self._told.pop(item)
        else:
            self._told.put(after)
        if isinstance(after, Neighbour):
            self.on_neighbour()
        is_news = _shape(before) != _shape(after)
        if isinstance(item, Route) and self.hurry is not None and (is_news or self.hurry.misses(item.prefix)):
            was_taken = isinstance(before, Route) and before.reachable
            self.hurry.note(item.prefix, lost=was_taken and (gone or not item.reachable))
        if _is_newcomer(before, after) or (gone and self._is_mute()):
            self._greet()
        if is_news:
            self._notice()

    def _notice(self) -> None:
        if self._soon is None:
            self._soon = self._reactor.callLater(0, self._tell)

    def _tell(self) -> None:
        self._soon = None
        self._on_change()


def _is_newcomer(before: Item | None, item: Item | None) -> bool:
    """Whether this is a link that has come up, a new neighbour, or one that can be reached only now."""
    match item, before:
        case Interface(up=True), None | Interface(up=False):
            return True
        case Neighbour(), None:
            return True
        case Neighbour(), Neighbour():
            return before.cost >= INFINITY > item.cost
    return False


def _shape(item: Item | None) -> tuple[object, ...] | None:
    """What about it matters enough to be told."""
    match item:
        case None:
            return None
        case Interface():
            return Interface, item.name, item.up
        case Neighbour():
            return Neighbour, item.address, item.interface, item.cost < INFINITY
        case Xroute():
            return Xroute, item.prefix
        case Route():
            # One that is not installed matters, too: it may be the one that makes a node our LAN's.
            usable, direct = item.metric < INFINITY, item.refmetric == 0
            return Route, item.prefix, item.via, item.interface, item.installed, usable, direct
