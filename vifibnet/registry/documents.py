"""The signed documents that every node has, and telling the nodes when one has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import islice

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from vifibnet.pki.authorities import Authorities
from vifibnet.pki.certificates import CA
from vifibnet.pki.document import sign_document
from vifibnet.registry.connections import Connections
from vifibnet.wire.document import Kind

log = Logger()

AT_ONCE = 100
"""How many nodes are told before others get a turn: a push to one takes some 50 µs."""


class Documents:
    """Knows what the documents of each kind say, and has them signed."""

    def __init__(self, authorities: Authorities, clock: IReactorTime, connections: Connections) -> None:
        """No kind is known yet."""
        self._authorities = authorities
        self._clock = clock
        self._sources: dict[str, tuple[Callable[[], int], Callable[[], Sequence[str]]]] = {}
        self._signed: dict[str, tuple[int, CA, bytes]] = {}
        self._heard: dict[str, int] = {}
        self.connections = connections

    def add(self, kind: Kind, number: Callable[[], int], lines: Callable[[], Sequence[str]]) -> None:
        """``number()`` is that of the document of this kind, 0 before the first; ``lines()`` what it says."""
        self._sources[kind] = number, lines

    def current(self, kind: str) -> tuple[int, bytes]:
        """The number and the document; 0 and nothing where there is none of this kind.

        The authority that every node knows signs it; when that is another one, it is signed anew.
        """
        if kind not in self._sources:
            return 0, b""
        number, lines = self._sources[kind]
        wanted = number()
        known = self._authorities.known(datetime.fromtimestamp(self._clock.seconds(), UTC))
        if kind not in self._signed or self._signed[kind][:2] != (wanted, known.ca):
            self._signed[kind] = wanted, known.ca, sign_document(known, Kind(kind), wanted, lines())
        return wanted, self._signed[kind][2]

    def heard(self, kind: str, number: int, ours: int) -> None:
        """A node says that it has the document of this number: one that is later than ours we have lost.

        That is no more than a word: a node may say what it likes, so that nothing is refused for it.
        """
        if number > max(ours, self._heard.get(kind, 0)) and kind in self._sources:
            self._heard[kind] = number
            log.error(
                "a node has the {kind} of number {number}, which this database does not know: what is in them"
                " is forgotten by all nodes as soon as there are later ones; see --lost-database",
                kind=str(kind),
                number=number,
            )

    def changed(self, kind: Kind) -> None:
        """There is a new document: everybody who is connected is told."""
        number, _ = self.current(kind)
        rest = iter(list(self.connections))

        def tell() -> None:
            some = list(islice(rest, AT_ONCE))
            for connection in some:
                if connection in self.connections:
                    connection.document_changed(kind, number)
            if len(some) == AT_ONCE:
                self._clock.callLater(0, tell)

        tell()
