"""The registry's documents as a node keeps them, and how it hears of new ones.

They come from the registry: at every contact, when the registry says that there is a new one, and every
hour. Neighbours pass them on to each other, too (see gossip).

A node that starts waits for them, so that it opens and accepts its first tunnel knowing e.g. who was revoked,
but only as long as the registry is there: it starts at once when the registry cannot be reached, and after
FIRST_WAIT in any case, because the network outlives its registry. What it then knows is what its last run
kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Generic, Protocol, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from vifibnet.errors import BadDocument, BadInput
from vifibnet.files import write_atomically
from vifibnet.interfaces import IRegistry
from vifibnet.node.peers import Persistent
from vifibnet.pki.certificates import CA
from vifibnet.pki.document import read_document
from vifibnet.pki.signing import key_name
from vifibnet.wire.document import MAX_DOCUMENT, Kind

FIRST_WAIT = 1.0
"""Seconds that a start waits for the registry's answer at most: some four round trips of 250 ms."""

ASK_EVERY = 3600.0
"""Seconds between two questions, in case a message of the registry's was lost."""

T = TypeVar("T")


class KeptDocument(Generic[T]):
    """A document of one kind with the greatest number that we heard of, in the state directory.

    ``value`` is what it says, None as long as there is none; ``data`` the document itself.
    """

    log = Logger()

    def __init__(
        self,
        kind: Kind,
        parse: Callable[[Sequence[str]], T],
        state: Path,
        cas: Callable[[], Sequence[CA]],
        kept_cas: Callable[[], Sequence[CA]] | None = None,
    ) -> None:
        """``parse`` reads the document's lines; ``cas()`` are the authorities that may sign it, and
        ``kept_cas()`` those that may have signed what an earlier run kept."""
        self.kind = kind
        self.value: T | None = None
        self.data = b""
        self._number = 0
        self._authority = ""
        self._parse = parse
        self._path = state / kind
        self._cas = cas
        self._kept_cas = kept_cas or cas

    @property
    def number(self) -> int:
        """The document's number; 0 without one.

        Also 0 when the authority that signed it does not count any more: it holds, but is wanted anew, signed
        by another one, for neither others nor our own next run would believe it.
        """
        return self._number if self._authority in map(key_name, self._cas()) else 0

    def load(self) -> None:
        """Take up what an earlier run kept; a damaged file is as good as none: it can be fetched."""
        try:
            with self._path.open("rb") as stream:
                self._read(stream.read(MAX_DOCUMENT + 1), self._kept_cas())
        except FileNotFoundError:
            return
        except (OSError, BadDocument) as error:
            self.log.warn("{path} is of no use: {error}", path=str(self._path), error=str(error))

    def take(self, data: bytes) -> bool:
        """Keep this document if it is newer than ours; False if it is not.

        It holds from now on, also where the disk is full. Raises BadDocument where it is none of the
        network's.
        """
        if not self._read(data, self._cas()):
            return False
        try:
            write_atomically(self._path, data, 0o600, overwrite=True)
        except BadInput as error:
            self.log.error("{error}", error=str(error))
        return True

    def _read(self, data: bytes, cas: Sequence[CA]) -> bool:
        document = read_document(data, self.kind, cas)
        value = self._parse(document.lines)
        if document.number < self._number or document.number == self.number:
            return False
        self._number, self._authority = document.number, document.authority
        self.value, self.data = value, data
        return True


class Keeper(Protocol):
    """Who wants the documents of one kind."""

    @property
    def kind(self) -> Kind:
        """Which."""

    @property
    def number(self) -> int:
        """The number of the one that is there; 0 without any."""

    @property
    def data(self) -> bytes:
        """That one, signed; empty without any."""

    def take(self, data: bytes) -> None:
        """Here is one with a greater number. Raises BadDocument."""


class Documents(Service):
    """Asks the registry for what the keepers have not got yet.

    ``on_new(keeper)`` is called when one has a new document, wherever that came from.
    """

    log = Logger()

    def __init__(self, reactor: Any, rng: Random, keepers: Sequence[Keeper]) -> None:
        """``registry`` is to be set before the start; without one nobody is asked."""
        self.registry: IRegistry | None = None
        self._reactor = reactor
        self.keepers = keepers
        self.on_new: Callable[[Keeper], None] = lambda _: None
        self._asking = Persistent(reactor, rng, ASK_EVERY, self._ask)
        self._answered = False
        self._waiting: list[Deferred[None]] = []

    def startService(self) -> None:
        """Ask."""
        super().startService()
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
        """The registry is there again, or has said that there is something new."""
        self._asking.hurry()

    def take(self, keeper: Keeper, data: bytes) -> None:
        """Here is a document for a keeper. Raises BadDocument."""
        before = keeper.number
        keeper.take(data)
        if keeper.number > before:
            self.on_new(keeper)

    async def _ask(self) -> bool:
        try:
            for keeper in self.keepers:
                await self._ask_for(keeper)
            return True
        finally:
            self._tell_waiting()

    async def _ask_for(self, keeper: Keeper) -> None:
        try:
            data = await self.registry.document(keeper.kind, keeper.number) if self.registry else None
            if data is not None:
                self.take(keeper, data)
        except BadDocument as error:
            # Asking again would bring the same.
            self.log.error(
                "the registry hands out {kind} that are none: {error}", kind=keeper.kind, error=str(error)
            )

    def _tell_waiting(self) -> None:
        self._answered = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)
