"""Keep ports of ours reachable through whatever gateway there is, for as long as it is there."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredLock, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from vifibnet.interfaces import IPortMapper
from vifibnet.model.endpoints import Endpoint
from vifibnet.node.portmap import natpmp, upnp
from vifibnet.node.portmap.gateway import (
    GatewayTrouble,
    Granted,
    IGateway,
    IReactor,
    MappingRefused,
    PortTaken,
    Transport,
)
from vifibnet.wire.endpoints import format_endpoints

LEASE = 600
"""Seconds that a mapping outlives us when we cannot remove it."""

RENEWALS = 3
"""How often a lease is renewed before it would end: it survives two failures."""

RETRY, RETRY_MAX = 15.0, 300.0
"""Seconds between two searches for a gateway: at first, and in the end."""

PORT_TRIES = 5
"""How many other external ports are tried when ours is taken."""

OTHER_PORTS = (20000, 60000)

CLOSE_TIMEOUT = 2.0
"""Seconds that removing the mappings may take."""

PROTOCOLS: dict[str, tuple[Transport, str]] = {"udp": ("udp", "udp"), "tcp-server": ("tcp", "tcp-client")}
"""From what our OpenVPN server speaks to what the gateway maps and what the peers dial."""

Find = Callable[[], Coroutine[Deferred[Any], Any, IGateway | None]]
OnChange = Callable[[Endpoint | None], None]
log = Logger()


def reachable(address: IPv4Address) -> bool:
    """Whether the internet can reach this address: not behind one more NAT (RFC 1918, RFC 6598)."""
    return address.is_global and not address.is_multicast


@dataclass
class _Mapping:
    """One port of ours: ``external`` is what to ask for, the rest what came of it. Times are the clock's."""

    port: int
    transport: Transport
    proto: str
    external: int
    gateway: IGateway | None = None
    endpoint: Endpoint | None = None
    problem: str = ""
    expires: float = 0.0
    due: float = 0.0


@implementer(IPortMapper)
class PortMapper:
    """Maps ports through the gateway that ``find`` finds, renews them, and finds it again when it is lost.

    That there is no gateway is normal: it is searched for again, ever more rarely.
    """

    def __init__(
        self,
        clock: IReactorTime,
        rng: random.Random,
        find: Find,
        *,
        on_change: OnChange | None = None,
        lease: int = LEASE,
        retry: float = RETRY,
    ) -> None:
        """``on_change`` is called with a port's new endpoint, or None when it has none any more.

        What ``map`` returns is not reported again; ``endpoints`` has all of them. ``lease`` and ``retry``
        (until a gateway is searched for again, at first) in seconds.
        """
        self._clock = clock
        self._rng = rng
        self._find = find
        self._on_change = on_change
        self._lease = lease
        self._retry = retry
        self._mappings: dict[tuple[int, Transport], _Mapping] = {}
        self._lock = DeferredLock()
        self._loop = LoopingCall(self._turn)
        self._loop.clock = clock
        self._gateway: IGateway | None = None
        self._failures = 0
        self._search_after = 0.0
        self._closed = False
        self._searching: Deferred[IGateway | None] | None = None
        self._working: Deferred[None] | None = None

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where the world can reach us now, in the order of the calls of ``map``."""
        return tuple(mapping.endpoint for mapping in self._mappings.values() if mapping.endpoint)

    async def map(self, port: int, proto: str) -> Endpoint | None:
        """See IPortMapper; a port may be asked for again. Raises ValueError for any other ``proto``."""
        if proto not in PROTOCOLS:
            raise ValueError(f"{proto!r} is none of {', '.join(PROTOCOLS)}")
        transport, theirs = PROTOCOLS[proto]
        mapping = self._mappings.setdefault((port, transport), _Mapping(port, transport, theirs, port))
        if not self._loop.running and not self._closed:
            self._loop.start(self._lease / 60, now=False)
        async with self._lock:
            await self._work(mapping)
        return mapping.endpoint

    async def close(self) -> None:
        """See IPortMapper. Takes CLOSE_TIMEOUT at the most; what is left then ends with its lease."""
        if self._closed:
            return
        self._closed = True
        if self._loop.running:
            self._loop.stop()
        if self._searching is not None:
            self._searching.cancel()
        try:
            await Deferred.fromCoroutine(self._remove_all()).addTimeout(CLOSE_TIMEOUT, self._clock)
        except TimeoutError:
            log.warn("the gateway did not remove our port mappings within {seconds} s", seconds=CLOSE_TIMEOUT)
        if self._working is not None:
            self._working.cancel()

    async def _turn(self) -> None:
        """Renew what is due. An error of ours must not end the loop."""
        try:
            async with self._lock:
                for mapping in list(self._mappings.values()):
                    before = mapping.endpoint
                    await self._work(mapping)
                    if mapping.endpoint != before and self._on_change and not self._closed:
                        self._on_change(mapping.endpoint)
        except Exception:
            log.failure("renewing port mappings failed")

    async def _work(self, mapping: _Mapping) -> None:
        """Map or renew if it is due, in a way that ``close`` can end."""
        if self._closed or self._clock.seconds() < mapping.due:
            return
        self._working = Deferred.fromCoroutine(self._renew(mapping))
        try:
            await self._working
        except CancelledError:
            if not self._closed:
                raise
        finally:
            self._working = None

    async def _renew(self, mapping: _Mapping) -> None:
        """Ask for the mapping; find the gateway anew when it fails."""
        mapping.due = self._later(self._lease / RENEWALS)
        problem = "there is no gateway that maps ports"
        for _ in range(2):
            gateway = await self._find_gateway()
            if gateway is None:
                break
            try:
                await self._ask(gateway, mapping)
                self._failures = 0
                return
            except MappingRefused as refusal:
                self._lose(mapping, f"{gateway.name}, port {mapping.port}/{mapping.transport}: {refusal}")
                return
            except GatewayTrouble as trouble:
                log.debug("{trouble}", trouble=trouble)
                problem = str(trouble)
                self._gateway = None
        if self._gateway is None:
            self._search_later()
        mapping.due = self._search_after
        if self._clock.seconds() >= mapping.expires:
            self._lose(mapping, problem)
        else:
            mapping.due = min(mapping.due, mapping.expires)

    async def _find_gateway(self) -> IGateway | None:
        """The gateway that we have, or else the one that a search finds, if it is time for one."""
        if self._gateway is None and self._clock.seconds() >= self._search_after and not self._closed:
            self._searching = Deferred.fromCoroutine(self._find())
            try:
                self._gateway = await self._searching
            finally:
                self._searching = None
            if self._gateway is not None:
                log.info("found the gateway {name}", name=self._gateway.name)
        return self._gateway

    def _search_later(self) -> None:
        """Put off the next search: ever longer, never in step with others."""
        if self._clock.seconds() >= self._search_after:
            self._search_after = self._later(min(self._retry * 2.0**self._failures, RETRY_MAX))
            self._failures = min(self._failures + 1, 10)

    async def _ask(self, gateway: IGateway, mapping: _Mapping) -> None:
        """One mapping or renewal at a gateway. Raises MappingRefused, GatewayTrouble."""
        address = await gateway.external_address()
        if not reachable(address):
            self._lose(
                mapping, f"{gateway.name} has the outer address {address}, which nobody outside reaches"
            )
            return
        granted = await self._add(gateway, mapping)
        lease = min(granted.lease or self._lease, self._lease)
        mapping.gateway = gateway
        mapping.external = granted.external
        mapping.expires = self._clock.seconds() + lease
        mapping.due = self._later(lease / RENEWALS)
        mapping.problem = ""
        endpoint = Endpoint(str(address), granted.external, mapping.proto)
        if endpoint != mapping.endpoint:
            log.info(
                "port {port} is {endpoint} outside", port=mapping.port, endpoint=format_endpoints([endpoint])
            )
        mapping.endpoint = endpoint

    async def _add(self, gateway: IGateway, mapping: _Mapping) -> Granted:
        """Ask for the port we want, then for some others."""
        others = [self._rng.randint(*OTHER_PORTS) for _ in range(PORT_TRIES)]
        external = mapping.external
        for other in others:
            try:
                return await gateway.add(mapping.port, mapping.transport, external, self._lease)
            except PortTaken as taken:
                log.debug("external port {port}: {taken}", port=external, taken=taken)
            external = other
        return await gateway.add(mapping.port, mapping.transport, external, self._lease)

    def _lose(self, mapping: _Mapping, problem: str) -> None:
        """Note that the port has no endpoint, and say why: once, also when it is so for many ports."""
        mapping.endpoint = None
        if all(other.problem != problem for other in self._mappings.values()):
            log.info("no port mapping: {problem}", problem=problem)
        mapping.problem = problem

    async def _remove_all(self) -> None:
        """Remove what was granted, also by a call that is still on its way."""
        async with self._lock:
            for mapping in self._mappings.values():
                mapping.endpoint = None
                if mapping.gateway is None:
                    continue
                try:
                    await mapping.gateway.remove(mapping.port, mapping.transport, mapping.external)
                except (GatewayTrouble, MappingRefused) as problem:
                    log.info("cannot remove a port mapping: {problem}", problem=problem)

    def _later(self, seconds: float) -> float:
        """When ``seconds`` from now will be over, or a little earlier."""
        return self._clock.seconds() + seconds * self._rng.uniform(0.8, 1.0)


async def find_gateway(reactor: IReactor) -> IGateway | None:
    """A gateway by UPnP, or else by NAT-PMP; both are asked at once, so that none costs no more than one.

    What a router refuses by the one is not asked for by the other: it would refuse again, and miniupnpd
    2.3.1 takes a whole processor from then on.
    """
    router = natpmp.default_gateway()
    second = Deferred.fromCoroutine(natpmp.find(reactor, router))
    second.addErrback(lambda failure: failure.trap(CancelledError) and None)
    try:
        return await upnp.find(reactor, router) or await second
    finally:
        second.cancel()


def make_mapper(
    reactor: IReactor,
    rng: random.Random,
    *,
    on_change: OnChange | None = None,
    lease: int = LEASE,
    retry: float = RETRY,
) -> PortMapper:
    """The port mapper of a node, on the real network of ``reactor``."""
    return PortMapper(
        reactor, rng, lambda: find_gateway(reactor), on_change=on_change, lease=lease, retry=retry
    )
