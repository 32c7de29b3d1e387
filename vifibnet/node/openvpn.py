"""An OpenVPN client, and how OpenVPN processes are watched: through their management sockets.

Each process listens on a unix socket and waits until it is released there. What becomes of it when we are
killed: see node.orphans.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.node.management import ManagementLink
from vifibnet.node.supervisor import Child, Exit
from vifibnet.wire import openvpn as wire
from vifibnet.wire.openvpn import OpenVPNSettings

__all__ = ["OpenVPNClient", "OpenVPNSettings"]

FAREWELL = 0.2
"""Seconds for the other side to hear that we stop; a second SIGTERM cuts openvpn's own wait of 2 s short."""

TRAFFIC_INTERVAL = 5
"""Seconds between two counts of a client's bytes."""


class OpenVPNClient:
    """One try to reach one peer: one process, which ends when the tunnel does.

    ``up`` says whether the tunnel stands, ``full`` that the server had no place for us; ``since`` when (the
    reactor's seconds) it came up, or else was started; ``bytes`` both ways so far; ``remote`` the endpoint
    that answered. ``ended`` fires once, with the reason in words, when the process has ended for whatever
    reason; it never fails.
    ``on_change`` is called when ``up`` has changed.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: OpenVPNSettings,
        tap: str,
        peer: Prefix,
        endpoints: Sequence[Endpoint],
        on_change: Callable[[], None],
    ) -> None:
        self.tap = tap
        self.peer = peer
        self.up = False
        self.full = False
        self.since = 0.0
        self.bytes = 0
        self.remote: Endpoint | None = None
        self.ended: Deferred[str] = Deferred()
        self._reactor = reactor
        self._endpoints = tuple(endpoints)
        self._on_change = on_change
        self._started = False
        self._reason = ""
        self._detail = self._fatal = ""
        self._deadline: IDelayedCall | None = None
        self._waiting: list[Deferred[None]] = []
        command = wire.client_command(settings, tap=tap, peer=peer, endpoints=self._endpoints)
        self._child = Child(reactor, command, log=settings.log_file(tap))
        greeting = ("state on", f"bytecount {TRAFFIC_INTERVAL}")
        self._management = ManagementLink(reactor, settings.socket(tap), greeting, self._event)

    def start(self) -> None:
        """Start the process; that it could not be started is a reason in ``ended``, too."""
        self._started, self.since = True, self._reactor.seconds()
        self._child.ended.addCallback(lambda end: Deferred.fromCoroutine(self._over(end)))
        try:
            self._management.open()
            self._child.start()
        except Exception as error:
            self._child.ended.callback(Exit(None, None, (str(error),)))
            return
        patience = len(self._endpoints) * (wire.CONNECT_TIMEOUT + wire.RESOLVE_TIMEOUT) + 3
        self._deadline = self._reactor.callLater(patience, self._end, f"no tunnel after {patience} s")

    async def stop(self, *, farewell: bool = True) -> None:
        """End the tunnel, telling the other side unless there is none; returns when the process is gone."""
        self._reason = self._reason or "stopped"
        if self.ended.called or not self._started:
            return
        over: Deferred[None] = Deferred()
        self._waiting.append(over)
        await self._child.stop(insist=FAREWELL if farewell else 0)
        await over

    def _event(self, event: wire.Event) -> None:
        match event:
            case wire.ByteCount():
                self.bytes = event.received + event.sent
            case wire.State(name="CONNECTED"):
                self._cancel_deadline()
                self.up, self.since = True, self._reactor.seconds()
                self.remote = event.endpoint(self._endpoints)
                self._on_change()
            case wire.State(name="RECONNECTING" | "EXITING") if self.up and not self._reason:
                # The next try is not openvpn's to decide, nor how long it takes its leave.
                self._end(f"lost ({event.detail})")
            case wire.State(name="RECONNECTING" | "EXITING") if event.detail:
                self._detail = event.detail
            case wire.Notice(why=wire.FULL):
                self.full = True
                self._end("the server is full")
            case wire.Notice() if self.up:
                self._end(f"lost ({event.what})")
            case wire.Fatal():
                self._fatal = event.text

    def _end(self, reason: str) -> None:
        """Give the tunnel up."""
        self._reason = self._reason or reason
        Deferred.fromCoroutine(self.stop())

    async def _over(self, end: Exit) -> None:
        """The process has ended."""
        self._cancel_deadline()
        was_up, self.up = self.up, False
        if not self._reason and self._detail:
            self._reason = f"{'lost' if was_up else 'not reached'} ({self._detail})"
        if not self._reason:
            said = self._fatal or wire.complaint(end.output)
            self._reason = f"openvpn {end}{said and f': {said}'}"
        self._management.close()
        if was_up:
            self._on_change()
        waiting, self._waiting = self._waiting, []
        self.ended.callback(self._reason)
        for over in waiting:
            over.callback(None)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
