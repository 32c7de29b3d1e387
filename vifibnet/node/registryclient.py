"""The registry as a node reaches it: AMP over mutual TLS, over a connection that is kept up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, cast

from twisted.application.internet import ClientService, backoffPolicy
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.protocols.amp import AMP, AmpError, Command, UnhandledCommand
from zope.interface import implementer

from vifibnet.errors import (
    BadAddress,
    BadEndpoints,
    CertificateExpired,
    CertificateRevoked,
    RegistryRefusal,
    RegistryUnreachable,
)
from vifibnet.interfaces import IRegistry
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.pki.keepalive import keep_alive
from vifibnet.wire.amp import Declare, DocumentChanged, GetBootstrapPeer, GetDocument, GetPeers, Ping, Renew
from vifibnet.wire.document import MAX_DOCUMENT, Kind
from vifibnet.wire.endpoints import format_endpoints, parse_endpoints

CALL_TIMEOUT = 10.0
"""Seconds that one call may take, the waiting for a connection included."""

FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
"""Seconds between attempts to connect: at first and at most, to which jitter comes."""

REVOKED_DELAY = 600.0
"""The same, in the mean, once the registry has said that our certificate was revoked."""


@implementer(IRegistry)
class RegistryClient(Service):
    """Keeps one connection to the registry, and speaks for the node whose certificate it shows.

    ``connected`` tells whether the registry has answered on the present connection, ``since`` when: with TLS
    1.3 a connection stands before the other side has refused our certificate.
    """

    log = Logger()
    connected = False
    since: float | None = None
    seen: str | None = None

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        endpoint: IStreamClientEndpoint,
        where: str,
        on_connected: Callable[[], None] = lambda: None,
        on_seen: Callable[[], None] = lambda: None,
        on_document: Callable[[], None] = lambda: None,
        on_revoked: Callable[[], None] = lambda: None,
    ) -> None:
        """``endpoint`` has TLS in it; ``where`` is what it is called in messages; ``on_connected`` is called
        when the registry answers again, if only to say that our certificate has expired, ``on_seen`` when it
        sees us somewhere else, ``on_document`` when it has a new document, ``on_revoked`` when it
        says that our own certificate is on it."""
        self._reactor = reactor
        self._where = self._answers_at = where
        self._on_connected = on_connected
        self._on_seen = on_seen
        self._on_revoked = on_revoked
        self._revoked = False
        self._problem = "no connection yet"
        backoff = backoffPolicy(FIRST_DELAY, LONGEST_DELAY, 1.5, lambda: rng.random() * FIRST_DELAY)
        factory = Factory.forProtocol(lambda: _Connection(self._made, self._lost, on_document))
        factory.noisy = False
        # For the ClientService every connection is a success, also one on which we are turned away.
        self._turned_away = 0

        def delay(attempt: int) -> float:
            if self._revoked:
                return REVOKED_DELAY * (0.5 + rng.random())
            return backoff(max(attempt, self._turned_away))

        self._client = ClientService(endpoint, factory, delay, clock=reactor)
        self._connection: _Connection | None = None

    def startService(self) -> None:
        """Connect, now and whenever the connection is lost."""
        super().startService()
        self._client.startService()

    def stopService(self) -> Deferred[Any]:
        """Hang up; fires when the connection is closed."""
        super().stopService()
        stopped = self._client.stopService()
        # A polite goodbye waits for the other side's, which may be gone.
        if self._connection is not None:
            self._connection.abort()
        return cast("Deferred[Any]", stopped)

    # -- the calls ----------------------------------------------------------------------------------

    async def declare(self, endpoints: Sequence[Endpoint]) -> None:
        """Say where we can be reached. Raises RegistryUnreachable or a RegistryRefusal."""
        await self._call(Declare, endpoints=format_endpoints(endpoints))

    async def peers(self, count: int) -> list[tuple[Prefix, tuple[Endpoint, ...]]]:
        """Up to ``count`` random peers; those in words we do not understand are left out."""
        answer = await self._call(GetPeers, count=count)
        return [peer for each in answer["peers"] if (peer := _peer(each)) is not None]

    async def bootstrap(self) -> tuple[Prefix, tuple[Endpoint, ...]]:
        """One peer that can be reached."""
        peer = _peer(await self._call(GetBootstrapPeer))
        if peer is None:
            raise RegistryUnreachable(where=self._where, problem="it names a peer that cannot be understood")
        return peer

    async def renew(self, request: str) -> str:
        """A new certificate for a request, both as PEM; ours may have expired."""
        return str((await self._call(Renew, request=request))["certificate"])

    def reconnect(self) -> None:
        """Hang up and connect anew: there is a new certificate to show."""
        if self._connection is not None:
            self._connection.abort()

    def move(self, where: str) -> None:
        """It is found here from now on, as ``endpoint`` knows: if that is elsewhere, connect to it there."""
        if where == self._where:
            return
        self.log.info("the registry is at {where} now", where=where)
        self._where, self._turned_away = where, 0
        if self.running:
            self._client.stopService()
            self.reconnect()
            self._client.startService()

    async def document(self, kind: Kind, known: int) -> bytes | None:
        """The document in all its pieces, or None when its number is not greater than ``known``."""
        document, number = b"", None
        while True:
            answer = await self._call(GetDocument, kind=kind, number=known, offset=len(document))
            if number not in (None, answer["number"]):
                # There is a newer one meanwhile.
                document, number = b"", None
                continue
            document, number = document + answer["piece"], answer["number"]
            if len(document) >= answer["length"]:
                return document or None
            if not answer["piece"] or answer["length"] > MAX_DOCUMENT:
                raise RegistryUnreachable(where=self._where, problem=f"its document about {kind} has no end")

    async def _call(self, command: type[Command], **arguments: object) -> dict[str, Any]:
        """Call on the present connection, or on the one that is about to be made."""
        connection: _Connection | None = None
        # Whoever calls may have been told something by the ClientService, which bears no call from inside.
        await deferLater(self._reactor, 0)
        # Waiters hear of the first failure to connect instead of waiting for better times.
        waiting = self._client.whenConnected(failAfterFailures=1)
        try:
            connection = cast(_Connection, await waiting.addTimeout(CALL_TIMEOUT, self._reactor))
            return await self._ask(connection, command, **arguments)
        except RegistryRefusal:
            raise
        except CancelledError:
            if self.running:
                raise
            raise RegistryUnreachable(where=self._where, problem="this node stops") from None
        except UnhandledCommand:
            raise RegistryUnreachable(where=self._where, problem="it is too old for this question") from None
        except Exception as error:
            if connection is not None:
                connection.abort()
            raise RegistryUnreachable(where=self._where, problem=_words(error)) from error

    async def _ask(
        self, connection: _Connection, command: type[Command], **arguments: object
    ) -> dict[str, Any]:
        """One call on one connection; note where we are seen from."""
        calling: Deferred[dict[str, Any]] = connection.callRemote(command, **arguments)
        answer = await calling.addTimeout(CALL_TIMEOUT, self._reactor)
        self._answered(connection, answer["seen"])
        return answer

    # -- the connection -----------------------------------------------------------------------------

    def _made(self, connection: _Connection) -> None:
        self._connection = connection
        Deferred.fromCoroutine(self._greet(connection))

    async def _greet(self, connection: _Connection) -> None:
        """Make one call at once: only an answer shows that we are welcome."""
        try:
            await self._ask(connection, GetPeers, count=1)
            self._turned_away = 0
            self._revoked = False
            return
        except Exception as error:
            problem = _words(error)
            self._revoked = isinstance(error, CertificateRevoked)
            renewing = isinstance(error, CertificateExpired)
        if self._revoked:
            self._on_revoked()
        self._turned_away += 1
        say = self.log.debug if problem == self._problem else self.log.warn
        self._problem = problem
        say("the registry at {where} turns us away: {problem}", where=self._where, problem=problem)
        if renewing:
            # This connection is good for that.
            self._on_connected()
        else:
            connection.abort()

    def _answered(self, connection: _Connection, seen: str) -> None:
        changed, self.seen = seen != self.seen, seen
        if changed:
            self._on_seen()
        if not self.connected and connection is self._connection:
            self.connected, self.since = True, self._reactor.seconds()
            self._problem, self._answers_at = "", self._where
            self.log.info(
                "the registry at {where} answers; it sees us at {seen}", where=self._where, seen=seen
            )
            self._on_connected()

    def _lost(self, connection: _Connection) -> None:
        if connection is not self._connection:
            return
        self._connection = None
        if self.connected:
            self.connected, self.since = False, None
            self.log.info("the connection to the registry at {where} is lost", where=self._answers_at)


class _Connection(AMP):
    """One AMP connection; it makes calls, and is told what has changed."""

    def __init__(
        self,
        on_made: Callable[[_Connection], None],
        on_lost: Callable[[_Connection], None],
        on_document: Callable[[], None],
    ) -> None:
        super().__init__()
        self._on_document = on_document
        self._on_made = on_made
        self._on_lost = on_lost

    @DocumentChanged.responder
    def document_changed(self, kind: str, number: int) -> dict[str, Any]:
        """The registry has a new document."""
        self._on_document()
        return {}

    @Ping.responder
    def ping(self) -> dict[str, Any]:
        """The registry wants to know whether we are there."""
        return {}

    def connectionMade(self) -> None:
        """Tell the one who uses it."""
        super().connectionMade()
        keep_alive(self.transport)
        self._on_made(self)

    def connectionLost(self, reason: Any = None) -> None:
        """Tell the one who used it, before the calls under way fail."""
        self._on_lost(self)
        super().connectionLost(reason)

    def abort(self) -> None:
        """Close it without waiting for the other side."""
        cast(Any, self.transport).abortConnection()


def _peer(answer: dict[str, Any]) -> tuple[Prefix, tuple[Endpoint, ...]] | None:
    """A peer out of an answer; None where a newer registry says what we cannot read."""
    try:
        return Prefix.parse(answer["prefix"]), parse_endpoints(answer["endpoints"])
    except (BadAddress, BadEndpoints):
        return None


def _words(error: Exception) -> str:
    """What went wrong, for the end of a sentence."""
    if isinstance(error, TimeoutError):
        return "it takes too long"
    if isinstance(error, ConnectError | ConnectionClosed | AmpError | RegistryRefusal):
        return (str(error) or type(error).__name__).rstrip(".")
    return f"{type(error).__name__} {error}".strip()
