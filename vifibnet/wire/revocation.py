"""The revocation list as text: which certificates count no longer although they have not expired.

One line each, in this order::

    vifibnet revocation list 1
    network 2001:db8:42::/48
    authority 3b5d…                 (SHA-256 of the CA's public key, 64 hexadecimal digits)
    number 1795000000               (a later list has a greater one)
    revoked 8506…1234 5/16 node     (serial number in decimal, prefix, what is meant: see Revoked)
    signature 3045…                 (over all lines before, in hexadecimal)

There is exactly one way to write a list: serial numbers ascend, and what is written otherwise is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from vifibnet.errors import BadAddress, BadRevocations
from vifibnet.model.addresses import Network, Prefix

MAX_DOCUMENT = 8 << 20
"""Bytes of a list that is still read: some 130,000 certificates."""

MAX_NUMBER = (1 << 63) - 1
"""The greatest number of a list: what SQLite counts to."""

MAX_SERIAL = 1 << 160
"""Serial numbers are smaller: 20 bytes (RFC 5280, 4.1.2.2)."""

_HEAD = "vifibnet revocation list 1"
_REVOKED = r"revoked [0-9]{1,49} [0-9]{1,37}/[0-9]{1,3} (?:node|certificate)\n"
_LINES = re.compile(
    rf"{_HEAD}\n"
    r"network (?P<network>[0-9a-f:]{2,39}/[0-9]{1,2})\n"
    r"authority (?P<authority>[0-9a-f]{64})\n"
    r"number (?P<number>[0-9]{1,19})\n"
    rf"(?P<revoked>(?:{_REVOKED})*)",
    re.ASCII,
)
_SIGNATURE = re.compile(rb"signature ((?:[0-9a-f]{2}){1,2048})\n")


@dataclass(frozen=True, order=True)
class Revoked:
    """A certificate that counts no longer. ``node``: neither does its node, which has no other certificate;
    otherwise the node goes on with one that is not revoked."""

    serial: int
    prefix: Prefix
    node: bool = True


@dataclass(frozen=True)
class RevocationList:
    """What one signature covers: ``authority`` is the SHA-256 of the CA's public key in hexadecimal."""

    network: Network
    authority: str
    number: int
    revoked: tuple[Revoked, ...] = ()

    @cached_property
    def serials(self) -> frozenset[int]:
        """The serial numbers of all revoked certificates."""
        return frozenset(each.serial for each in self.revoked)

    @cached_property
    def nodes(self) -> frozenset[Prefix]:
        """The nodes that nobody is to have a tunnel with."""
        return frozenset(each.prefix for each in self.revoked if each.node)


def format_revocations(listed: RevocationList) -> bytes:
    """The text to sign; whatever order the certificates come in."""
    lines = [
        _HEAD,
        f"network {listed.network}",
        f"authority {listed.authority}",
        f"number {listed.number}",
        *(_line(each) for each in sorted(listed.revoked)),
    ]
    return "".join(f"{line}\n" for line in lines).encode("ascii")


def _line(each: Revoked) -> str:
    return f"revoked {each.serial} {each.prefix} {'node' if each.node else 'certificate'}"


def add_signature(text: bytes, signature: bytes) -> bytes:
    """The whole document."""
    return text + b"signature " + signature.hex().encode("ascii") + b"\n"


def split_signature(document: bytes) -> tuple[bytes, bytes]:
    """A document's text and signature. Raises BadRevocations."""
    if len(document) > MAX_DOCUMENT:
        raise BadRevocations(problem=f"it is longer than {MAX_DOCUMENT} bytes")
    end = document.rfind(b"\n", 0, -1) + 1
    match = _SIGNATURE.fullmatch(document, end)
    if match is None:
        raise BadRevocations(problem="it does not end with a signature")
    return document[:end], bytes.fromhex(match[1].decode("ascii"))


def parse_revocations(text: bytes) -> RevocationList:
    """Read the text without its signature. Raises BadRevocations unless it is written as here."""
    if len(text) > MAX_DOCUMENT:
        raise BadRevocations(problem=f"it is longer than {MAX_DOCUMENT} bytes")
    match = _LINES.fullmatch(text.decode("ascii", errors="replace"))
    if match is None:
        raise BadRevocations(problem="it is not written as a revocation list of version 1")
    try:
        listed = RevocationList(
            Network.parse(match["network"]),
            match["authority"],
            int(match["number"]),
            tuple(_revoked(match["revoked"].splitlines())),
        )
    except BadAddress as error:
        raise BadRevocations(problem=str(error).rstrip(".")) from None
    if listed.number > MAX_NUMBER or len(listed.serials) != len(listed.revoked):
        raise BadRevocations(problem="it holds a number that is too great or a certificate twice")
    if format_revocations(listed) != text:
        raise BadRevocations(problem="it is not written in the one way that it can be written in")
    return listed


def _revoked(lines: Iterable[str]) -> Iterable[Revoked]:
    for line in lines:
        _, serial, prefix, what = line.split(" ")
        if not 0 < int(serial) < MAX_SERIAL:
            raise BadRevocations(problem=f"{serial} is no serial number")
        yield Revoked(int(serial), Prefix.parse(prefix), what == "node")
