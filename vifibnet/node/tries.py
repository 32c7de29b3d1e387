"""Which peers were tried, what came of it, and when each may be tried again."""

from __future__ import annotations

import math
from random import Random

from vifibnet.model.addresses import Prefix
from vifibnet.model.tunnels import FULL_RETRY, LAST_RETRY, Peer, next_try
from vifibnet.store.peers import KnownPeer, PeerStore

STALE = 24 * 3600.0
"""Seconds after which a peer that the registry did not name again is tried after the others."""

ISOLATED_RETRY = 20.0
"""How long a peer is left alone at most, in the mean, while we reach nobody: our end may be broken."""


class Tries:
    """What the peer database knows, and what is remembered only as long as the node runs.

    ``refused`` is when a peer last had no place for us.
    """

    def __init__(self, store: PeerStore, rng: Random) -> None:
        """Waits of an earlier run are void: whoever starts a node again wants it to try."""
        self._store = store
        self._rng = rng
        # Reading a thousand peers takes some time; None: to be read again.
        self._known: list[KnownPeer] | None = None
        self._failures: dict[Prefix, int] = {}
        self._refusals: dict[Prefix, int] = {}
        self._resting: dict[Prefix, float] = {}
        self.refused: float | None = None

    def peers(self, now: float) -> tuple[Peer, ...]:
        """All that are known."""
        if self._known is None:
            self._known = self._store.candidates(math.inf)
        return tuple(self._peer(known, now) for known in self._known)

    def _peer(self, known: KnownPeer, now: float) -> Peer:
        """What counts of a peer: when it may be tried, and how likely it is to be there."""
        waits = known.next_try if known.prefix in self._failures else min(known.next_try, now)
        return Peer(
            known.prefix,
            max(waits, self._resting.get(known.prefix, 0.0)),
            failures=known.failures,
            refusals=self._refusals.get(known.prefix, 0),
            stale=now - known.last_seen > STALE,
            last_success=known.last_success,
            endpoints=known.endpoints,
        )

    def changed(self) -> None:
        """The database holds something else."""
        self._known = None

    def failures(self, peer: Prefix) -> int:
        """How often it has failed in a row; only a tunnel that stood for a while ends the row."""
        return self._failures.get(peer, 0)

    def came_up(self, peer: Prefix, now: float) -> None:
        """There is a tunnel to it."""
        self._store.succeeded(peer, now)
        self.changed()

    def failed(self, peer: Prefix, now: float, *, stood: bool, isolated: bool) -> int:
        """Leave it alone for a time that grows with its failures; returns how many there are in a row.

        A tunnel that ``stood`` for a while is no failure of the peer; one that comes up and falls again is.
        """
        failures = self._failures[peer] = 1 if stood else self.failures(peer) + 1
        self._refusals.pop(peer, None)
        longest = ISOLATED_RETRY if isolated else LAST_RETRY
        self._store.failed(peer, next_try(failures, now, self._rng, longest))
        self.changed()
        return failures

    def was_full(self, peer: Prefix, now: float) -> None:
        """Nothing is wrong with a peer that has no place for us: it may have one soon. (It says so only after
        the tunnel has come up.)"""
        self.refused = now
        refusals = self._refusals[peer] = self._refusals.get(peer, 0) + 1
        self._resting[peer] = next_try(refusals, now, self._rng, FULL_RETRY)

    def forgive(self) -> None:
        """Whatever has failed or been refused, it may be tried now."""
        self._failures, self._refusals, self._resting = {}, {}, {}
        self.refused = None

    def rest(self, peer: Prefix, until: float) -> None:
        """Somebody else gets a turn."""
        self._refusals.pop(peer, None)
        self._resting[peer] = until
