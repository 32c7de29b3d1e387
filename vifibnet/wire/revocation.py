"""The revocation list as lines of a document: which certificates count no longer although they have not
expired.

One line each, in the order of the serial numbers::

    revoked 8506…1234 5/16 node     (serial number in decimal, prefix, what is meant: see Revoked)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from vifibnet.errors import BadAddress, BadDocument
from vifibnet.model.addresses import Prefix
from vifibnet.wire.document import check_lines

MAX_SERIAL = 1 << 160
"""Serial numbers are smaller: 20 bytes (RFC 5280, 4.1.2.2)."""

_REVOKED = re.compile(r"revoked ([0-9]{1,49}) ([0-9]{1,37}/[0-9]{1,3}) (node|certificate)", re.ASCII)


@dataclass(frozen=True, order=True)
class Revoked:
    """A certificate that counts no longer. ``node``: neither does its node, which has no other certificate;
    otherwise the node goes on with one that is not revoked."""

    serial: int
    prefix: Prefix
    node: bool = True


@dataclass(frozen=True)
class RevocationList:
    """What a list says."""

    revoked: tuple[Revoked, ...] = ()

    @cached_property
    def serials(self) -> frozenset[int]:
        """The serial numbers of all revoked certificates."""
        return frozenset(each.serial for each in self.revoked)

    @cached_property
    def nodes(self) -> frozenset[Prefix]:
        """The nodes that nobody is to have a tunnel with."""
        return frozenset(each.prefix for each in self.revoked if each.node)


def format_revocations(revoked: Iterable[Revoked]) -> list[str]:
    """The lines; whatever order the certificates come in."""
    return [
        f"revoked {each.serial} {each.prefix} {'node' if each.node else 'certificate'}"
        for each in sorted(revoked)
    ]


def parse_revocations(lines: Sequence[str]) -> RevocationList:
    """Read the lines. Raises BadDocument unless they are written as here."""
    listed = RevocationList(tuple(map(_revoked, lines)))
    if len(listed.serials) != len(listed.revoked):
        raise BadDocument(problem="it names a certificate twice")
    check_lines(lines, format_revocations(listed.revoked))
    return listed


def _revoked(line: str) -> Revoked:
    match = _REVOKED.fullmatch(line)
    if match is None or not 0 < int(match[1]) < MAX_SERIAL:
        raise BadDocument(problem="it holds a line that revokes nothing")
    try:
        return Revoked(int(match[1]), Prefix.parse(match[2]), match[3] == "node")
    except BadAddress as error:
        raise BadDocument(problem=str(error).rstrip(".")) from None
