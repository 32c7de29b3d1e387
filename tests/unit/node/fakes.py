"""Fakes that stand where a node meets the machine and the registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from vifibnet.errors import CommandFailed, RegistryUnreachable, UnknownNode
from vifibnet.interfaces import IRegistry
from vifibnet.model.addresses import Network, Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.node.config import NodeConfig

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

    async def stop(self) -> None:
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

    def __init__(self) -> None:
        self.known: list[tuple[Prefix, tuple[Endpoint, ...]]] = []
        self.reachable = True
        self.calls: list[object] = []
        self.list: bytes | None = None
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

    async def revocations(self, known: int) -> bytes | None:
        """The list, whatever its number is."""
        self._check(f"revocations {known}")
        return self.list

    async def renew(self, request: str) -> str:
        """A certificate as the test makes it, or none."""
        self._check("renew")
        if self.certificate is None:
            raise UnknownNode
        return self.certificate(request)

    def reconnect(self) -> None:
        """Remember it."""
        self.calls.append("reconnect")


class FakeDrain:
    """Notes which taps are silent; ``broken`` as where there is no nft."""

    def __init__(self) -> None:
        self.silent: set[str] = set()
        self.broken = False

    async def clean(self) -> None:
        """None is."""
        self.silent.clear()

    async def silence(self, tap: str) -> None:
        """One more."""
        if self.broken:
            raise CommandFailed(command="nft", status=1, output="no")
        self.silent.add(tap)

    async def release(self, tap: str) -> None:
        """One less."""
        self.silent.remove(tap)
