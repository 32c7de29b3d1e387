"""Revoking: the list of the certificates that count no longer, and who is told when it changes."""

from __future__ import annotations

from ipaddress import AddressValueError, IPv6Address

from twisted.logger import Logger

from vifibnet.errors import BadAddress, NoSuchNode
from vifibnet.model.addresses import Network, Prefix
from vifibnet.registry.documents import Documents
from vifibnet.store.registry import GRACE, RegistryStore
from vifibnet.wire.document import Kind
from vifibnet.wire.revocation import format_revocations

log = Logger()

MAX_REASON = 200
"""Characters of a reason."""


class Revocations:
    """The network's revocation list."""

    def __init__(
        self, network: Network, store: RegistryStore, documents: Documents, grace: float = GRACE
    ) -> None:
        """``grace``: seconds for which an expired certificate may still be renewed."""
        self._network = network
        self._store = store
        self._grace = grace
        self.documents = documents
        documents.add(Kind.REVOCATIONS, store.certificates.number, self._lines)

    def _lines(self) -> list[str]:
        return format_revocations(self._store.certificates.revoked(self._grace))

    @property
    def number(self) -> int:
        """The list's number; 0 when nothing was ever revoked."""
        return self._store.certificates.number()

    def revoke(self, what: str, reason: str, by: str) -> str:
        """Revoke a node (``what`` is its prefix, or an address of its subnet) or one certificate (its serial
        number, decimal or hexadecimal after 0x), and tell everybody who is connected.

        Returns what was done, in words for the operator. Raises NoSuchNode where there is nothing to revoke.
        """
        certificates = self._store.certificates
        reason = " ".join(reason.split())[:MAX_REASON]
        serial = _serial(what)
        if serial is not None:
            standing = certificates.standing(serial)
            if standing is None or not certificates.revoke(serial, reason, by):
                raise NoSuchNode(what=what)
            prefix, done = standing.prefix, f"the certificate {serial} of {standing.prefix}"
        else:
            prefix = named_node(what, self._network, self._store)
            count = certificates.revoke_node(prefix, reason, by)
            if not count:
                raise NoSuchNode(what=what)
            done = f"{prefix} and all its certificates ({count})"
        if self._store.node_of_bits(prefix.bits) is None:
            # Nobody is to be sent there any more.
            self._store.declare(prefix, "")
        log.info("revoked {what}: {reason}", what=done, reason=reason or "no reason given")
        self.changed()
        return f"revoked {done}"

    def changed(self) -> None:
        """There may be a new list: who is on it is cut off, everybody else is told."""
        for connection in list(self.documents.connections):
            standing = self._store.certificates.standing(connection.serial)
            if standing is None or standing.revoked:
                connection.abort()
                self.documents.connections.discard(connection)
        self.documents.changed(Kind.REVOCATIONS)


def _serial(what: str) -> int | None:
    """A serial number as the operator writes it; None if it is none."""
    digits = what.lower().removeprefix("0x")
    base = 10 if digits == what else 16
    try:
        return int(digits, base) if digits.isalnum() and len(digits) <= 60 else None
    except ValueError:
        return None


def named_node(what: str, network: Network, store: RegistryStore) -> Prefix:
    """The node that a prefix or an address names. Raises NoSuchNode."""
    try:
        return Prefix.parse(what)
    except BadAddress:
        pass
    try:
        bits = network.host_bits(IPv6Address(what))
    except AddressValueError:
        bits = None
    prefix = None if bits is None else store.node_of_bits(bits)
    if prefix is None:
        raise NoSuchNode(what=what)
    return prefix
