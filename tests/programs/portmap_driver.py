"""The machine behind the router: maps ports, answers on them, and says as JSON lines what happens.

``python -m tests.programs.portmap_driver NAME [--lease S] [--retry S] [--contract] PORT/PROTO…``, run in
the machine's network namespace. The line ``map`` on stdin maps the ports, ``close`` closes the mapper; the
answering goes on until stdin ends.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from dataclasses import asdict
from typing import Any, cast

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.protocols.basic import LineOnlyReceiver

from tests.unit.node.portmap.contract import CHECKS
from vifibnet.model.endpoints import Endpoint
from vifibnet.node.portmap.gateway import IReactor
from vifibnet.node.portmap.mapper import find_gateway, make_mapper

reactor = cast(IReactor, global_reactor)


def say(event: str, **fields: object) -> None:
    """One event."""
    print(json.dumps({"event": event, **fields}), flush=True)


def plain(endpoint: Endpoint | None) -> dict[str, Any] | None:
    """An endpoint for JSON."""
    return asdict(endpoint) if endpoint else None


class UDPEcho(DatagramProtocol):
    """Answers with our name and what came."""

    def __init__(self, name: bytes) -> None:
        self.name = name

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Answer."""
        assert self.transport is not None
        self.transport.write(self.name + b" " + datagram, addr)


class TCPEcho(Protocol):
    """Answers with our name and what came."""

    name = b""

    def dataReceived(self, data: bytes) -> None:
        """Answer."""
        assert self.transport is not None
        self.transport.write(self.name + b" " + data)


class Input(LineOnlyReceiver):
    """The commands on stdin; None is the end."""

    delimiter = b"\n"

    def __init__(self) -> None:
        self.commands: DeferredQueue[bytes | None] = DeferredQueue()

    def lineReceived(self, line: bytes) -> None:
        """A command."""
        self.commands.put(line)

    def connectionLost(self, reason: object = None) -> None:
        """The end."""
        self.commands.put(None)


async def contract() -> None:
    """Run the contract on the gateway that is there."""
    gateway = await find_gateway(reactor)
    assert gateway is not None
    say("gateway", name=gateway.name)
    for check in CHECKS:
        problem = ""
        try:
            await check(gateway)
        except Exception as error:
            problem = repr(error)
        say("check", name=check.__name__, problem=problem)
    say("done")


async def main(args: argparse.Namespace) -> None:
    """Do what the command line says."""
    if args.contract:
        await contract()
        return
    for wanted in args.ports:
        port, _, proto = wanted.partition("/")
        if proto == "udp":
            reactor.listenUDP(int(port), UDPEcho(args.name.encode()), "", 8192)
        else:
            factory = Factory.forProtocol(type("Echo", (TCPEcho,), {"name": args.name.encode()}))
            reactor.listenTCP(int(port), factory, 50, "")  # type: ignore[arg-type]
    say("listening")
    mapper = make_mapper(
        reactor,
        random.Random(),
        on_change=lambda endpoint: say("changed", endpoint=plain(endpoint)),
        lease=args.lease,
        retry=args.retry,
    )
    stdin = Input()
    StandardIO(stdin)
    while command := await stdin.commands.get():
        if command == b"map":
            for wanted in args.ports:
                port, _, proto = wanted.partition("/")
                started = reactor.seconds()
                endpoint = await mapper.map(int(port), proto)
                say("mapped", endpoint=plain(endpoint), seconds=reactor.seconds() - started)
        elif command == b"close":
            started = reactor.seconds()
            await mapper.close()
            say("closed", seconds=reactor.seconds() - started)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--lease", type=int, default=600)
    parser.add_argument("--retry", type=float, default=15)
    parser.add_argument("--contract", action="store_true")
    parser.add_argument("ports", nargs="*")
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    react(lambda _: Deferred.fromCoroutine(main(parser.parse_intermixed_args())))
