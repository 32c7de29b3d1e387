"""Whom a node trusts: it knows who was revoked, and lets the others know what follows."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from vifibnet.model.addresses import Prefix
from vifibnet.node.revocations import RevocationFiles
from vifibnet.wire.document import Kind


class Trust:
    """Keeps the revocation list (a Keeper: see node.documents).

    ``on_change(nodes)`` is called when a new list is in force; ``nodes`` are those of which one certificate
    was revoked though they go on with another. ``outcast`` tells that we were revoked ourselves.
    """

    log = Logger()
    kind = Kind.REVOCATIONS
    outcast = False

    def __init__(
        self, files: RevocationFiles, serial: int, on_change: Callable[[frozenset[Prefix]], None]
    ) -> None:
        """``files`` are open; ``serial`` is our own certificate's, which may change."""
        self.files = files
        self.serial = serial
        self._on_change = on_change

    @property
    def number(self) -> int:
        """The list's number; 0 without one."""
        return self.files.number

    @property
    def data(self) -> bytes:
        """The signed list; empty without one."""
        return self.files.data

    def look(self) -> None:
        """Look at the list of the last run."""
        if self.serial in self.files.listed.serials:
            self.expel()

    def expel(self) -> None:
        """We were revoked: say so once."""
        if not self.outcast:
            self.outcast = True
            self.log.critical(
                "this node's certificate was revoked: the others refuse it; it becomes a member again with a"
                " new key and token, by vifibnet setup in an empty directory"
            )

    def take(self, data: bytes) -> None:
        """Here is a list. Raises BadDocument where it is none of the network's."""
        known = self.files.listed.serials
        if not self.files.take(data):
            return
        revoked = self.files.listed.revoked
        new = [each for each in revoked if each.serial not in known]
        self.log.info(
            "revocation list {number}: {count} certificates, {new} of them new",
            number=self.number,
            count=len(revoked),
            new=len(new),
        )
        self.look()
        self._on_change(frozenset(each.prefix for each in new if not each.node))
