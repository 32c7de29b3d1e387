"""A registry to be measured: its files, and the process itself (``python -m bench.registry``).

It is the service that twistd runs, with the log going to a file as there.
"""

from __future__ import annotations

import argparse
import json
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from twisted.internet.task import Clock
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)

from vifibnet.guard.limits import Limits
from vifibnet.model.addresses import Network, Prefix
from vifibnet.pki.authorities import Authorities
from vifibnet.pki.authority import Authority, create_authority
from vifibnet.pki.certificates import Identity, prefix_of
from vifibnet.pki.requests import make_key, make_request
from vifibnet.registry.core import Registry
from vifibnet.registry.service import RegistryConfig, RegistryService
from vifibnet.store.registry import RegistryStore

NETWORK = Network.parse("2001:db8:42::/48")
LENGTH = 17
"""Bits of the nodes' prefixes: room for 131,072."""

ENDPOINTS = "192.0.2.1,1194,udp;192.0.2.1,1194,tcp-client"
_TABLES = ("certificate", "prefix", "peer")


def prepare(home: Path, nodes: int, identities: int) -> None:
    """Write a CA, a database of ``nodes`` declared nodes, and certificates of the first ``identities``.

    All nodes have the same key: making them takes long and changes nothing.
    """
    now = datetime.now(UTC)
    key, certificate = create_authority(NETWORK, now=now)
    (home / "ca.key").write_bytes(key)
    (home / "ca.crt").write_bytes(certificate)
    authority = load_authority(home)
    node_key = make_key()
    private = node_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (home / "node.key").write_bytes(private)
    request = make_request(node_key, [])
    _populate(home, authority, nodes, request.public_bytes(Encoding.PEM).decode())
    pems = [
        authority.sign(request, Prefix(number, LENGTH), _serial(number), now).public_bytes(Encoding.PEM)
        for number in range(identities)
    ]
    (home / "nodes.crt").write_bytes(b"".join(pems))


def load_authority(home: Path) -> Authority:
    """The CA of ``prepare``."""
    return Authority.load(home / "ca.crt", home / "ca.key", datetime.now(UTC))


def load_identities(home: Path) -> list[Identity]:
    """The nodes of ``prepare`` that have certificates."""
    ca = load_authority(home).ca
    key: Any = load_pem_private_key((home / "node.key").read_bytes(), None)
    shown = x509.load_pem_x509_certificates((home / "nodes.crt").read_bytes())
    return [Identity(each, key, ca, NETWORK, prefix_of(each)) for each in shown]


def _serial(number: int) -> int:
    return 1 << 126 | number


def _populate(home: Path, authority: Authority, nodes: int, request: str) -> None:
    """Let one node join as nodes do, and copy what the database then knows of it."""
    clock = Clock()
    clock.advance(time.time())
    store = RegistryStore.open(str(home / "registry.db"), NETWORK, clock.seconds)
    none: Any = None
    registry = Registry(Authorities.of(authority), store, none, clock, none)
    store.add_token("token", "a@b.example")
    pem = registry.request_certificate("token", request)
    node = prefix_of(x509.load_pem_x509_certificate(pem.encode()))
    registry.declare(node, ENDPOINTS)
    store.close()
    with closing(sqlite3.connect(home / "registry.db")) as db, db:
        db.row_factory = sqlite3.Row
        for table in _TABLES:
            if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (table,)).fetchone():
                continue
            model = dict(db.execute(f"SELECT * FROM {table} WHERE bits = ?", (node.bits,)).fetchone())
            db.execute(f"DELETE FROM {table}")
            marks = ", ".join(f":{column}" for column in model)
            db.executemany(
                f"INSERT INTO {table} ({', '.join(model)}) VALUES ({marks})",
                ({**model, **_own(number, model)} for number in range(nodes)),
            )
        db.executemany("INSERT INTO prefix (bits) VALUES (?)", ((bits,) for bits in _free(nodes)))


def _free(nodes: int) -> Iterator[str]:
    """What is left above so many prefixes, in as few pieces as possible."""
    while nodes < 1 << LENGTH:
        piece = nodes & -nodes or 1 << LENGTH
        yield Prefix(nodes, LENGTH).bits[: LENGTH + 1 - piece.bit_length()]
        nodes += piece


def _own(number: int, model: dict[str, Any]) -> dict[str, Any]:
    """What differs from node to node."""
    own = {
        "bits": Prefix(number, LENGTH).bits,
        "serial": str(_serial(number)),
        "email": f"{number}@example.com",
        "slot": number + 1,
    }
    return {column: value for column, value in own.items() if column in model}


# -- the process ----------------------------------------------------------------------------------------


def free_port() -> int:
    """A port of the loopback on which nobody listens at this moment."""
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        number: int = some.getsockname()[1]
    return number


def start(module: str, *arguments: str) -> subprocess.Popen[str]:
    """Start one of this package's modules as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", f"bench.{module}", *arguments],
        cwd=Path(__file__).parent.parent,
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )


def await_port(port: int, process: subprocess.Popen[str], timeout: float = 60) -> None:
    """Return when somebody listens there, as the kernel tells without connecting."""
    end = time.monotonic() + timeout
    while True:
        lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
        if any(line.split()[1] == f"0100007F:{port:04X}" and line.split()[3] == "0A" for line in lines):
            return
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"what should listen on port {port} did not start")
        time.sleep(0.02)


def main() -> None:
    """Run a registry until it is killed."""
    from twisted.internet import reactor as global_reactor

    reactor: Any = global_reactor
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--plain", type=int, help="a port for XML-RPC without TLS")
    parser.add_argument("--limits", type=json.loads, default={}, help="limits other than the usual, as JSON")
    parser.add_argument("--profile", help="write cProfile's figures there when ended by SIGTERM")
    args = parser.parse_args()
    log = textFileLogObserver((args.home / "registry.log").open("a"))
    predicate = LogLevelFilterPredicate(defaultLogLevel=LogLevel.info)
    globalLogBeginner.beginLoggingTo([FilteringLogObserver(log, [predicate])], redirectStandardIO=False)
    config = RegistryConfig(
        port=args.port,
        db=str(args.home / "registry.db"),
        authorities=Authorities.of(load_authority(args.home)),
        mailhost="127.0.0.1",
        mail_port=1,
        mail_from="a@b.example",
        server="127.0.0.1",
        names=("127.0.0.1",),
        interfaces=("127.0.0.1",),
        plain_http=(f"tcp:{args.plain}:interface=127.0.0.1",) if args.plain else (),
        limits=Limits(**args.limits),
    )
    service = RegistryService(reactor, config)
    service.privilegedStartService()
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    if args.profile:
        import cProfile

        profile = cProfile.Profile()
        profile.runcall(reactor.run)
        profile.dump_stats(args.profile)
    else:
        reactor.run()


if __name__ == "__main__":
    main()
