"""What the registry says to the whole network, as text that the network's CA signs.

One line each, in this order::

    vifibnet revocations 1
    network 2001:db8:42::/48
    authority 3b5d…                 (SHA-256 of the CA's public key, 64 hexadecimal digits)
    number 1795000000               (a later document of this kind has a greater one)
    …                               (the lines of its kind)
    signature 3045…                 (over all lines before, in hexadecimal)

There is exactly one way to write a document; what is written otherwise is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import AnyStr

from vifibnet.errors import BadAddress, BadDocument
from vifibnet.model.addresses import Network


class Kind(StrEnum):
    """What there is a document for, in the order in which a node wants to know."""

    AUTHORITIES = "authorities"
    REVOCATIONS = "revocations"
    PARAMETERS = "parameters"


MAX_DOCUMENT = 8 << 20
"""Bytes of a document that is still read: some 130,000 revoked certificates."""

MAX_NUMBER = (1 << 63) - 1
"""The greatest number of a document: what SQLite counts to."""

_LINES = re.compile(
    r"vifibnet (?P<kind>[a-z]{1,20}) 1\n"
    r"network (?P<network>[0-9a-f:]{2,39}/[0-9]{1,2})\n"
    r"authority (?P<authority>[0-9a-f]{64})\n"
    r"number (?P<number>[0-9]{1,19})\n"
    r"(?P<lines>(?:[!-~][ -~]*\n)*)",
    re.ASCII,
)
_SIGNATURE = re.compile(rb"signature ((?:[0-9a-f]{2}){1,2048})\n")


@dataclass(frozen=True)
class Document:
    """What one signature covers: ``authority`` is the SHA-256 of the CA's public key in hexadecimal; what
    the ``lines`` mean is for the module of this ``kind`` to say."""

    kind: Kind
    network: Network
    authority: str
    number: int
    lines: tuple[str, ...] = ()


def format_document(document: Document) -> bytes:
    """The text to sign."""
    lines = [
        f"vifibnet {document.kind} 1",
        f"network {document.network}",
        f"authority {document.authority}",
        f"number {document.number}",
        *document.lines,
    ]
    return "".join(f"{line}\n" for line in lines).encode("ascii")


def add_signature(text: bytes, signature: bytes) -> bytes:
    """The whole document."""
    return text + b"signature " + signature.hex().encode("ascii") + b"\n"


def split_signature(data: bytes) -> tuple[bytes, bytes]:
    """A document's text and signature. Raises BadDocument."""
    if len(data) > MAX_DOCUMENT:
        raise BadDocument(problem=f"it is longer than {MAX_DOCUMENT} bytes")
    end = data.rfind(b"\n", 0, -1) + 1
    match = _SIGNATURE.fullmatch(data, end)
    if match is None:
        raise BadDocument(problem="it does not end with a signature")
    return data[:end], bytes.fromhex(match[1].decode("ascii"))


def parse_document(text: bytes) -> Document:
    """Read the text without its signature. Raises BadDocument unless it is written as here."""
    if len(text) > MAX_DOCUMENT:
        raise BadDocument(problem=f"it is longer than {MAX_DOCUMENT} bytes")
    match = _LINES.fullmatch(text.decode("ascii", errors="replace"))
    if match is None or match["kind"] not in list(Kind):
        raise BadDocument(problem="it is not written as a document of version 1")
    try:
        network = Network.parse(match["network"])
    except BadAddress as error:
        raise BadDocument(problem=str(error).rstrip(".")) from None
    lines = tuple(match["lines"].splitlines())
    document = Document(Kind(match["kind"]), network, match["authority"], int(match["number"]), lines)
    if document.number > MAX_NUMBER:
        raise BadDocument(problem="its number is too great")
    check_lines(text.splitlines(), format_document(document).splitlines())
    return document


def check_lines(lines: Sequence[AnyStr], written: Sequence[AnyStr]) -> None:
    """Raise BadDocument unless the lines are as we would have ``written`` them."""
    if list(lines) != list(written):
        raise BadDocument(problem="it is not written in the one way that it can be written in")
