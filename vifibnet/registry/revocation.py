"""Revoking: the list of the certificates that count no longer, and who is told when it changes."""

from __future__ import annotations

from ipaddress import AddressValueError, IPv6Address
from itertools import islice

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from vifibnet.errors import BadAddress, NoSuchNode
from vifibnet.model.addresses import Network, Prefix
from vifibnet.pki.authority import Authority
from vifibnet.pki.revocation import sign_revocations
from vifibnet.registry.connections import Connections
from vifibnet.store.registry import GRACE, RegistryStore

log = Logger()

AT_ONCE = 100
"""How many nodes are told before others get a turn: a push to one takes some 50 µs."""

MAX_REASON = 200
"""Characters of a reason."""


class Revocations:
    """The network's revocation list."""

    def __init__(
        self,
        authority: Authority,
        store: RegistryStore,
        clock: IReactorTime,
        connections: Connections,
        grace: float = GRACE,
    ) -> None:
        """``grace``: seconds for which an expired certificate may still be renewed."""
        self._authority = authority
        self._store = store
        self._clock = clock
        self._grace = grace
        self._signed: tuple[int, bytes] | None = None
        self.connections = connections

    def current(self) -> tuple[int, bytes]:
        """The list's number and the signed document. The number is 0 when nothing was ever revoked."""
        number = self._store.certificates.number()
        if self._signed is None or self._signed[0] != number:
            listed = self._store.certificates.revoked(self._grace)
            self._signed = number, sign_revocations(self._authority, number, listed)
        return self._signed

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
            prefix = named_node(what, self._authority.network, self._store)
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
        number, _ = self.current()
        telling = []
        for connection in list(self.connections):
            standing = self._store.certificates.standing(connection.serial)
            if standing is None or standing.revoked:
                connection.abort()
            else:
                telling.append(connection)
        rest = iter(telling)

        def tell() -> None:
            some = list(islice(rest, AT_ONCE))
            for connection in some:
                if connection in self.connections:
                    connection.revocations_changed(number)
            if len(some) == AT_ONCE:
                self._clock.callLater(0, tell)

        tell()


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
