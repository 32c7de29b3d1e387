"""The peer database of a node that runs: tunnels matter more than what is remembered of them."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from twisted.logger import Logger

from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.news import Believed
from vifibnet.store.peers import MAX_PEERS, KnownPeer, PeerStore


class SteadyStore(PeerStore):
    """Carries on with what it knows when its file cannot be read or written (a full disk, somebody's sqlite3
    shell). That is logged once, until it can be again. Only ``update`` raises sqlite3.Error.

    What is read is as of now, or else as of when all was read last.
    """

    log = Logger()

    def __init__(self, db: sqlite3.Connection) -> None:
        """Use an open database. Nobody who has it locked is waited for any more: packets would wait, too."""
        super().__init__(db)
        db.execute("PRAGMA busy_timeout = 0")
        self._failing: set[str] = set()
        self._known: dict[Prefix, KnownPeer] = {}
        # How often a peer has failed since anything could be written, and when it may be tried again.
        self._unwritten: dict[Prefix, tuple[int, float]] = {}

    @contextmanager
    def _surviving(self, what: str) -> Iterator[None]:
        """Leave what is done inside undone when the database cannot be ``what``, "read" or "written"."""
        try:
            yield
        except sqlite3.Error as error:
            if what not in self._failing:
                self.log.error(
                    "the peer database cannot be {what}, the node carries on with what it knows: {problem}",
                    what=what,
                    problem=str(error),
                )
            self._failing.add(what)
        else:
            if what in self._failing:
                self.log.info("the peer database can be {what} again", what=what)
            self._failing.discard(what)

    # -- reading --------------------------------------------------------------------------------------------

    def candidates(self, now: float, limit: int = MAX_PEERS) -> list[KnownPeer]:
        """As any store's."""
        found = list(self._known.values())[:limit]
        with self._surviving("read"):
            found = super().candidates(now, limit)
            if now == math.inf:
                self._known = {each.prefix: each for each in found}
        return [each for each in map(self._completed, found) if each.next_try <= now]

    def prefixes(self) -> tuple[list[Prefix], list[Prefix]]:
        """As any store's."""
        with self._surviving("read"):
            return super().prefixes()
        known = self._known.values()
        return [it.prefix for it in known if not it.failures], [it.prefix for it in known if it.failures]

    def get(self, prefix: Prefix) -> KnownPeer | None:
        """As any store's."""
        known = self._known.get(prefix)
        with self._surviving("read"):
            known = super().get(prefix)
        return known and self._completed(known)

    def __len__(self) -> int:
        with self._surviving("read"):
            return super().__len__()
        return len(self._known)

    def _completed(self, known: KnownPeer) -> KnownPeer:
        """With what could not be written."""
        more, next_try = self._unwritten.get(known.prefix, (0, 0.0))
        return replace(known, failures=known.failures + more, next_try=next_try) if more else known

    # -- writing --------------------------------------------------------------------------------------------

    def update(self, peers: Iterable[tuple[Prefix, Sequence[Endpoint]]], now: float) -> None:
        """As any store. Raises sqlite3.Error: the registry can be asked again."""
        self._catch_up()
        super().update(peers, now)

    def hear(self, peers: Iterable[Believed]) -> bool:
        """False, too, when nothing can be remembered."""
        with self._surviving("written"):
            self._catch_up()
            return super().hear(peers)
        return False

    def succeeded(self, prefix: Prefix, now: float) -> None:
        """It ends the waiting for this peer, also when it cannot be written."""
        self._unwritten.pop(prefix, None)
        with self._surviving("written"):
            self._catch_up()
            super().succeeded(prefix, now)

    def failed(self, prefix: Prefix, next_try: float) -> None:
        """When it cannot be written, it is remembered until it can."""
        with self._surviving("written"):
            self._catch_up()
            super().failed(prefix, next_try)
            return
        self._unwritten[prefix] = self._unwritten.get(prefix, (0, 0.0))[0] + 1, next_try

    def _catch_up(self) -> None:
        """Write what could not be written before, each peer's failures as one. Raises sqlite3.Error."""
        for prefix, (_, next_try) in list(self._unwritten.items()):
            super().failed(prefix, next_try)
            del self._unwritten[prefix]
