"""Fakes that stand where a node meets the machine and the registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv6Address
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IReactorTime
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from vifibnet.errors import RegistryUnreachable, UnknownNode
from vifibnet.interfaces import IRegistry
from vifibnet.model.addresses import Network, Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.ways import Health
from vifibnet.node.authorities import Authorities
from vifibnet.node.config import NodeConfig
from vifibnet.pki.certificates import CA
from vifibnet.wire.document import Kind

NETWORK = Network.parse("2001:db8:42::/48")
NOW = 1_800_000_000.0


def node(number: int) -> Prefix:
    """The prefix of a node by its number."""
    return Prefix(number, 16)


def endpoint(number: int) -> Endpoint:
    """Where that node can be reached."""
    return Endpoint(f"192.0.2.{number}", 1194, "udp")


def clock() -> Clock:
    """A clock that shows a believable time."""
    made = Clock()
    made.advance(NOW)
    return made


def config(directory: Path, **options: object) -> NodeConfig:
    """A configuration with these options."""
    return NodeConfig(
        ca=directory / "ca.pem",
        cert=directory / "cert.crt",
        key=directory / "cert.key",
        state=directory,
        log=directory,
        **options,  # type: ignore[arg-type]
    )


def authorities(clock: IReactorTime, directory: Path, cas: Sequence[CA]) -> Authorities:
    """The authorities of a node with this configuration, open."""
    made = Authorities(clock.seconds, directory, directory / "ca.pem", cas, run=directory / "run")
    made.open()
    return made


class FakeClient:
    """An openvpn client that does what the test says; a stop is done at once unless ``slow``."""

    def __init__(
        self, tap: str, peer: Prefix, endpoints: Sequence[Endpoint], on_change: Callable[[], None], now: float
    ) -> None:
        self.tap = tap
        self.peer = peer
        self.endpoints = endpoints
        self.on_change = on_change
        self.since = now
        self.up = False
        self.full = False
        self.bytes = 0
        self.remote: Endpoint | None = None
        self.ended: Deferred[str] = Deferred()
        self.started = False
        self.slow = False
        self.broken = False

    def start(self) -> None:
        """Remember it."""
        if self.broken:
            self.end("openvpn could not be started")
        else:
            self.started = True

    async def stop(self, *, farewell: bool = True) -> None:
        """End."""
        if not self.slow:
            self.end("stopped")

    def come_up(self, now: float) -> None:
        """The tunnel stands."""
        self.up = True
        self.since = now
        self.remote = self.endpoints[0]
        self.on_change()

    def end(self, reason: str) -> None:
        """The process is gone."""
        if not self.ended.called:
            self.up = False
            self.ended.callback(reason)


@implementer(IRegistry)
class FakeRegistry:
    """A registry that knows some peers, or does not answer; ``calls`` has what it was asked."""

    seen: str | None = None
    where = ""

    def __init__(self) -> None:
        self.known: list[tuple[Prefix, tuple[Endpoint, ...]]] = []
        self.reachable = True
        self.calls: list[object] = []
        self.documents: dict[Kind, bytes] = {}
        self.certificate: Callable[[str], str] | None = None

    def _check(self, call: object) -> None:
        self.calls.append(call)
        if not self.reachable:
            raise RegistryUnreachable(where="here", problem="nobody listens")

    async def declare(self, endpoints: Sequence[Endpoint]) -> None:
        """Remember it."""
        self._check(("declare", *endpoints))

    async def peers(self, count: int) -> list[tuple[Prefix, tuple[Endpoint, ...]]]:
        """Tell them all."""
        self._check("peers")
        return list(self.known)

    async def bootstrap(self) -> tuple[Prefix, tuple[Endpoint, ...]]:
        """The first."""
        self._check("bootstrap")
        return self.known[0]

    async def document(self, kind: Kind, known: int) -> bytes | None:
        """The document, whatever its number is."""
        self._check(f"{kind} {known}")
        return self.documents.get(kind)

    async def renew(self, request: str) -> str:
        """A certificate as the test makes it, or none."""
        self._check("renew")
        if self.certificate is None:
            raise UnknownNode
        return self.certificate(request)

    def reconnect(self) -> None:
        """Remember it."""
        self.calls.append("reconnect")

    def move(self, where: str) -> None:
        """Likewise."""
        self.where = where


class FakeLeaving:
    """Notes which taps are being left; whatever goes over them goes elsewhere when the test says so."""

    works = True

    def __init__(self) -> None:
        self.left: set[str | None] = set()
        self.ended: set[str | None] = set()
        self.emptied = False

    def leave(self, tap: str | None = None) -> None:
        """One more."""
        self.left.add(tap)

    def stay(self, tap: str | None = None) -> None:
        """One less."""
        self.left.discard(tap)
        self.ended.discard(tap)

    def end(self, tap: str | None = None) -> None:
        """One more."""
        self.ended.add(tap)

    def empty(self, tap: str | None = None) -> bool:
        """As the test says."""
        assert tap in self.left  # noqa: S101
        return self.emptied

    def busy(self) -> list[tuple[str, IPv6Address]]:
        """Nobody."""
        return []


class FakeHeartbeats(Service, FakeLeaving):
    """Everybody is well, and nothing is in anybody's way."""

    def __init__(self) -> None:
        super().__init__()
        self.interval = 0.25
        self.emptied = True
        self.looks = self.shown = 0

    def look(self) -> None:
        """Counts."""
        self.looks += 1

    def show(self) -> None:
        """Counts."""
        self.shown += 1

    def calm(self) -> bool:
        """Always."""
        return True

    def patience(self) -> float:
        """None."""
        return 0.0

    def health(self, tap: str, address: str) -> Health:
        """Nobody has asked."""
        return Health.UNKNOWN

    def silent(self, tap: str, address: object, since: float) -> float | None:
        """Nobody."""
        return None

    def prompt(self) -> None:
        """There is nothing to say."""


class Pipe(StringTransport):
    """The transport of ``end``, from which it may also read what waits in it."""

    def __init__(self) -> None:
        """Nothing waits."""
        super().__init__()
        self.end: IProtocol | None = None
        self.waiting: list[str] = []
        self.ended: Failure | None = None

    def doRead(self) -> Failure | None:  # noqa: N802
        """As the reactor does (IReadDescriptor)."""
        lines, self.waiting = self.waiting, []
        if lines:
            assert self.end is not None
            self.end.dataReceived("".join(f"{line}\n" for line in lines).encode())
        return self.ended
