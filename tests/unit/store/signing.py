"""Stands for the CA where only the store matters."""

from __future__ import annotations

from vifibnet.model.addresses import Prefix
from vifibnet.store.pem import Signed

KEY = b"k" * 32
"""The hash of a public key."""

ENDS = 2e9
"""When the certificates expire."""


def sign(prefix: Prefix, serial: int) -> Signed:
    """A certificate of a kind."""
    return Signed(f"{prefix} {serial}", f"CN={prefix}", ENDS)
