"""The network's authorities as lines of a document: ``authority MIIB…`` is a certificate (DER, base64).

The newest comes first. What is not there any more does not count any more.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence

from vifibnet.errors import BadDocument
from vifibnet.wire.document import check_lines

MAX_AUTHORITIES = 8
"""How many a network may have at a time."""

MAX_CERTIFICATE = 8192
"""Bytes of a certificate; one with an RSA key of 8192 bits has some 2,500."""

_WORD = "authority "


def format_authorities(certificates: Iterable[bytes]) -> list[str]:
    """The lines."""
    return [_WORD + b64encode(each).decode("ascii") for each in certificates]


def parse_authorities(lines: Sequence[str]) -> list[bytes]:
    """The certificates, which may still be anything. Raises BadDocument."""
    if not 0 < len(lines) <= MAX_AUTHORITIES:
        raise BadDocument(problem=f"it names {len(lines)} authorities, not 1 to {MAX_AUTHORITIES}")
    if not all(line.startswith(_WORD) and len(line) <= 2 * MAX_CERTIFICATE for line in lines):
        raise BadDocument(problem="it holds a line that is no authority")
    try:
        certificates = [b64decode(line.removeprefix(_WORD), validate=True) for line in lines]
    except ValueError:
        raise BadDocument(problem="an authority in it is not written in base64") from None
    check_lines(lines, format_authorities(certificates))
    return certificates
