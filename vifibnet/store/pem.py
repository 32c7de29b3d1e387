"""What the registry's database keeps of a certificate beside its PEM, for the upgrade from version 1."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def key_hash(public_key: Any) -> bytes:
    """The SHA-256 of a public key (SubjectPublicKeyInfo, DER)."""
    der = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).digest()


def _load(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


SQL_FUNCTIONS: dict[str, Callable[[str], Any]] = {
    "pem_subject": lambda pem: _load(pem).subject.rfc4514_string(),
    "pem_not_after": lambda pem: _load(pem).not_valid_after_utc.timestamp(),
    "pem_key_hash": lambda pem: key_hash(_load(pem).public_key()),
}
"""What an upgrade's script may call: each takes the PEM of a certificate."""
