"""Whom a node trusts: it asks the registry who was revoked, and lets the others know what follows.

The list comes from the registry: at every contact, when the registry says that there is a new one, and every
hour. A node that starts waits for it, so that it opens and accepts its first tunnel knowing who was revoked,
but only as long as the registry is there: it starts at once when the registry cannot be reached, and after
FIRST_WAIT in any case, because the network outlives its registry. What it then knows is the list of its last
run; a newer one ends tunnels that should not have been opened as soon as it comes.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from vifibnet.errors import BadRevocations
from vifibnet.interfaces import IRegistry
from vifibnet.model.addresses import Prefix
from vifibnet.node.peers import Persistent
from vifibnet.node.revocations import RevocationFiles

FIRST_WAIT = 1.0
"""Seconds that a start waits for the registry's answer at most: some four round trips of 250 ms."""

ASK_EVERY = 3600.0
"""Seconds between two questions, in case a message of the registry's was lost."""


class Trust(Service):
    """Keeps the revocation list fresh.

    ``on_change(nodes)`` is called when a new list is in force; ``nodes`` are those of which one certificate
    was revoked though they go on with another. ``outcast`` tells that we were revoked ourselves.
    """

    log = Logger()
    outcast = False

    def __init__(
        self,
        reactor: Any,
        rng: Random,
        files: RevocationFiles,
        serial: int,
        on_change: Callable[[frozenset[Prefix]], None],
    ) -> None:
        """``files`` are open; ``serial`` is our own certificate's, which may change."""
        self.files = files
        self.registry: IRegistry | None = None
        self._reactor = reactor
        self.serial = serial
        self._on_change = on_change
        self._asking = Persistent(reactor, rng, ASK_EVERY, self._ask)
        self._answered = False
        self._waiting: list[Deferred[None]] = []

    def startService(self) -> None:
        """Look at the list of the last run, and ask for a newer one."""
        super().startService()
        self._look_for_us()
        if self.registry is not None:
            self._asking.startService()

    def stopService(self) -> None:
        """Ask no more."""
        super().stopService()
        if self._asking.running:
            self._asking.stopService()
        self._tell_waiting()

    def first_answer(self) -> Deferred[None]:
        """Fires when the registry has answered once, could not be reached, or takes too long."""
        if self.registry is None or self._answered:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting.addTimeout(FIRST_WAIT, self._reactor, lambda *_: None)

    def ask(self) -> None:
        """The registry is there again, or has said that there is a new list."""
        self._asking.hurry()

    def expel(self) -> None:
        """We were revoked: say so once."""
        if not self.outcast:
            self.outcast = True
            self.log.critical(
                "this node's certificate was revoked: the others refuse it; it becomes a member again with a"
                " new key and token, by vifibnet setup in an empty directory"
            )

    async def _ask(self) -> bool:
        registry = self.registry
        try:
            document = None if registry is None else await registry.revocations(self.files.number)
            if document is not None:
                self._take(document)
            return True
        finally:
            self._tell_waiting()

    def _take(self, document: bytes) -> None:
        before = self.files.listed
        try:
            if not self.files.take(document):
                return
        except BadRevocations as error:
            # Asking again would bring the same.
            self.log.error("the registry hands out a list that is none: {error}", error=str(error))
            return
        known = before.serials if before is not None else frozenset()
        revoked = self.files.listed.revoked if self.files.listed is not None else ()
        new = [each for each in revoked if each.serial not in known]
        self.log.info(
            "revocation list {number}: {count} certificates, {new} of them new",
            number=self.files.number,
            count=len(revoked),
            new=len(new),
        )
        self._look_for_us()
        self._on_change(frozenset(each.prefix for each in new if not each.node))

    def _look_for_us(self) -> None:
        if self.files.listed is not None and self.serial in self.files.listed.serials:
            self.expel()

    def _tell_waiting(self) -> None:
        self._answered = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)
