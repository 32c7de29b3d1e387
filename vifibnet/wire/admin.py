"""The AMP commands between an operator's command line and the running registry, over its unix socket.

Who calls is the user at the other end of the socket. Lists come in pages: each answer names the place to ask
from for the next one, until that is empty. Times are seconds since 1970.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from twisted.protocols import amp

from vifibnet.wire.amp import RegistryCommand

SUFFIX = ".sock"
"""What the socket's name has behind the database's, unless the operator gives it another."""

MAX_INVITATIONS = 30
"""How many one call may ask for: the longest ones still fit into one AMP value."""


def admin_socket(database: Path) -> Path:
    """Where the registry with this database listens to its operator, unless told otherwise."""
    return database.with_name(database.name + SUFFIX)


NODE: list[tuple[bytes, amp.Argument]] = [
    (b"prefix", amp.Unicode()),
    (b"address", amp.Unicode()),
    (b"subject", amp.Unicode()),
    (b"email", amp.Unicode(optional=True)),
    (b"serial", amp.Unicode()),
    (b"joined", amp.Float()),
    (b"expires", amp.Float()),
    (b"released", amp.Float(optional=True)),
    (b"revoked", amp.Float(optional=True)),
    (b"seen", amp.Float(optional=True)),
    (b"connected", amp.Boolean()),
    (b"endpoints", amp.Unicode()),
]
"""A node: its newest certificate's subject (RFC 4514), decimal serial number and end; when it was seen."""

TOKEN: list[tuple[bytes, amp.Argument]] = [
    (b"kind", amp.Unicode()),
    (b"email", amp.Unicode(optional=True)),
    (b"prefix_length", amp.Integer(optional=True)),
    (b"created", amp.Float()),
    (b"expires", amp.Float()),
    (b"used", amp.Unicode(optional=True)),
]
"""A token that has not expired: ``mail`` or ``invitation``, and the prefix of the node that used it."""


class Invite(RegistryCommand):
    """Make ``count`` invitations, each good for one certificate within ``valid`` seconds."""

    commandName = b"Invite"
    arguments: ClassVar[list] = [
        (b"count", amp.Integer()),
        (b"valid", amp.Integer()),
        (b"email", amp.Unicode(optional=True)),
        (b"prefix_length", amp.Integer(optional=True)),
    ]
    response: ClassVar[list] = [
        (b"invitations", amp.ListOf(amp.Unicode())),
        (b"network", amp.Unicode()),
        (b"addresses", amp.ListOf(amp.Unicode())),
        (b"port", amp.Integer()),
        (b"expires", amp.Float()),
    ]


class ListNodes(RegistryCommand):
    """The nodes, also the released ones whose prefix is not free yet, by prefix, from ``after`` on."""

    commandName = b"ListNodes"
    arguments: ClassVar[list] = [(b"after", amp.Unicode())]
    response: ClassVar[list] = [(b"nodes", amp.AmpList(NODE)), (b"next", amp.Unicode())]


class ListTokens(RegistryCommand):
    """The tokens, the oldest first, from ``after`` on."""

    commandName = b"ListTokens"
    arguments: ClassVar[list] = [(b"after", amp.Unicode())]
    response: ClassVar[list] = [(b"tokens", amp.AmpList(TOKEN)), (b"next", amp.Unicode())]


class Release(RegistryCommand):
    """Take a node's prefix from it: ``node`` is the prefix or an address inside it.

    The prefix is ``free`` again when no certificate for it can count any more.
    """

    commandName = b"Release"
    arguments: ClassVar[list] = [(b"node", amp.Unicode())]
    response: ClassVar[list] = [
        (b"prefix", amp.Unicode()),
        (b"address", amp.Unicode()),
        (b"email", amp.Unicode(optional=True)),
        (b"free", amp.Float()),
    ]


class Revoke(RegistryCommand):
    """Revoke a node, named by its prefix or an address inside it, or one certificate, by its serial number
    (decimal, or hexadecimal after 0x). ``done`` says in words what was revoked."""

    commandName = b"Revoke"
    arguments: ClassVar[list] = [(b"what", amp.Unicode()), (b"reason", amp.Unicode())]
    response: ClassVar[list] = [(b"done", amp.Unicode()), (b"number", amp.Integer())]


class Backup(RegistryCommand):
    """Write a copy of the database into a file that is not there yet, named by its absolute path."""

    commandName = b"Backup"
    arguments: ClassVar[list] = [(b"path", amp.Unicode())]
    response: ClassVar[list] = [(b"size", amp.Integer()), (b"nodes", amp.Integer())]
