"""How the operator's commands reach the running registry: AMP over its unix socket."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.protocol import Factory
from twisted.protocols.amp import AMP, Command, UnhandledCommand

from vifibnet.errors import BadInput, RegistryNotRunning, RegistryUnreachable
from vifibnet.wire.admin import admin_socket

DATABASE = Path("/var/lib/vifibnet/registry.db")
"""The registry's database, unless the operator has it elsewhere."""

TIMEOUT = 30.0
"""Seconds for one answer."""


def add_arguments(parser: argparse.ArgumentParser, default: Path | None = DATABASE) -> None:
    """Which registry; where there is no ``default``, the option without a path means the usual one."""
    parser.add_argument(
        "--registry",
        metavar="PATH",
        type=Path,
        nargs=None if default else "?",
        const=None if default else DATABASE,
        default=default,
        help=f"the database of the running registry (default: {DATABASE})",
    )
    parser.add_argument(
        "--socket", metavar="PATH", type=Path, help="its socket, if it has been given another --admin-socket"
    )


class RegistryAdmin:
    """A connection to the running registry."""

    def __init__(self, reactor: Any, amp: AMP, where: Path) -> None:
        self._reactor = reactor
        self._amp = amp
        self._where = where

    async def call(self, command: type[Command], timeout: float = TIMEOUT, **arguments: Any) -> Any:
        """The answer to one command. Raises a RegistryRefusal or RegistryUnreachable."""
        calling: Deferred[Any] = self._amp.callRemote(command, **arguments)
        calling.addTimeout(timeout, self._reactor)
        try:
            return await calling
        except TimeoutError:
            raise self._unreachable(f"no answer within {timeout:g} s") from None
        except ConnectionClosed:
            raise self._unreachable("it hung up; are you root, or the user that it runs as?") from None
        except UnhandledCommand:
            raise self._unreachable("it is of an older version: restart it") from None

    def _unreachable(self, problem: str) -> RegistryUnreachable:
        return RegistryUnreachable(where=self._where, problem=problem)


@asynccontextmanager
async def running_registry(reactor: Any, args: argparse.Namespace) -> AsyncIterator[RegistryAdmin]:
    """Connect to the registry that the options name. Raises RegistryNotRunning and BadInput."""
    where: Path = args.socket or admin_socket(args.registry)
    option = f"--socket {where}" if args.socket else f"--registry {args.registry}"
    amp = await _connect(reactor, where, option)
    try:
        yield RegistryAdmin(reactor, amp, where)
    finally:
        transport: Any = amp.transport
        transport.loseConnection()


async def _connect(reactor: Any, where: Path, option: str) -> AMP:
    try:
        # The kernel allows 107 bytes for the name of a socket, and a directory's may be longer.
        directory = os.open(where.parent, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        raise _not_allowed(option) from None
    except OSError:
        raise RegistryNotRunning(socket=where) from None
    try:
        place = f"/proc/self/fd/{directory}/{where.name}"
        _probe(place, where, option)
        factory: Factory = Factory.forProtocol(AMP)
        factory.noisy = False
        amp: Any = await UNIXClientEndpoint(reactor, place, timeout=TIMEOUT).connect(factory)
    except ConnectError:
        raise RegistryNotRunning(socket=where) from None
    finally:
        os.close(directory)
    connected: AMP = amp
    return connected


def _probe(place: str, where: Path, option: str) -> None:
    """Twisted does not tell why it cannot connect."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(place)
        except PermissionError:
            raise _not_allowed(option) from None
        except BlockingIOError:
            return
        except OSError:
            raise RegistryNotRunning(socket=where) from None


def _not_allowed(option: str) -> BadInput:
    return BadInput(option, "belongs to another user", "be root, or the user that the registry runs as")
