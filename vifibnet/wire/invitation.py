"""An invitation: one line of text with all that somebody needs to join a network.

It reads ``vifibnet1:`` and letters and digits, which are base32 (RFC 4648, without padding) of

====== ==================================================================================
bytes  what
====== ==================================================================================
4      the first bytes of the SHA-256 of all that follows, so that a piece is told from the whole
2      the registry's port, big-endian
32     the SHA-256 fingerprint of the network's certificate authority
16     the token
rest   the registry's addresses, the best first: a byte 4 and an IPv4 address, a byte 6 and an
       IPv6 address, or a byte 1, a byte with its length, and a DNS name
====== ==================================================================================

Case does not matter, nor do spaces and line breaks inside, which mail programs add.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b32decode, b32encode
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from vifibnet.errors import BadInput
from vifibnet.wire.endpoints import is_host

SCHEME = "vifibnet1:"
"""What an invitation begins with; a later form will have another number."""

MAX_ADDRESSES = 4
MAX_TEXT = 4000
"""Characters that are read; the longest invitation has 1,800, and somebody may have broken its lines."""

TOKEN_BYTES = 16
_CHECK = 4
_PORT = 2
_FINGERPRINT = 32
_NAME, _IPV4, _IPV6 = 1, 4, 6


@dataclass(frozen=True)
class Invitation:
    """Where the registry is, how its CA is recognized, and a token for one certificate.

    ``fingerprint`` is as pki.certificates writes it; ``token`` is in lower-case hexadecimal.
    """

    addresses: tuple[str, ...]
    port: int
    fingerprint: str
    token: str = field(repr=False)

    def __post_init__(self) -> None:
        """Raise ValueError for what cannot be written."""
        if not 0 < self.port < 65536 or not 0 < len(self.addresses) <= MAX_ADDRESSES:
            raise ValueError(f"port {self.port}, {len(self.addresses)} addresses")
        if not all(is_host(address) for address in self.addresses):
            raise ValueError(f"{self.addresses} are not all addresses or names")
        if len(_hex(self.fingerprint)) != _FINGERPRINT or len(_hex(self.token)) != TOKEN_BYTES:
            raise ValueError("a fingerprint or token of the wrong length")

    def __str__(self) -> str:
        """The line; it is a secret."""
        body = b"".join(
            [self.port.to_bytes(_PORT), _hex(self.fingerprint), _hex(self.token), *map(_pack, self.addresses)]
        )
        return SCHEME + b32encode(_check(body) + body).decode("ascii").rstrip("=").lower()

    @classmethod
    def parse(cls, text: str) -> Invitation:
        """Read what somebody pasted. Raises BadInput with what to do about it."""
        line = re.sub(r"\s", "", text[:MAX_TEXT]).lower()
        scheme = re.match(r"vifibnet([0-9]{1,3}):", line, re.ASCII)
        if scheme is None:
            raise _bad("does not begin with vifibnet1:", "copy the whole line that vifibnet invite printed")
        if scheme[0] != SCHEME:
            raise _bad("is of another version of vifibnet", "upgrade this one")
        letters = line[len(SCHEME) :].upper()
        try:
            data = b32decode(letters + "=" * (-len(letters) % 8))
        except ValueError:
            data = b""
        body = data[_CHECK:]
        if len(data) < _CHECK or _check(body) != data[:_CHECK]:
            raise _bad("is not complete, or something in it was changed", "copy the whole line again")
        return _unpack(body)


def _hex(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _check(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECK]


def _bad(problem: str, remedy: str) -> BadInput:
    return BadInput("the invitation", problem, remedy)


def _pack(address: str) -> bytes:
    try:
        packed = ip_address(address).packed
    except ValueError:
        name = address.encode("ascii")
        return bytes([_NAME, len(name)]) + name
    return bytes([_IPV4 if len(packed) == 4 else _IPV6]) + packed


def _unpack(body: bytes) -> Invitation:
    """Read a body whose check was right; who made it may still be anybody."""
    ends = _PORT, _PORT + _FINGERPRINT, _PORT + _FINGERPRINT + TOKEN_BYTES
    try:
        return Invitation(
            tuple(_addresses(body[ends[2] :])),
            int.from_bytes(body[: ends[0]]),
            body[ends[0] : ends[1]].hex(":"),
            body[ends[1] : ends[2]].hex(),
        )
    except ValueError:
        raise _bad("makes no sense", "ask for a new one") from None


def _addresses(data: bytes) -> list[str]:
    """The addresses in the rest of a body. Raises ValueError."""
    found = []
    while data:
        kind = data[0]
        start, length = (2, int.from_bytes(data[1:2])) if kind == _NAME else (1, 4 if kind == _IPV4 else 16)
        part, data = data[start : start + length], data[start + length :]
        if kind not in (_NAME, _IPV4, _IPV6) or len(part) != length:
            raise ValueError(f"an address of kind {kind} with {len(part)} bytes")
        if kind == _NAME:
            found.append(part.decode("ascii"))
        else:
            found.append(str(IPv4Address(part) if kind == _IPV4 else IPv6Address(part)))
    return found
