"""Find UPnP gateways: the M-SEARCH of the UPnP Device Architecture 1.1, section 1.3.

Anybody on the LAN may answer, with anything, so an answer counts only when it points back to the host it
came from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import MessageLengthError
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from vifibnet.node.portmap.gateway import IReactor

GROUP = ("239.255.255.250", 1900)
TARGETS = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
)
MAX_ANSWERS = 8
MAX_DATAGRAM = 2048
SEND_EVERY = 0.5
"""Seconds between repetitions: datagrams get lost."""

_PRINTABLE = re.compile(r"[!-~]{1,500}")
log = Logger()


@dataclass(frozen=True)
class Found:
    """One gateway's answer. ``location`` is always ``http://HOST:PORT/…`` with the port written out."""

    host: str
    location: str
    target: str
    server: str
    usn: str


def url_on(host: str, base: str, reference: str) -> str:
    """Resolve ``reference`` against ``base``, the port written out.

    Raises ValueError when that is no plain http URL on ``host``: a gateway speaks for itself only.
    """
    url = urljoin(base, reference)
    if not reference or not _PRINTABLE.fullmatch(url):
        raise ValueError(f"no usable URL: {url[:100]!r}")
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname != host or "@" in parts.netloc:
        raise ValueError(f"{url[:100]!r} is not an http URL on {host}")
    query = f"?{parts.query}" if parts.query else ""
    return f"http://{host}:{parts.port or 80}{parts.path or '/'}{query}"


def request(target: str, destination: tuple[str, int]) -> bytes:
    """One M-SEARCH, to be answered within a second."""
    lines = (
        "M-SEARCH * HTTP/1.1",
        f"HOST: {destination[0]}:{destination[1]}",
        'MAN: "ssdp:discover"',
        "MX: 1",
        f"ST: {target}",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii")


def parse_answer(data: bytes, host: str) -> Found | None:
    """Read one datagram that came from ``host``; None when it is not a gateway's answer about itself."""
    if len(data) > MAX_DATAGRAM:
        return None
    status, *lines = data.decode("latin-1").split("\r\n")
    if not re.match(r"HTTP/1\.[01] 200\b", status):
        return None
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if headers.get("st") not in TARGETS:
        return None
    try:
        location = url_on(host, "", headers.get("location", ""))
    except ValueError:
        return None
    return Found(host, location, headers["st"], headers.get("server", ""), headers.get("usn", ""))


class _Searcher(DatagramProtocol):
    """Sends the questions, collects the answers: one per host and target."""

    noisy = False

    def __init__(self, destinations: Sequence[tuple[str, int]]) -> None:
        self._destinations = destinations
        self.found: dict[tuple[str, str], Found] = {}
        self.first: Deferred[None] = Deferred()

    def ask(self) -> None:
        """Send every question once. That there is no route is the same as no answer."""
        if self.transport is None:
            return
        for destination in self._destinations:
            for target in TARGETS:
                try:
                    self.transport.write(request(target, destination), destination)
                except (OSError, MessageLengthError) as problem:
                    log.debug("cannot search at {where}: {problem}", where=destination[0], problem=problem)

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Keep what a gateway says about itself."""
        found = parse_answer(datagram, addr[0])
        if found is None or len(self.found) >= MAX_ANSWERS:
            return
        self.found.setdefault((found.host, found.target), found)
        self.wait_no_longer()

    def wait_no_longer(self) -> None:
        """Let the search end."""
        if not self.first.called:
            self.first.callback(None)


async def search(
    reactor: IReactor,
    destinations: Sequence[tuple[str, int]] = (GROUP,),
    *,
    timeout: float = 1.5,
    settle: float = 0.2,
) -> list[Found]:
    """Ask who is a gateway, for ``timeout`` seconds or until ``settle`` after the first answer.

    One answer per host, version 2 before version 1, in the order of arrival; none is a normal answer.
    """
    searcher = _Searcher(destinations)
    port = reactor.listenUDP(0, searcher, "", MAX_DATAGRAM + 1)
    asking = LoopingCall(searcher.ask)
    asking.clock = reactor
    try:
        asking.start(SEND_EVERY)
        give_up = reactor.callLater(timeout, searcher.wait_no_longer)
        try:
            await searcher.first
        finally:
            if give_up.active():
                give_up.cancel()
        if searcher.found:
            await deferLater(reactor, settle)
    finally:
        asking.stop()
        await maybeDeferred(port.stopListening)
    best: dict[str, Found] = {}
    for found in sorted(searcher.found.values(), key=lambda found: TARGETS.index(found.target)):
        best.setdefault(found.host, found)
    hosts = dict.fromkeys(host for host, _ in searcher.found)
    return [best[host] for host in hosts]
