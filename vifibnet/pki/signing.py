"""The network's CA signs documents of its own, beside certificates.

A document begins with a line that says what it is, so that no signature can be taken for one over something
else; a certificate (DER) never begins with a letter.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from vifibnet.pki.certificates import CA, PrivateKey

_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)


def key_name(ca: CA) -> str:
    """The SHA-256 of the CA's public key (SubjectPublicKeyInfo, DER) in hexadecimal.

    A CA certificate that was made anew with the same key has the same.
    """
    der = ca.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def sign(key: PrivateKey, text: bytes) -> bytes:
    """Sign: ECDSA with SHA-256, Ed25519, or RSA-PSS with SHA-256, as the key is."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(text, _PSS, hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(text, ec.ECDSA(hashes.SHA256()))
    return key.sign(text)


def is_signed(ca: CA, text: bytes, signature: bytes) -> bool:
    """Whether the CA's key made this signature."""
    key = ca.certificate.public_key()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, text, _PSS, hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, text, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, text)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True
