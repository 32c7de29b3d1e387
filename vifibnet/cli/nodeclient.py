"""How the operator's commands reach the running node: AMP over its unix socket, and its status."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.protocol import Factory
from twisted.protocols.amp import AMP, Command, UnhandledCommand

from vifibnet.errors import BadInput, NodeNotRunning, NodeRefusal, VifibnetError
from vifibnet.node.config import STATE
from vifibnet.node.status import FILE, read_status
from vifibnet.wire.control import CONTROL

TIMEOUT = 10.0
"""Seconds for one answer."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which node."""
    parser.add_argument(
        "--state", metavar="DIR", type=Path, default=STATE, help="the node's --state (default: %(default)s)"
    )


def absent(socket: Path) -> VifibnetError:
    """Why nobody answers at a node's socket."""
    if not os.access(socket.parent, os.X_OK) or (socket.exists() and not os.access(socket, os.W_OK)):
        return _not_allowed(socket.parent)
    return NodeNotRunning(socket=socket)


async def node_status(reactor: Any, state: Path) -> Mapping[str, Any]:
    """What the node says of itself. Raises NodeNotRunning and BadInput."""
    answer = await read_status(reactor, state / FILE)
    if answer is None:
        raise absent(state / FILE)
    if "drained" not in answer:
        raise BadInput(f"--state {state}", "its node is of an older version", "restart it")
    return answer


async def call(reactor: Any, state: Path, command: type[Command]) -> Any:
    """The node's answer to one command. Raises NodeNotRunning, NodeRefusal and BadInput."""
    # Who is there at all, and new enough to have the other socket.
    await node_status(reactor, state)
    socket = state / CONTROL
    factory: Factory = Factory.forProtocol(AMP)
    factory.noisy = False
    try:
        amp: Any = await UNIXClientEndpoint(reactor, str(socket), timeout=TIMEOUT).connect(factory)
    except (ConnectError, TimeoutError):
        raise absent(socket) from None
    calling: Deferred[Any] = amp.callRemote(command)
    try:
        return await calling.addTimeout(TIMEOUT, reactor)
    except TimeoutError:
        raise NodeRefusal(problem=f"no answer within {TIMEOUT:g} s") from None
    except ConnectionClosed:
        raise _not_allowed(state) from None
    except UnhandledCommand:
        raise BadInput(f"--state {state}", "its node is of an older version", "restart it") from None
    finally:
        amp.transport.loseConnection()


def _not_allowed(state: Path) -> BadInput:
    return BadInput(f"--state {state}", "belongs to another user", "be root")
