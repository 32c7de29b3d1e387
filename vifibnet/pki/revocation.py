"""The revocation list, signed by the network's CA: whoever brings it, it can be believed."""

from __future__ import annotations

from collections.abc import Iterable

from vifibnet.errors import BadRevocations
from vifibnet.pki.authority import Authority
from vifibnet.pki.certificates import CA
from vifibnet.pki.signing import is_signed, key_name, sign
from vifibnet.wire.revocation import (
    RevocationList,
    Revoked,
    add_signature,
    format_revocations,
    parse_revocations,
    split_signature,
)


def sign_revocations(authority: Authority, number: int, revoked: Iterable[Revoked]) -> bytes:
    """Make the document with this number (a later one needs a greater one)."""
    listed = RevocationList(authority.network, key_name(authority.ca), number, tuple(revoked))
    text = format_revocations(listed)
    return add_signature(text, sign(authority.key, text))


def read_revocations(document: bytes, ca: CA) -> RevocationList:
    """Read a document. Raises BadRevocations unless this network's CA signed it."""
    text, signature = split_signature(document)
    # Before it is read: that is work which a stranger should not be able to cause.
    if not is_signed(ca, text, signature):
        raise BadRevocations(problem="the network's authority did not sign it")
    listed = parse_revocations(text)
    if (listed.network, listed.authority) != (ca.network, key_name(ca)):
        raise BadRevocations(problem=f"it is the network {listed.network}'s, or another authority's")
    return listed
