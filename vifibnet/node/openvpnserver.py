"""An OpenVPN server, kept running, and who is connected to it.

Its process is watched as a client's is: see node.openvpn.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from vifibnet.errors import BadAddress
from vifibnet.model.addresses import Prefix
from vifibnet.node.drain import Emptying, Leaving
from vifibnet.node.management import ManagementLink
from vifibnet.node.openvpn import FAREWELL
from vifibnet.node.supervisor import Exit, Supervisor
from vifibnet.node.watchdog import Watchdog
from vifibnet.wire import openvpn as wire
from vifibnet.wire.openvpn import OpenVPNSettings

LONGEST_POLL = 5.0
"""Seconds between two questions to a server who is connected, at most, and while all is calm."""

ANSWER_TIMEOUT = 2.0
"""Seconds that openvpn has to answer a question."""

COMPANY = 2.0
"""Seconds that it may take to reach otherwise what is reached over our tap only. Who has no other
tunnel opens some meanwhile."""


@dataclass(frozen=True)
class Served:
    """A peer that is connected to our server: its OpenVPN client id, the address and port it comes from,
    when it came (the reactor's seconds), the bytes both ways so far, and its certificate's serial number."""

    cid: int
    address: str
    port: int
    since: float
    bytes: int = 0
    serial: int | None = None


class OpenVPNServer(Service):
    """One OpenVPN server, kept running.

    ``served`` are the peers connected now; ``on_change`` is called when their set has changed, or whether
    they are about to lose us (``leaving``). ``spared``, which may be set, tells whether whatever is reached
    over a tap is reached otherwise, too; ``calm`` whether all who are connected are well.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        settings: OpenVPNSettings,
        tap: str,
        port: int,
        proto: str,
        on_change: Callable[[], None],
        welcome: Callable[[Prefix, int | None], bool] = lambda *_: True,
        before: Callable[[], Awaitable[None]] | None = None,
        on_socket: Callable[[int], None] = lambda _: None,
        several: Callable[[], bool] = lambda: True,
    ) -> None:
        """``welcome`` says whether a peer may be connected, by its prefix and its certificate's serial
        number; openvpn itself asks only when a client comes. ``before`` is awaited before every start;
        ``on_socket`` is called with the process's number when it has its socket, and may raise OSError.
        ``several``: whether we can be asked at more than one address of a family."""
        self.tap = tap
        self.port = port
        self.proto = proto
        self.served: dict[Prefix, Served] = {}
        self.leaving = False
        self.spared: Callable[[str], bool] = lambda _: True
        self.calm: Callable[[], bool] = lambda: False
        self._reactor = reactor
        self._on_change = on_change
        self._welcome = welcome
        self._before = before
        self._on_socket = on_socket
        self._several = several
        self._multihome = True
        self._emptying: Emptying | None = None
        self._asked: list[Deferred[None]] = []
        # At that level the log says when a client leaves; at every level the table does.
        greeting = ("state on", *(("log on",) if settings.verbose >= 3 else ()))
        self._management = ManagementLink(reactor, settings.socket(tap), greeting, self._event)
        self._poll = LoopingCall(self._poll_if_due)
        self._poll.clock = reactor
        self._polled = 0.0
        self._settings = settings
        self.supervisor = self._new_supervisor(rng)
        # It is asked who is connected more often than the watchdog looks.
        self._watchdog = Watchdog(reactor, self.supervisor.hangs)

    def _new_supervisor(self, rng: Random) -> Supervisor:
        return Supervisor(
            self._reactor,
            rng,
            f"openvpn server {self.tap} ({self.port} {self.proto})",
            self._command,
            log=self._settings.log_file(self.tap),
            before=self._prepare,
            on_start=lambda _: self._watchdog.start(),
            on_end=self._ended,
            explain=wire.complaint,
            insist=FAREWELL,
        )

    def startService(self) -> None:
        """Start the server."""
        super().startService()
        self.supervisor.startService()
        self._poll.start(self._poll_interval, now=False)

    def change(self, settings: OpenVPNSettings) -> None:
        """Obey these settings: the process does so from its next start on; places count at once."""
        self._settings = settings
        self._poll.interval = self._poll_interval

    @property
    def _poll_interval(self) -> float:
        return min(self._settings.hello, LONGEST_POLL)

    def stopService(self) -> Deferred[None]:
        """Stop the server, telling its clients; fires when the process is gone."""
        super().stopService()
        if self._poll.running:
            self._poll.stop()
        self._end_emptying()
        return self.supervisor.stopService()

    def holder(self, taps: Leaving) -> Callable[[], Deferred[None]]:
        """A call that starts the process anew, telling its clients, if it is still the one of now; what it
        returns fires when the old one is gone.

        Before, routes are moved off its tap. Where they have nowhere to go, its clients may be connected to
        from here first: it is ``leaving`` them.
        """
        child = self.supervisor.child

        def restart() -> Deferred[None]:
            if not self.running or self.supervisor.child is not child or self._emptying is not None:
                return succeed(None)
            self._emptying = Emptying(self._reactor, taps, self.tap)
            return Deferred.fromCoroutine(self._restart(self._emptying))

        return restart

    def rehome(self, taps: Leaving) -> Deferred[None]:
        """We can be asked at several addresses now: start anew as ``holder`` does, unless that is nothing new
        to the process."""
        return succeed(None) if self._multihome else self.holder(taps)()

    async def _prepare(self) -> None:
        """A process is about to start."""
        self._management.open()
        if self._before is not None:
            await self._before()

    def _command(self) -> list[str]:
        """Of the process that is about to start."""
        # Over TCP an answer cannot come from elsewhere.
        self._multihome = not self.proto.startswith("udp") or self._several()
        return wire.server_command(
            self._settings, tap=self.tap, port=self.port, proto=self.proto, multihome=self._multihome
        )

    async def _restart(self, emptying: Emptying) -> None:
        self._leave(not self.spared(self.tap))
        await emptying.wait_for(lambda: self.spared(self.tap), COMPANY)
        if await emptying.empty():
            self.log.info("the openvpn server on {tap} is started anew", tap=self.tap)
            stopped = self.supervisor.stopService()
            self.supervisor.startService()
            await stopped
        emptying.release()
        self._emptying = None
        self._leave(False)

    def _leave(self, leaving: bool) -> None:
        if leaving != self.leaving:
            self.leaving = leaving
            self._on_change()

    def poll(self) -> None:
        """Ask openvpn now who is connected (it is asked every few seconds anyway)."""
        self._polled = self._reactor.seconds()
        self._management.send("status 3")

    def _poll_if_due(self) -> None:
        """Somebody who has left is heard no more, and all is calm no more."""
        if not self.calm() or self._reactor.seconds() > self._polled + LONGEST_POLL - self._poll_interval / 2:
            self.poll()

    async def dismiss(self) -> None:
        """Disconnect whoever is not welcome any more."""
        unwelcome = [
            prefix for prefix, served in self.served.items() if not self._welcome(prefix, served.serial)
        ]
        for prefix in unwelcome:
            self.log.info("{peer} was revoked: disconnected from {tap}", peer=str(prefix), tap=self.tap)
        await DeferredList([Deferred.fromCoroutine(self.kick(prefix)) for prefix in unwelcome])

    async def kick(self, prefix: Prefix) -> None:
        """Disconnect a peer at once."""
        served = self.served.pop(prefix, None)
        if served is None:
            return
        self._on_change()
        self._management.send(f"client-kill {served.cid} HALT")
        answer: Deferred[None] = Deferred()
        self._asked.append(answer)
        answer.addTimeout(ANSWER_TIMEOUT, self._reactor)
        self.poll()
        with suppress(DeferredTimeout):
            await answer

    def _event(self, event: wire.Event) -> None:
        match event:
            case wire.Established():
                self._established(event)
            case wire.Status():
                self._status(event)
            case wire.State(name="CONNECTED"):
                self._opened()
            case wire.Log() if "client-instance exiting" in event.text:
                self.poll()

    def _opened(self) -> None:
        """The process has its socket."""
        pid = None if self.supervisor.child is None else self.supervisor.child.pid
        if pid is None or not self.proto.startswith("udp"):
            return
        try:
            self._on_socket(pid)
        except OSError as error:
            said = "{tap} sends packets that no router may fragment: small paths may lose them ({error})"
            self.log.warn(said, tap=self.tap, error=str(error))

    def _established(self, event: wire.Established) -> None:
        try:
            prefix = Prefix.parse(event.name)
        except BadAddress:
            self.log.warn("{name} is no node's name: disconnected from {tap}", name=event.name, tap=self.tap)
            self._management.send(f"client-kill {event.cid} HALT")
            return
        if not self._welcome(prefix, event.serial):
            self.log.info("{peer} was revoked: disconnected from {tap}", peer=str(prefix), tap=self.tap)
            self._management.send(f"client-kill {event.cid} HALT")
            return
        if prefix not in self.served and len(self.served) >= self._settings.max_clients:
            self.log.debug("{tap} is full: {peer} is sent away", tap=self.tap, peer=str(prefix))
            self._management.send(f"client-kill {event.cid} HALT,{wire.FULL}")
            return
        self.served[prefix] = Served(
            event.cid, event.address, event.port, self._reactor.seconds(), serial=event.serial
        )
        self._on_change()

    def _status(self, event: wire.Status) -> None:
        """Whoever is not in the table any more is gone: it has come before the table was written."""
        self._watchdog.answered()
        rows = {client.cid: client for client in event.clients}
        before = len(self.served)
        self.served = {
            prefix: replace(served, bytes=rows[served.cid].bytes)
            for prefix, served in self.served.items()
            if served.cid in rows
        }
        asked, self._asked = self._asked, []
        if len(self.served) != before:
            self._on_change()
        for answer in asked:
            if not answer.called:
                answer.callback(None)

    def _ended(self, end: Exit) -> None:
        """The process has ended, and with it every tunnel it had."""
        self._watchdog.stop()
        self._management.close()
        self._end_emptying()
        if self.served:
            self.served = {}
            self._on_change()

    def _end_emptying(self) -> None:
        if self._emptying is not None:
            self._emptying.cancel()
