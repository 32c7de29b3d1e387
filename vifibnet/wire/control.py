"""The AMP commands between an operator's command line and the running node, over its unix socket.

Who calls is the user at the other end of the socket. What came of it is in the node's status.
"""

from __future__ import annotations

from typing import ClassVar

from twisted.protocols import amp

from vifibnet.errors import NodeRefusal

CONTROL = "control.sock"
"""The socket, in the node's state directory."""


class NodeCommand(amp.Command):
    """What all have in common."""

    errors: ClassVar[dict] = {NodeRefusal: b"REFUSED"}


class Drain(NodeCommand):
    """Carry no traffic of others that can go elsewhere, until Undrain. ``before``: whether that was so."""

    commandName = b"Drain"
    arguments: ClassVar[list] = []
    response: ClassVar[list] = [(b"before", amp.Boolean())]


class Undrain(NodeCommand):
    """Carry it again. ``before``: whether the node was drained."""

    commandName = b"Undrain"
    arguments: ClassVar[list] = []
    response: ClassVar[list] = [(b"before", amp.Boolean())]
