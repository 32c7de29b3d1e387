"""The AMP commands between node and registry. Who calls is in the certificate, never in an argument."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from twisted.protocols import amp

from vifibnet.errors import REFUSALS

ALPN = b"vifibnet-amp"
"""The TLS protocol name (RFC 7301) that selects AMP on the registry's port."""

REGISTRY_NAME = "registry.vifibnet"
"""The name in the registry's certificate, whatever address it is dialled at."""

SEEN = (b"seen", amp.Unicode())
"""The address that the caller was seen from."""

PEER: list[tuple[bytes, amp.Argument]] = [(b"prefix", amp.Unicode()), (b"endpoints", amp.Unicode())]
"""A peer: its prefix (``5/16``) and its endpoint string."""


MAX_VALUE = 0xFFFF
"""Bytes of one value in an AMP box."""

MAX_PIECE = 60_000
"""Bytes of a document that one answer holds; an AMP value has at most MAX_VALUE."""


def fitting(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many of the rows of an AmpList (texts and numbers), from the first, as one AMP value holds."""
    answer = []
    room = MAX_VALUE
    for row in rows:
        # Two bytes of length before each key and value, and two at the end of each row.
        room -= 2 + sum(len(key) + len(str(value).encode()) + 4 for key, value in row.items())
        if room < 0:
            break
        answer.append(row)
    return answer


class RegistryCommand(amp.Command):
    """What all have in common: the refusals as errors, named by their codes."""

    errors: ClassVar[dict] = {cls: b"%d" % code for code, cls in REFUSALS.items()}


class Declare(RegistryCommand):
    """Tell the registry where the caller can be reached; no endpoints: it cannot be reached."""

    commandName = b"Declare"
    arguments: ClassVar[list] = [(b"endpoints", amp.Unicode())]
    response: ClassVar[list] = [SEEN]


class GetPeers(RegistryCommand):
    """Ask for up to ``count`` peers, chosen at random, without the caller."""

    commandName = b"GetPeers"
    arguments: ClassVar[list] = [(b"count", amp.Integer())]
    response: ClassVar[list] = [(b"peers", amp.AmpList(PEER)), SEEN]


class GetBootstrapPeer(RegistryCommand):
    """Ask for one peer that can be reached."""

    commandName = b"GetBootstrapPeer"
    arguments: ClassVar[list] = []
    response: ClassVar[list] = [*PEER, SEEN]


class GetDocument(RegistryCommand):
    """Ask for the document of a kind if its number is greater than ``number``, from byte ``offset`` on.

    The answer has the number, how long the document is in all, and up to MAX_PIECE bytes of it; none when
    the caller has that number already. A number that changes from piece to piece means: begin again.
    """

    commandName = b"GetDocument"
    arguments: ClassVar[list] = [
        (b"kind", amp.Unicode()),
        (b"number", amp.Integer()),
        (b"offset", amp.Integer()),
    ]
    response: ClassVar[list] = [
        (b"number", amp.Integer()),
        (b"length", amp.Integer()),
        (b"piece", amp.String()),
        SEEN,
    ]


class Renew(RegistryCommand):
    """Trade a certificate request (PEM) for a new certificate (PEM) with the caller's prefix.

    The only command that an expired certificate may still call, for as long as the registry's grace lasts,
    beside GetDocument for the authorities.
    """

    commandName = b"Renew"
    arguments: ClassVar[list] = [(b"request", amp.Unicode())]
    response: ClassVar[list] = [(b"certificate", amp.Unicode()), SEEN]


class DocumentChanged(amp.Command):
    """From the registry to a node: there is a document of this kind with this number. There is no answer."""

    commandName = b"DocumentChanged"
    arguments: ClassVar[list] = [(b"kind", amp.Unicode()), (b"number", amp.Integer())]
    requiresAnswer = False


class Ping(amp.Command):
    """From the registry to a node that has said nothing for long: any answer will do."""

    commandName = b"Ping"
    arguments: ClassVar[list] = []
    response: ClassVar[list] = []
