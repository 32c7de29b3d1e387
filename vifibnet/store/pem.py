"""What the registry's database keeps of a certificate."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


@dataclass(frozen=True)
class Signed:
    """A certificate fresh from the CA: PEM, subject as in RFC 4514, end in seconds since 1970."""

    pem: str
    subject: str
    not_after: float

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Signed:
        """What is kept of this one."""
        return cls(
            certificate.public_bytes(Encoding.PEM).decode("ascii"),
            certificate.subject.rfc4514_string(),
            certificate.not_valid_after_utc.timestamp(),
        )


def key_hash(public_key: Any) -> bytes:
    """The SHA-256 of a public key (SubjectPublicKeyInfo, DER)."""
    der = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).digest()


def _load(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


SQL_FUNCTIONS: dict[str, Callable[[str], Any]] = {
    "pem_subject": lambda pem: Signed.of(_load(pem)).subject,
    "pem_not_after": lambda pem: Signed.of(_load(pem)).not_after,
    "pem_key_hash": lambda pem: key_hash(_load(pem).public_key()),
}
"""What the upgrade from version 1, which kept the PEM alone, may call: each takes that PEM."""
