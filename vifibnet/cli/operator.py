"""How the operator's commands reach the running registry: AMP over its unix socket."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.protocols.amp import AMP, Command

from vifibnet.errors import RegistryNotRunning
from vifibnet.wire.admin import admin_socket

CONNECT_TIMEOUT = 5.0
"""Seconds for the registry to take the call."""

ANSWER_TIMEOUT = 60.0
"""Seconds for the registry to answer."""


def add_registry_argument(parser: argparse.ArgumentParser) -> None:
    """Where the registry is."""
    parser.add_argument(
        "--registry",
        metavar="PATH",
        type=Path,
        default=Path("registry.db"),
        help="the running registry's database, or its --admin-socket (default: registry.db)",
    )


async def ask(reactor: Any, registry: Path, command: type[Command], **arguments: object) -> dict[str, Any]:
    """Make one call. Raises RegistryNotRunning and whatever the registry refuses with."""
    path = registry if registry.is_socket() else admin_socket(registry)
    endpoint = UNIXClientEndpoint(reactor, str(path), timeout=int(CONNECT_TIMEOUT))
    try:
        connection: AMP = await connectProtocol(endpoint, AMP())
    except Exception:
        raise RegistryNotRunning(socket=path) from None
    try:
        calling: Deferred[dict[str, Any]] = connection.callRemote(command, **arguments)
        return await calling.addTimeout(ANSWER_TIMEOUT, reactor)
    finally:
        transport: Any = connection.transport
        transport.abortConnection()
