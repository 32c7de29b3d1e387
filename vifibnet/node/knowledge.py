"""What a node knows of where its peers are: what it tells others of that, and what it believes of what it
hears."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

from twisted.logger import Logger

from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.news import Judge, News, believe
from vifibnet.store.peers import MAX_PEERS, PeerStore


class Knowledge:
    """The peer database as others may ask for it and add to it, and where we are ourselves."""

    log = Logger()

    def __init__(
        self,
        clock: Any,
        rng: Random,
        store: PeerStore,
        own: Prefix,
        endpoints: Callable[[], Sequence[Endpoint] | None],
        connected: Callable[[], frozenset[Prefix]],
        revoked: Callable[[], frozenset[Prefix]],
        on_news: Callable[[], None],
    ) -> None:
        """``endpoints`` says where we can be reached, None while that is not known; ``connected`` are those
        that our tunnels lead to; ``on_news`` is called when somebody is new or somewhere else."""
        self._clock = clock
        self._rng = rng
        self._store = store
        self.own = own
        self._endpoints = endpoints
        self._connected = connected
        self._revoked = revoked
        self._on_news = on_news

    def here(self) -> tuple[Endpoint, ...]:
        """Where we can be reached, as far as that is known."""
        return tuple(self._endpoints() or ())

    # -- telling --------------------------------------------------------------------------------------------

    def sample(self, count: int, asker: Prefix) -> list[News]:
        """Up to ``count`` peers at random, but last those that failed us."""
        told: list[Prefix] = []
        hidden = {asker, self.own} | self._revoked()
        for group in self._store.prefixes():
            left = [each for each in group if each not in hidden]
            told += self._rng.sample(left, max(0, min(count - len(told), len(left))))
        return self.of(told, asker)

    def of(self, prefixes: Iterable[Prefix], asker: Prefix) -> list[News]:
        """What is known of these peers; nothing of those who were revoked."""
        now, revoked, found = self._clock.seconds(), self._revoked(), []
        for prefix in dict.fromkeys(prefixes):
            if prefix == self.own and self.here():
                found.append(News(prefix, self.here(), 0.0))
            elif prefix not in (asker, self.own) and prefix not in revoked:
                known = self._store.get(prefix)
                if known is not None and known.endpoints:
                    found.append(News(prefix, known.endpoints, max(0.0, now - known.known_good)))
        return found

    # -- hearing --------------------------------------------------------------------------------------------

    def hear(self, teller: Prefix, said: Sequence[News]) -> bool:
        """``teller`` has said this; whether somebody is new to us, or somewhere else than we thought."""
        known = {each.peer: self._store.get(each.peer) for each in said}
        dates = {peer: max(it.last_seen, it.known_good) for peer, it in known.items() if it is not None}
        judge = Judge(
            self.own,
            self._clock.seconds(),
            dates,
            self._connected(),
            self._revoked(),
            MAX_PEERS - len(self._store),
        )
        believed = believe(teller, said, judge)
        if not believed or not self._store.hear(believed):
            return False
        moved = [each.peer for each in believed if _endpoints(known.get(each.peer)) != each.endpoints]
        self.log.info(
            "{teller} tells of {count} that are new to us or have moved: {peers}",
            teller=str(teller),
            count=len(moved),
            peers=" ".join(map(str, moved[:10])),
        )
        self._on_news()
        return True


def _endpoints(known: Any) -> tuple[Endpoint, ...] | None:
    return None if known is None else known.endpoints
