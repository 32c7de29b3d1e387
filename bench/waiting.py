"""Nodes that stay connected to a registry and do nothing else: one process of ``bench.registry_load``.

They are the node's own registry client, with its own policy of reconnecting. Prints a line of JSON ten times
a second: the time, how many are connected, that is answered, and what was logged as a warning or worse.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.task import LoopingCall
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
)
from zope.interface import implementer

from bench.registry import load_identities
from vifibnet.guard.limits import raise_descriptors
from vifibnet.node.registryclient import RegistryClient
from vifibnet.pki.tls import client_options
from vifibnet.wire.amp import ALPN

PER_ADDRESS = 250
"""Nodes with the same source address; each process has addresses of its own."""


def main() -> None:
    """Connect, so many a second, and stay."""
    from twisted.internet import reactor as global_reactor

    reactor: Any = global_reactor
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--number", type=int, required=True, help="of this process")
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--rate", type=float, default=150, help="first connections per second")
    args = parser.parse_args()
    raise_descriptors()
    warnings: dict[str, int] = {}

    @implementer(ILogObserver)
    def observe(event: Any) -> None:
        text = str(event.get("problem") or event.get("log_format") or event.get("log_failure"))
        warnings[text] = warnings.get(text, 0) + 1

    predicate = LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)
    globalLogBeginner.beginLoggingTo([FilteringLogObserver(observe, [predicate])], redirectStandardIO=False)
    rng = Random()
    options = [client_options([identity.ca], identity, [ALPN]) for identity in load_identities(args.home)]
    clients: list[RegistryClient] = []
    for number in range(args.nodes):
        source = f"127.{args.number + 1}.{number // PER_ADDRESS}.1"
        tcp = TCP4ClientEndpoint(reactor, "127.0.0.1", args.port, bindAddress=(source, 0))
        tls = options[number % len(options)]
        client = RegistryClient(reactor, rng, wrapClientTLS(tls, tcp), "registry")
        clients.append(client)
        reactor.callLater(number / args.rate, client.startService)

    def report() -> None:
        connected = sum(client.connected for client in clients)
        print(json.dumps({"at": reactor.seconds(), "connected": connected, "warnings": warnings}), flush=True)

    LoopingCall(report).start(0.1)
    reactor.run()


if __name__ == "__main__":
    main()
