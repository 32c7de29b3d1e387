"""Map ports by NAT-PMP (RFC 6886), the protocol of gateways that do not speak UPnP."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import MessageLengthError
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from zope.interface import implementer

from vifibnet.node.portmap.gateway import (
    GatewayTrouble,
    Granted,
    IGateway,
    IReactor,
    MappingRefused,
    Transport,
)

PORT = 5351
WAITS = (0.25, 0.5, 1.0)
"""Seconds to wait for an answer after each sending: section 3.1 cut short, the caller tries again."""

ADDRESS = 0
OPCODES: dict[Transport, int] = {"udp": 1, "tcp": 2}
RESULTS = {
    1: "it speaks another version",
    2: "it is not allowed",
    3: "it has no outer address itself",
    4: "it is out of room",
    5: "it does not know what that is",
}
Answer = TypeVar("Answer")
log = Logger()


def address_request() -> bytes:
    """Section 3.2."""
    return struct.pack("!BB", 0, ADDRESS)


def map_request(port: int, transport: Transport, external: int, lease: int) -> bytes:
    """Section 3.3; to remove a mapping, ``lease`` and ``external`` are 0 (section 3.4)."""
    return struct.pack("!BBHHHI", 0, OPCODES[transport], 0, port, external, lease)


def _body(data: bytes, opcode: int, length: int) -> bytes | None:
    """What follows the header of the answer to ``opcode``; None when this is anything else.

    Raises MappingRefused for a result other than success. A gateway that only speaks NAT-PMP's successor
    PCP (RFC 6887, appendix A) answers with its own version: that is a refusal too.
    """
    if len(data) < 4:
        return None
    version, answered, result = struct.unpack_from("!BBH", data)
    if version != 0:
        raise MappingRefused(1, RESULTS[1])
    if answered != 128 + opcode:
        return None
    if result:
        raise MappingRefused(result, RESULTS.get(result, "it does not say why"))
    return data[8 : 8 + length] if len(data) >= 8 + length else None


def read_address(data: bytes) -> IPv4Address | None:
    """The gateway's outer address; None when this is no such answer. Raises MappingRefused."""
    body = _body(data, ADDRESS, 4)
    return IPv4Address(body) if body else None


def read_mapping(data: bytes, port: int, transport: Transport) -> Granted | None:
    """What was granted for our ``port``; None when this is no such answer. Raises MappingRefused."""
    body = _body(data, OPCODES[transport], 8)
    if body is None:
        return None
    ours, external, lease = struct.unpack("!HHI", body)
    return Granted(external, lease) if ours == port else None


def parse_routes(text: str) -> str | None:
    """The next hop of the default route with the least metric, from the text of /proc/net/route (proc(5))."""
    best: tuple[int, str] | None = None
    for line in text.splitlines()[1:]:
        fields = line.split()
        # Flags: RTF_UP and RTF_GATEWAY.
        if (
            len(fields) < 8
            or int(fields[3], 16) & 3 != 3
            or fields[1] != "00000000"
            or fields[7] != "00000000"
        ):
            continue
        # The kernel prints the address as a number of the machine's own byte order.
        candidate = int(fields[6]), str(IPv4Address(struct.pack("=I", int(fields[2], 16))))
        best = min(best or candidate, candidate)
    return best[1] if best else None


def default_gateway(path: Path = Path("/proc/net/route")) -> str | None:
    """Where this machine sends what it has no other route for; None when nowhere."""
    try:
        return parse_routes(path.read_text("ascii"))
    except OSError:
        return None


class _Exchange(DatagramProtocol, Generic[Answer]):
    """One request on its own unconnected port: a connected one is closed by an ICMP error."""

    noisy = False

    def __init__(
        self, where: tuple[str, int], request: bytes, read: Callable[[bytes], Answer | None]
    ) -> None:
        self._where = where
        self._request = request
        self._read = read
        self.answer: Deferred[Answer | None] = Deferred()

    def send(self) -> None:
        """Send the request once. That there is no route is the same as no answer."""
        if self.transport is None:
            return
        try:
            self.transport.write(self._request, self._where)
        except (OSError, MessageLengthError) as problem:
            log.debug("cannot ask {where}: {problem}", where=self._where[0], problem=problem)

    def give_up(self) -> None:
        """Nothing came."""
        if not self.answer.called:
            self.answer.callback(None)

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Take the gateway's answer; anybody else's is ignored (section 3.1)."""
        if addr != self._where or self.answer.called:
            return
        try:
            answer = self._read(datagram)
        except MappingRefused as refusal:
            self.answer.errback(refusal)
            return
        if answer is not None:
            self.answer.callback(answer)


@implementer(IGateway)
class NATPMPGateway:
    """One router that speaks NAT-PMP."""

    def __init__(
        self, reactor: IReactor, host: str, *, port: int = PORT, waits: Sequence[float] = WAITS
    ) -> None:
        """``waits``: how long to wait for an answer after each sending of a request."""
        self._reactor = reactor
        self._where = (host, port)
        self._waits = waits
        self.name = f"{host} (NAT-PMP)"

    async def external_address(self) -> IPv4Address:
        """See IGateway."""
        return await self._ask(address_request(), read_address)

    async def add(self, port: int, transport: Transport, external: int, lease: int) -> Granted:
        """See IGateway. When the port is taken the router picks another by itself."""
        granted = await self._map(port, transport, external, lease)
        if not granted.external or not granted.lease:
            raise GatewayTrouble(where=self.name, problem="it granted nothing")
        return granted

    async def remove(self, port: int, transport: Transport, external: int) -> None:
        """See IGateway."""
        await self._map(port, transport, 0, 0)

    async def _map(self, port: int, transport: Transport, external: int, lease: int) -> Granted:
        request = map_request(port, transport, external, lease)
        return await self._ask(request, lambda data: read_mapping(data, port, transport))

    async def _ask(self, request: bytes, read: Callable[[bytes], Answer | None]) -> Answer:
        exchange = _Exchange(self._where, request, read)
        port = self._reactor.listenUDP(0, exchange, "", 1100)
        timers = []
        elapsed = 0.0
        for wait in self._waits:
            timers.append(self._reactor.callLater(elapsed, exchange.send))
            elapsed += wait
        timers.append(self._reactor.callLater(elapsed, exchange.give_up))
        try:
            answer = await exchange.answer
        finally:
            for timer in timers:
                if timer.active():
                    timer.cancel()
            await maybeDeferred(port.stopListening)
        if answer is None:
            raise GatewayTrouble(where=self.name, problem="it does not answer")
        return answer


async def find(reactor: IReactor, host: str | None) -> NATPMPGateway | None:
    """The gateway at ``host`` (the default route's) if it speaks NAT-PMP and has an outer address."""
    if host is None:
        return None
    gateway = NATPMPGateway(reactor, host)
    try:
        await gateway.external_address()
    except (GatewayTrouble, MappingRefused) as problem:
        log.debug("no NAT-PMP at {host}: {problem}", host=host, problem=problem)
        return None
    return gateway
