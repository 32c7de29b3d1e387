"""Diffie-Hellman parameters, a file that OpenVPN no longer needs and that the manual promises."""

from __future__ import annotations

from base64 import b64encode

FFDHE2048_PRIME = int(
    "FFFFFFFFFFFFFFFFADF85458A2BB4A9AAFDC5620273D3CF1D8B9C583CE2D3695"
    "A9E13641146433FBCC939DCE249B3EF97D2FE363630C75D8F681B202AEC4617A"
    "D3DF1ED5D5FD65612433F51F5F066ED0856365553DED1AF3B557135E7F57C935"
    "984F0C70E0E68B77E2A689DAF3EFE8721DF158A136ADE73530ACCA4F483A797A"
    "BC0AB182B324FB61D108A94BB2C8E3FBB96ADAB760D7F4681D4F42A3DE394DF4"
    "AE56EDE76372BB190B07A7C8EE0A6D709E02FCE1CDF7E2ECC03404CD28342F61"
    "9172FE9CE98583FF8E4F1232EEF28183C3FE3B1B4C6FAD733BB5FCBC2EC22005"
    "C58EF1837D1683B2C6F34A26C1B2EFFA886B423861285C97FFFFFFFFFFFFFFFF",
    16,
)
"""The prime of the group ffdhe2048 (RFC 7919, appendix A.1): public, so nothing is computed here."""


def ffdhe2048_pem() -> bytes:
    """The group ffdhe2048 (generator 2) as a PEM block ``DH PARAMETERS``, as ``openssl dhparam`` writes it.

    The DER is written out here, PKCS #3's SEQUENCE of two INTEGERs: cryptography is about to drop the group.
    """
    prime = b"\x02\x82\x01\x01\x00" + FFDHE2048_PRIME.to_bytes(256, "big")
    body = prime + b"\x02\x01\x02"
    der = b"\x30\x82" + len(body).to_bytes(2, "big") + body
    text = b64encode(der)
    wrapped = b"".join(text[at : at + 64] + b"\n" for at in range(0, len(text), 64))
    return b"-----BEGIN DH PARAMETERS-----\n" + wrapped + b"-----END DH PARAMETERS-----\n"
