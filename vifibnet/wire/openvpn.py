"""OpenVPN 2.6: its command lines, and the lines of its management interface (doc/management-notes.txt)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint

SERVER_PROTOCOLS = {"udp": "udp6", "tcp-server": "tcp6-server"}
"""What a server may listen with (``--pp``), and openvpn's name for the same on IPv4 and IPv6 at once."""

CONNECT_TIMEOUT = 3
"""Seconds that a client gives one endpoint."""

PING = 1
"""Seconds between two pings of openvpn's own. Far below the least time after which silence ends a tunnel,
whatever hello interval the other end has: it may be following another value of the network's."""

RESOLVE_TIMEOUT = 2
"""Seconds that a client gives one DNS name."""

FULL = "full"
"""What a server that has no place tells a client, who would only hear silence from openvpn itself."""

REFUSED_PLACES = 32
"""Places beyond those for clients that stay: who is told that there is none takes one for five seconds."""

OURS = frozenset({"--daemon", "--dev", "--inetd", "--management", "--mode"})
"""Options that nobody but us may set: the supervision would be lost."""

_PUSHED = ("socket-flags", "peer-id", "cipher", "key-derivation", "protocol-flags", "tun-mtu")
_EMPTY_WORDS = (
    "Use --help",
    "Options error: Please correct",
    "Exiting due to fatal error",
    "WARNING",
    "NOTE",
)
_BUFFER = str(4 << 20)
_FRAGMENTS = ("--mtu-disc", "no")
# Over IPv4, a router with a smaller link may fragment the packets; nobody has to tell us that it is there.


@dataclass(frozen=True)
class OpenVPNSettings:
    """What all OpenVPN processes of a node have in common.

    ``hello`` is babeld's hello interval in seconds, ``mtu`` the taps' in bytes, ``verbose`` 0 to 5;
    ``key`` is None when the operator's ``extra`` arguments hold it. ``state`` gets the management sockets,
    ``log`` one file per tap. ``ca`` is a directory with the trusted authorities, named as OpenSSL looks for
    them; ``revoked`` one with an empty file for each serial number that counts no longer. Openvpn looks into
    both as nobody, at each handshake.
    """

    ca: Path
    cert: Path
    key: Path | None
    state: Path
    log: Path
    hello: float = 15
    mtu: int = 1400
    verbose: int = 0
    extra: tuple[str, ...] = ()
    max_clients: int = 256
    revoked: Path | None = None

    def socket(self, tap: str) -> Path:
        """The management socket of the process that holds this tap."""
        return self.state / f"{tap}.sock"

    def log_file(self, tap: str) -> Path:
        """The log file of the process that holds this tap."""
        return self.log / f"vifibnet-openvpn-{tap}.log"

    @property
    def ping_exit(self) -> int:
        """Seconds of silence after which a tunnel is given up: four hellos."""
        return max(4, math.ceil(4 * self.hello))


def server_command(
    settings: OpenVPNSettings, *, tap: str, port: int, proto: str, multihome: bool = True
) -> list[str]:
    """The command line of a server; ``proto`` is one of SERVER_PROTOCOLS.

    ``multihome``: whether the machine has more than one address of a family, so that an answer would not
    always come from the one that was asked.
    """
    command = [
        *("openvpn", "--mode", "server", "--tls-server", "--dh", "none"),
        *("--proto", SERVER_PROTOCOLS[proto], "--port", str(port)),
        *("--remote-cert-tls", "client", "--max-clients", str(settings.max_clients + REFUSED_PLACES)),
        *_common(settings, tap),
    ]
    if proto == "udp":
        # Tell the clients when we stop.
        command += ["--explicit-exit-notify", "1", "--fast-io", *_FRAGMENTS]
        command += ["--multihome"] if multihome else []
    else:
        command += ["--tcp-nodelay"]
    return command + list(settings.extra)


def client_command(
    settings: OpenVPNSettings, *, tap: str, peer: Prefix, endpoints: Sequence[Endpoint]
) -> list[str]:
    """The command line of a client that tries each endpoint once and believes only ``peer``'s certificate.

    What the server pushes is ignored, but for what the two need to understand each other: the peer is
    another member of the network, not our administrator.
    """
    command = [
        *("openvpn", "--client", "--nobind"),
        *("--remote-cert-tls", "server", "--verify-x509-name", str(peer), "name"),
        *("--connect-timeout", str(CONNECT_TIMEOUT), "--resolv-retry", str(RESOLVE_TIMEOUT)),
        *("--connect-retry", "1", "1", "--connect-retry-max", "1"),
        *_common(settings, tap),
    ]
    for option in _PUSHED:
        command += ["--pull-filter", "accept", option]
    command += ["--pull-filter", "ignore", ""]
    for endpoint in endpoints:
        command += ["--remote", endpoint.address, str(endpoint.port), endpoint.proto]
    if any(endpoint.proto.startswith("udp") for endpoint in endpoints):
        command += ["--explicit-exit-notify", "1", "--fast-io", *_FRAGMENTS]
    if any(endpoint.proto.startswith("tcp") for endpoint in endpoints):
        command += ["--socket-flags", "TCP_NODELAY"]
    return command + list(settings.extra)


def _common(settings: OpenVPNSettings, tap: str) -> list[str]:
    """What servers and clients have in common."""
    command = [
        *(
            "--dev",
            tap,
            "--dev-type",
            "tap",
            "--persist-tun",
            "--persist-key",
            "--tun-mtu",
            str(settings.mtu),
        ),
        *("--capath", str(settings.ca), "--cert", str(settings.cert)),
        *("--ping", str(PING), "--ping-exit", str(settings.ping_exit)),
        *("--sndbuf", _BUFFER, "--rcvbuf", _BUFFER),
        *("--user", "nobody", "--group", "nogroup", "--verb", str(settings.verbose)),
        *("--management", str(settings.socket(tap)), "unix", "--management-hold"),
        # Anybody may connect, but is sent away.
        *("--management-client-user", "root"),
    ]
    if settings.key is not None:
        command += ["--key", str(settings.key)]
    if settings.revoked is not None:
        command += ["--crl-verify", str(settings.revoked), "dir"]
    return command


def complaint(output: Sequence[str]) -> str:
    """What openvpn complains about, out of its last lines; they may begin with a date and a time."""
    lines = [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (us=\d+ )?", "", line) for line in output]
    lines = [line for line in lines if not line.startswith(_EMPTY_WORDS)]
    for mark in ("Options error:", "ERROR", "rror", "annot"):
        said = [line for line in lines if mark in line]
        if said:
            return said[0]
    return lines[-1] if lines else ""


# -- the management interface ------------------------------------------------------------------------


@dataclass(frozen=True)
class Hold:
    """The process waits for ``hold release``."""


@dataclass(frozen=True)
class State:
    """A client's (or server's) state: CONNECTING, WAIT, CONNECTED, RECONNECTING, EXITING …, with the reason
    in ``detail`` and, when connected, whom to."""

    name: str
    detail: str = ""
    address: str = ""
    port: int = 0

    def endpoint(self, endpoints: Sequence[Endpoint]) -> Endpoint:
        """Which of the endpoints a client is connected to; one with a name may have any address."""

        def fits(endpoint: Endpoint) -> int:
            if endpoint.port != self.port:
                return 0
            try:
                return 2 if ip_address(endpoint.address) == ip_address(self.address) else 0
            except ValueError:
                return 1

        best = max(endpoints, key=fits)
        return replace(best, address=self.address or best.address, port=self.port or best.port)


@dataclass(frozen=True)
class ByteCount:
    """How many bytes a client has received and sent through its tunnel."""

    received: int
    sent: int


@dataclass(frozen=True)
class Established:
    """A client has come to this server. ``name`` is its certificate's CN, ``address`` and ``port`` where it
    comes from; ``env`` is everything that openvpn tells."""

    cid: int
    name: str
    address: str
    port: int
    env: Mapping[str, str]

    @property
    def serial(self) -> int | None:
        """The serial number of its certificate, if openvpn tells."""
        digits = self.env.get("tls_serial_0", "")
        return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 60 else None


@dataclass(frozen=True)
class ClientStatus:
    """A row of ``status 3``: a client of this server; ``bytes`` both ways."""

    cid: int
    name: str
    bytes: int


@dataclass(frozen=True)
class Status:
    """The whole answer to ``status 3``: who is connected now."""

    clients: tuple[ClientStatus, ...]


@dataclass(frozen=True)
class Log:
    """A line of the log; ``flags`` has F for a fatal error, N for another, W for a warning."""

    flags: str
    text: str


@dataclass(frozen=True)
class Fatal:
    """The process is about to exit because of this."""

    text: str


@dataclass(frozen=True)
class Notice:
    """The server has told this client something that ends the tunnel, e.g. server-pushed-halt, and why."""

    what: str
    why: str = ""


@dataclass(frozen=True)
class Success:
    """A command was carried out."""

    text: str


@dataclass(frozen=True)
class Error:
    """A command was refused."""

    text: str


Event = Hold | State | ByteCount | Established | Status | Log | Fatal | Notice | Success | Error


class ManagementReader:
    """Turns the lines of one management connection into events. Lines that mean nothing to us are ignored."""

    def __init__(self) -> None:
        self._cid: int | None = None
        self._env: dict[str, str] = {}
        self._columns: dict[str, int] | None = None
        self._clients: list[ClientStatus] = []

    def feed(self, line: str) -> Event | None:
        """Take the next line, without its end; returns the event that it completes, if any."""
        kind, colon, rest = line.partition(":")
        if not colon or not kind.startswith(">"):
            return self._answer(line)
        match kind:
            case ">HOLD":
                return Hold()
            case ">STATE":
                return _state(rest)
            case ">BYTECOUNT":
                counts = _numbers(rest.split(","))
                return ByteCount(*counts) if len(counts) == 2 else None
            case ">LOG":
                _, flags, text = (rest.split(",", 2) + ["", ""])[:3]
                return Log(flags, text)
            case ">FATAL":
                return Fatal(rest)
            case ">NOTIFY":
                _, what, why = (rest.split(",", 2) + ["", ""])[:3]
                return Notice(what, why) if what.startswith("server-pushed-") else None
            case ">CLIENT":
                return self._client(rest)
        return None

    def _client(self, rest: str) -> Event | None:
        """A line of the block that announces a client: the event comes with its last one."""
        what, _, value = rest.partition(",")
        if what == "ESTABLISHED":
            cid = _numbers([value])
            self._cid, self._env = (cid[0] if cid else None), {}
        elif what != "ENV":
            self._cid = None
        elif value != "END":
            name, _, value = value.partition("=")
            self._env[name] = value
        elif self._cid is not None:
            cid, self._cid, env = [self._cid], None, self._env
            port = _numbers([env.get("trusted_port", "")])
            # The address of a peer that came by IPv4 to a dual-stack socket may be spelt either way.
            address = env.get("trusted_ip") or env.get("trusted_ip6", "")
            return Established(
                cid[0],
                env.get("common_name", ""),
                address.removeprefix("::ffff:") if "." in address else address,
                port[0] if port else 0,
                env,
            )
        return None

    def _answer(self, line: str) -> Event | None:
        """A line of an answer; the answer to ``status 3`` is a table, ended by END."""
        word, _, rest = line.partition(":")
        if word == "SUCCESS":
            return Success(rest.strip())
        if word == "ERROR":
            return Error(rest.strip())
        cells = line.split("\t")
        if cells[0] == "TITLE":
            self._columns, self._clients = {}, []
        elif self._columns is not None and cells[:2] == ["HEADER", "CLIENT_LIST"]:
            self._columns = {name: number for number, name in enumerate(cells[2:], start=1)}
        elif self._columns and cells[0] == "CLIENT_LIST":
            row = {name: cells[number] for name, number in self._columns.items() if number < len(cells)}
            numbers = _numbers(row.get(name, "") for name in ("Client ID", "Bytes Received", "Bytes Sent"))
            if len(numbers) == 3:
                self._clients.append(
                    ClientStatus(numbers[0], row.get("Common Name", ""), numbers[1] + numbers[2])
                )
        elif self._columns is not None and cells == ["END"]:
            self._columns = None
            return Status(tuple(self._clients))
        return None


def _state(rest: str) -> State | None:
    """The fields after ``>STATE:``."""
    fields = rest.split(",") + [""] * 6
    port = _numbers([fields[5]])
    return State(fields[1], fields[2], fields[4], port[0] if port else 0) if fields[1] else None


def _numbers(texts: Iterable[str]) -> list[int]:
    """The whole numbers among some texts (of at most 20 digits, as openvpn's counters have)."""
    return [int(text) for text in texts if text.isascii() and text.isdigit() and len(text) <= 20]
