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


SETTING: list[tuple[bytes, amp.Argument]] = [
    (b"name", amp.Unicode()),
    (b"value", amp.Unicode(optional=True)),
    (b"changed", amp.Float()),
]
"""A parameter that was set: its value as text ("": none), unless that is a secret, and when it was set."""

CHANGE: list[tuple[bytes, amp.Argument]] = [(b"name", amp.Unicode()), (b"value", amp.Unicode(optional=True))]
"""A parameter and what it is to be; no value: the default."""


class SetParameters(RegistryCommand):
    """Change the network's parameters, all or none; no ``changes``: only tell what they are.

    ``before`` and ``after`` are the parameters that are set; ``changed`` the names of those that differ.
    ``told`` is how many nodes are connected and were told of the document with this ``number``.
    """

    commandName = b"SetParameters"
    arguments: ClassVar[list] = [(b"changes", amp.AmpList(CHANGE))]
    response: ClassVar[list] = [
        (b"before", amp.AmpList(SETTING)),
        (b"after", amp.AmpList(SETTING)),
        (b"changed", amp.ListOf(amp.Unicode())),
        (b"number", amp.Integer()),
        (b"told", amp.Integer()),
    ]


class Status(RegistryCommand):
    """How the registry is: how many ``nodes`` there are and are ``connected``, ``tokens`` that have not
    expired, nodes that have ``declared`` where they can be reached; the revocation list's number."""

    commandName = b"Status"
    arguments: ClassVar[list] = []
    response: ClassVar[list] = [
        (b"network", amp.Unicode()),
        (b"version", amp.Unicode()),
        (b"started", amp.Float()),
        (b"nodes", amp.Integer()),
        (b"connected", amp.Integer()),
        (b"tokens", amp.Integer()),
        (b"declared", amp.Integer()),
        (b"revocations", amp.Integer()),
        (b"authority_expires", amp.Float()),
    ]


class RenewCA(RegistryCommand):
    """Make the authority that follows on the network's newest one, and lasts so many ``days``.

    The old one signs until ``signs_from``, which is ``wait`` seconds from now unless that one ends too soon.
    """

    commandName = b"RenewCA"
    arguments: ClassVar[list] = [
        (b"new_key", amp.Boolean()),
        (b"days", amp.Integer()),
        (b"wait", amp.Integer()),
    ]
    response: ClassVar[list] = [
        (b"fingerprint", amp.Unicode()),
        (b"signs_from", amp.Float()),
        (b"end", amp.Float()),
        (b"old_end", amp.Float()),
        (b"ca", amp.Unicode()),
        (b"key", amp.Unicode()),
    ]


class Backup(RegistryCommand):
    """Write a copy of the database into a file that is not there yet, named by its absolute path."""

    commandName = b"Backup"
    arguments: ClassVar[list] = [(b"path", amp.Unicode())]
    response: ClassVar[list] = [(b"size", amp.Integer()), (b"nodes", amp.Integer())]
