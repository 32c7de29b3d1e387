"""Which tunnels to drop and which to open, on generated situations."""

from dataclasses import replace
from math import ceil, inf
from random import Random
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.silence import ANSWERS, DOUBT, GONE, HURRIED, LAST_SILENCE, SILENCE, SLOW
from vifibnet.model.tunnels import (
    FIRST_RETRY,
    HASTE,
    LAST_RETRY,
    SCARCE,
    Drop,
    Open,
    Peer,
    Situation,
    Tunnel,
    destinations,
    next_look,
    next_refresh,
    next_try,
    plan,
)

NOW = 1000.0
SETTLE = 10.0
INTERVAL = 300.0
thousands = settings(max_examples=2000, deadline=None)


def node(number: int) -> Prefix:
    """The prefix of a node by its number."""
    return Prefix(number, 4)


numbers = st.integers(0, 15)
prefix_sets = st.frozensets(numbers.map(node), max_size=6)
times = st.sampled_from([0.0, NOW - SETTLE, NOW - 1, NOW, NOW + 1, NOW + 60])
peers = st.builds(
    Peer,
    numbers.map(node),
    times,
    failures=st.integers(0, 3),
    refusals=st.integers(0, 2),
    stale=st.booleans(),
    last_success=st.none() | times.filter(lambda at: at <= NOW),
    endpoints=st.lists(
        st.builds(Endpoint, st.sampled_from(["192.0.2.1", "192.0.2.2"]), st.just(1194), st.just("udp")),
        max_size=2,
    ).map(tuple),
)


@st.composite
def situations(draw: st.DrawFn, tried: bool = False) -> Situation:
    """Any situation a node can observe: at most one tunnel to a peer, none to itself, each peer once. With
    ``tried``, some tunnels were found to be needed."""
    found = [-inf, -inf, NOW - INTERVAL, NOW - 1] if tried else [-inf]
    own = draw(numbers.map(node))
    reached = sorted(draw(prefix_sets) - {own})
    taps = [f"vifc{n}" for n in range(draw(st.integers(0, 8)))]
    tunnels = tuple(
        Tunnel(
            tap,
            peer,
            up=draw(st.booleans()),
            since=draw(times.filter(lambda at: at <= NOW)),
            routes=draw(st.integers(0, 3)),
            traffic=draw(st.integers(0, 2)),
            rtt=draw(st.sampled_from([None, 1.0, 100.0])),
            failures=draw(st.integers(0, 2)),
            stopping=draw(st.booleans()),
            silent=draw(st.sampled_from([None, None, None, NOW - 5, NOW - 2, NOW - 1, NOW])),
            needed=draw(st.sampled_from(found)),
        )
        for tap, peer in zip(taps, reached, strict=False)
    )
    free = tuple(taps[len(tunnels) :])
    return Situation(
        own=own,
        now=NOW,
        tunnels=tunnels,
        served=draw(prefix_sets),
        lan=draw(prefix_sets),
        peers=tuple(draw(st.lists(peers, max_size=20, unique_by=lambda peer: peer.prefix))),
        free_taps=free,
        connection_count=draw(st.integers(0, 8)),
        refresh_rate=draw(st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.5, 1.0])),
        settle=SETTLE,
        interval=INTERVAL,
        refresh=draw(st.booleans()),
        died=draw(st.integers(0, 3)),
        refused=draw(st.none() | times.filter(lambda at: at <= NOW)),
        revoked=draw(st.just(frozenset()) | prefix_sets),
        destinations=draw(
            st.frozensets(
                st.frozensets(st.sampled_from([*taps, "vifs0", "lan"]), min_size=1, max_size=4), max_size=5
            )
        ),
        woken=draw(st.sampled_from([0.0, NOW - 1, NOW - 0.1])),
    )


def counts(situation: Situation, tunnel: Tunnel) -> bool:
    """Whether it is there or soon will be, as far as anybody knows."""
    silent = [each for each in situation.tunnels if each.up and not each.stopping and each.silent is not None]
    hurry = len(silent) >= situation.connection_count / 2 > 0
    if tunnel.up:
        return tunnel.silent is None or (not hurry and tunnel.silent > max(situation.woken, NOW - DOUBT))
    return tunnel.since > NOW - (HURRIED if hurry else SLOW)


def counting(situation: Situation) -> int:
    """How many do."""
    return sum(counts(situation, tunnel) for tunnel in situation.tunnels)


seeds = st.integers(0, 1000)
EMPTY = Situation(
    own=node(15),
    now=NOW,
    tunnels=(),
    served=frozenset(),
    lan=frozenset(),
    peers=(),
    free_taps=(),
    connection_count=0,
    refresh_rate=0.0,
    settle=SETTLE,
    interval=INTERVAL,
    refresh=False,
)
"""A node that wants nothing."""


class LastWins:
    """Chance in favour of those that are asked about last."""

    def __init__(self) -> None:
        self._asked = 0

    def random(self) -> float:
        """Ever less."""
        self._asked += 1
        return 1 / (1 + self._asked)


def parts(situation: Situation, chance: int | LastWins) -> tuple[list[Drop], list[Drop], list[Open]]:
    """The plan taken apart: needless tunnels, worst tunnels, opens. The dead are another matter."""
    actions = plan(situation, Random(chance) if isinstance(chance, int) else chance)
    drops = [action for action in actions if isinstance(action, Drop) and not action.dead]
    return (
        [drop for drop in drops if not drop.rest],
        [drop for drop in drops if drop.rest],
        [action for action in actions if isinstance(action, Open)],
    )


def ready(situation: Situation) -> set[Prefix]:
    """Whom the rules allow to be connected to now, said in another way than the code under test."""
    return (
        {peer.prefix for peer in situation.peers if peer.next_try <= NOW}
        - {tunnel.peer for tunnel in situation.tunnels}
        - situation.served
        - situation.lan
        - situation.revoked
        - {situation.own}
    )


def scarce(situation: Situation) -> bool:
    """Whether somebody refused us not long ago."""
    return situation.refused is not None and NOW - situation.refused < SCARCE * INTERVAL


def waiting(situation: Situation) -> set[Prefix]:
    """Whom the rules allow to be connected to, now or later."""
    return ready(replace(situation, peers=tuple(replace(peer, next_try=0.0) for peer in situation.peers)))


class OpenTests(SynchronousTestCase):
    """What is opened."""

    @given(situations(), seeds)
    def test_only_whom_the_rules_allow(self, situation: Situation, seed: int) -> None:
        """Never us, nobody twice in either direction, nobody on the LAN, nobody too early."""
        _, _, opens = parts(situation, seed)
        chosen = [action.peer for action in opens]
        self.assertLessEqual(set(chosen), ready(situation))
        self.assertEqual(len(chosen), len(set(chosen)))

    @given(situations(), seeds)
    def test_free_taps_once_each(self, situation: Situation, seed: int) -> None:
        """Each over a tap of its own that nobody uses."""
        _, _, opens = parts(situation, seed)
        taps = [action.tap for action in opens]
        self.assertLessEqual(set(taps), set(situation.free_taps))
        self.assertEqual(len(taps), len(set(taps)))

    @given(situations(), seeds)
    def test_as_many_as_possible_and_no_more(self, situation: Situation, seed: int) -> None:
        """Up to the connection count, which tunnels that are still stopping count towards, and those that are
        doubted do not."""
        situation = replace(situation, refused=None)
        _, _, opens = parts(situation, seed)
        room = max(0, situation.connection_count - counting(situation))
        self.assertEqual(len(opens), min(room, len(situation.free_taps), len(ready(situation))))

    def test_at_random(self) -> None:
        """Every candidate gets its turn."""
        situation = quiet(peers=tuple(Peer(node(n)) for n in range(1, 10)), connection_count=1, tunnels=())
        chosen = {parts(situation, seed)[2][0].peer for seed in range(200)}
        self.assertEqual(chosen, {node(n) for n in range(1, 10)})

    def test_those_that_failed_last(self) -> None:
        """A peer that failed is chosen only when the others are all tried."""
        peers = (Peer(node(1), failures=3), Peer(node(2)), Peer(node(3), failures=1))
        situation = quiet(peers=peers, connection_count=2, tunnels=())
        for seed in range(20):
            self.assertEqual([action.peer for action in parts(situation, seed)[2]], [node(2), node(3)])

    @given(situations(), seeds)
    def test_same_seed_same_plan(self, situation: Situation, seed: int) -> None:
        """No randomness but that which is passed in."""
        self.assertEqual(plan(situation, Random(seed)), plan(situation, Random(seed)))


class DropTests(SynchronousTestCase):
    """What is dropped."""

    @given(situations(), seeds)
    def test_only_running_tunnels_once_each(self, situation: Situation, seed: int) -> None:
        """What is gone or going is not dropped again."""
        needless, worst, _ = parts(situation, seed)
        dropped = [(drop.tap, drop.peer) for drop in needless + worst]
        running = {(tunnel.tap, tunnel.peer) for tunnel in situation.tunnels if not tunnel.stopping}
        self.assertLessEqual(set(dropped), running)
        self.assertEqual(len(dropped), len(set(dropped)))

    @given(situations(), seeds)
    def test_repair_drops_nothing_needed(self, situation: Situation, seed: int) -> None:
        """Between refreshes those to peers that we reach otherwise are dropped, and only those."""
        situation = replace(
            situation, refresh=False, connection_count=8, destinations=frozenset(), revoked=frozenset()
        )
        needless, worst, _ = parts(situation, seed)
        self.assertEqual(worst, [])
        expected = {
            tunnel.tap
            for tunnel in situation.tunnels
            if not tunnel.stopping
            and (
                tunnel.peer in situation.lan
                or (tunnel.peer in situation.served and tunnel.peer < situation.own)
            )
        }
        self.assertEqual({drop.tap for drop in needless}, expected)

    @given(situations(), seeds)
    def test_a_smaller_count(self, situation: Situation, seed: int) -> None:
        """What is beyond the count goes at once, the worst of it, and no more than that."""
        few = replace(situation, refresh=False, destinations=frozenset())
        needless, _, opens = parts(few, seed)
        otherwise, _, _ = parts(replace(few, connection_count=8), seed)
        running = [each for each in situation.tunnels if not each.stopping and counts(situation, each)]
        needed = len({tunnel.tap for tunnel in running} - {drop.tap for drop in otherwise})
        extra = {drop.tap for drop in needless} - {drop.tap for drop in otherwise}
        self.assertEqual(len(extra), max(0, needed - max(1, few.connection_count)))
        if extra:
            self.assertEqual(opens, [])
        gone = {drop.tap for drop in needless}
        kept = [tunnel for tunnel in running if tunnel.tap not in gone]
        dropped = [tunnel for tunnel in running if tunnel.tap in extra]
        for worse in dropped:
            self.assertTrue(all((worse.up, worse.routes) <= (each.up, each.routes) for each in kept))

    @given(numbers, numbers)
    def test_of_two_tunnels_between_two_nodes_one_stays(self, one: int, other: int) -> None:
        """Both ends decide alike, without a word between them."""
        if one == other:
            return
        dropped = 0
        for own, peer in ((one, other), (other, one)):
            tunnel = Tunnel("vifc0", node(peer), up=True, since=0.0)
            situation = quiet(
                own=node(own), tunnels=(tunnel,), served=frozenset([node(peer)]), connection_count=1
            )
            dropped += len(plan(situation, Random(0)))
        self.assertEqual(dropped, 1)

    @given(situations(), seeds)
    def test_the_worst_are_up_and_settled(self, situation: Situation, seed: int) -> None:
        """Nothing is replaced that is not up, or that had no time to get routes."""
        _, worst, _ = parts(situation, seed)
        tunnels = {tunnel.tap: tunnel for tunnel in situation.tunnels}
        for drop in worst:
            self.assertTrue(tunnels[drop.tap].up)
            self.assertGreaterEqual(NOW - tunnels[drop.tap].since, SETTLE)

    @given(situations(), seeds)
    def test_the_worst_are_the_worst(self, situation: Situation, seed: int) -> None:
        """No tunnel is kept that has fewer routes than one that is dropped."""
        situation = replace(situation, destinations=frozenset())
        needless, worst, _ = parts(situation, seed)
        gone = {drop.tap for drop in needless + worst}
        tunnels = {tunnel.tap: tunnel for tunnel in situation.tunnels}
        kept = [
            tunnel.routes
            for tunnel in situation.tunnels
            if tunnel.up and not tunnel.stopping and tunnel.tap not in gone and NOW - tunnel.since >= SETTLE
        ]
        for drop in worst:
            self.assertLessEqual(tunnels[drop.tap].routes, min(kept, default=9))

    def test_needed_ones_take_turns(self) -> None:
        """However worse one is that cannot go, at each refresh another one is tried."""
        tunnels = tuple(
            Tunnel(f"vifc{n}", node(n + 1), up=True, since=0.0, routes=n, needed=needed)
            for n, needed in enumerate((NOW - 2 * INTERVAL, NOW - 3 * INTERVAL, -inf, NOW - 1))
        )
        found = []
        for _ in range(3):
            situation = quiet(tunnels=tunnels, peers=(Peer(node(9)),), connection_count=4, refresh=True)
            _, [drop], _ = parts(replace(situation, refresh_rate=0.25), 0)
            found.append(drop.tap)
            tunnels = tuple(replace(each, needed=NOW) if each.tap == drop.tap else each for each in tunnels)
        self.assertEqual(found, ["vifc2", "vifc1", "vifc0"])

    @given(situations(), seeds)
    def test_never_what_would_be_recreated_at_once(self, situation: Situation, seed: int) -> None:
        """For each of the worst another peer is left when all free places are taken; unless places are
        scarce: then none is opened instead."""
        needless, worst, opens = parts(situation, seed)
        stopping = sum(tunnel.stopping for tunnel in situation.tunnels)
        if worst and not scarce(situation):
            self.assertLessEqual(len(worst) + len(needless) + stopping + len(opens), len(ready(situation)))

    @given(situations(), seeds)
    def test_the_refresh_rate_is_met(self, situation: Situation, seed: int) -> None:
        """At least the ratio goes, the dead included, as long as others can take the places; never more."""
        situation = replace(situation, refresh=True, destinations=frozenset())
        needless, worst, opens = parts(situation, seed)
        stopping = sum(tunnel.stopping for tunnel in situation.tunnels)
        quota = ceil(round(situation.refresh_rate * situation.connection_count, 9))
        dropped = {drop.tap for drop in needless + worst}
        there = [
            tunnel
            for tunnel in situation.tunnels
            if tunnel.up and not tunnel.stopping and tunnel.tap not in dropped
        ]
        settled = [tunnel for tunnel in there if NOW - tunnel.since >= SETTLE]
        gone = situation.died + stopping + len(needless) + len(worst)
        room = min(len(situation.free_taps), situation.connection_count - len(situation.tunnels))
        spare = len(ready(situation)) - max(0, room) - stopping - len(needless) - len(worst)
        enough = spare > 0 or scarce(situation)
        self.assertTrue(gone >= quota or not settled or len(there) == 1 or not enough)
        if worst:
            self.assertLessEqual(gone, quota)

    def test_healthy_tunnels_without_spare_peers_stay(self) -> None:
        """A refresh in a small network, where everybody is connected, changes nothing."""
        tunnels = tuple(Tunnel(f"vifc{n}", node(n + 1), up=True, since=0.0) for n in range(3))
        peers = tuple(Peer(tunnel.peer) for tunnel in tunnels)
        situation = quiet(tunnels=tunnels, peers=peers, refresh=True, refresh_rate=1.0, connection_count=20)
        self.assertEqual(plan(situation, Random(0)), [])

    def test_refresh_replaces_the_one_without_routes(self) -> None:
        """The manual's rule in its simplest case."""
        tunnels = (
            Tunnel("vifc0", node(1), up=True, since=0.0, routes=2, traffic=10),
            Tunnel("vifc1", node(2), up=True, since=0.0, routes=0, traffic=99),
        )
        peers = (Peer(node(1)), Peer(node(2)), Peer(node(3)))
        situation = quiet(tunnels=tunnels, peers=peers, refresh=True, connection_count=2, free_taps=())
        [drop] = plan(situation, Random(0))
        self.assertEqual((drop.tap, drop.peer), ("vifc1", node(2)))
        after = replace(
            situation, tunnels=tunnels[:1], free_taps=("vifc1",), refresh=False, peers=(*peers[:1], peers[2])
        )
        self.assertEqual(plan(after, Random(0)), [Open(node(3), "vifc1", "chosen among 1 peers")])


class SilentTests(SynchronousTestCase):
    """Tunnels over which nothing is heard."""

    def situation(self, *silences: float | None, **changes: Any) -> Situation:
        """Two tunnels are wanted; those that there are have been silent for so many seconds."""
        tunnels = tuple(
            Tunnel(
                f"vifc{number}",
                node(number),
                up=True,
                since=0.0,
                silent=None if seconds is None else NOW - seconds,
            )
            for number, seconds in enumerate(silences)
        )
        return replace(EMPTY, tunnels=tunnels, connection_count=2, free_taps=("vifc8", "vifc9"), **changes)

    def gone(self, situation: Situation) -> list[str]:
        """The taps of those that are given up."""
        return [each.tap for each in plan(situation, Random(1)) if isinstance(each, Drop) and each.dead]

    def test_given_up(self) -> None:
        """When it was long enough; the last one later."""
        self.assertEqual(self.gone(self.situation(SILENCE - 0.1, None)), [])
        self.assertEqual(self.gone(self.situation(SILENCE, None)), ["vifc0"])
        self.assertEqual(self.gone(self.situation(SILENCE, SILENCE + 1)), ["vifc1"])
        self.assertEqual(self.gone(self.situation(LAST_SILENCE, LAST_SILENCE + 1)), ["vifc1", "vifc0"])
        self.assertEqual(self.gone(self.situation(SILENCE)), [])

    def test_others_beside(self) -> None:
        """Before that another tunnel is opened in its place."""
        others = tuple(Peer(node(number)) for number in range(5, 9))
        for silences, count in (((0.2, None, None), 0), ((0.4, None, None), 1)):
            situation = replace(self.situation(*silences, peers=others), connection_count=3)
            actions = plan(situation, Random(1))
            self.assertEqual([type(action) for action in actions], [Open] * count)

    def test_many_at_once(self) -> None:
        """Where half of all or more are silent they are doubted at once, and so is soon what is opened in
        their place and does not come up: others are opened beside it, as long as there are taps."""
        others = tuple(Peer(node(number)) for number in range(5, 9))
        situation = self.situation(0.0, 0.0, peers=others)
        first = [each for each in plan(situation, Random(1)) if isinstance(each, Open)]
        self.assertEqual(len(first), 2)
        trying = tuple(Tunnel(each.tap, each.peer, up=False, since=NOW) for each in first)
        situation = replace(
            situation, tunnels=(*situation.tunnels, *trying), free_taps=("vifc4", "vifc5", "vifc6")
        )
        self.assertEqual(plan(situation, Random(1)), [])
        self.assertEqual(next_look(situation), NOW + HURRIED)
        more = plan(replace(situation, now=NOW + HURRIED), Random(1))
        self.assertEqual([type(each) for each in more], [Open] * 2)
        self.assertEqual(len({each.peer for each in (*first, *more)}), 4)

    def test_woken(self) -> None:
        """Whoever was heard only before the sleep is doubted at once, and given up soon, be it the last."""
        others = tuple(Peer(node(number)) for number in range(5, 9))
        woken = self.situation(30, 30, woken=NOW, peers=others)
        self.assertEqual([type(action) for action in plan(woken, Random(1))], [Open, Open])
        self.assertEqual(next_look(woken), NOW + ANSWERS)
        self.assertEqual(self.gone(replace(woken, now=NOW + ANSWERS)), ["vifc0", "vifc1"])
        self.assertEqual(self.gone(self.situation(GONE, GONE, woken=NOW)), ["vifc0", "vifc1"])

    @given(situations())
    def test_only_the_dead(self, situation: Situation) -> None:
        """Only what is up, silent, and not ending anyway."""
        taps = {tunnel.tap: tunnel for tunnel in situation.tunnels}
        gone = self.gone(situation)
        self.assertEqual(len(gone), len(set(gone)))
        for tunnel in map(taps.__getitem__, gone):
            self.assertTrue(tunnel.up and not tunnel.stopping)
            self.assertIsNotNone(tunnel.silent)


class RevokedTests(SynchronousTestCase):
    """Nodes that are nodes no more."""

    @given(situations(), prefix_sets, seeds)
    def test_revoked(self, situation: Situation, revoked: frozenset[Prefix], seed: int) -> None:
        """All tunnels to them end, and none is opened; nobody else loses one for it."""
        situation = replace(situation, revoked=revoked, refresh=False)
        actions = plan(situation, Random(seed))
        dropped = {action.peer for action in actions if isinstance(action, Drop)}
        opened = {action.peer for action in actions if isinstance(action, Open)}
        standing = {tunnel.peer for tunnel in situation.tunnels if not tunnel.stopping}
        self.assertEqual(dropped & revoked, standing & revoked)
        self.assertFalse(opened & revoked)
        before = plan(replace(situation, revoked=frozenset()), Random(seed))
        self.assertLessEqual(dropped - revoked, {each.peer for each in before if isinstance(each, Drop)})


class NeverTests(SynchronousTestCase):
    """What must never happen, whatever is observed, and what always must."""

    @thousands
    @given(situations(tried=True), seeds)
    def test_all_rules(self, situation: Situation, seed: int) -> None:
        """Drawing a situation takes longer than deciding: each is held against every rule."""
        self.never_the_last(situation, seed)
        self.never_the_only_route(situation, seed)
        self.never_beyond_the_count(situation, seed)
        self.never_to_the_wrong_one(situation, seed)
        self.always_a_reason(situation, seed)
        self.always_progress(situation, seed)

    def never_the_last(self, situation: Situation, seed: int) -> None:
        """Who had a link keeps one: a tunnel, a served peer or the LAN; revoked ones do not count, nor do
        dead ones."""
        actions = plan(situation, Random(seed))
        dropped = {action.tap for action in actions if isinstance(action, Drop) and not action.dead}
        up = [each for each in situation.tunnels if each.up and not each.stopping]
        up = [each for each in up if each.peer not in situation.revoked]
        left = [each for each in up if each.tap not in dropped]
        otherwise = (situation.served | situation.lan) - situation.revoked
        self.assertTrue(left or otherwise or not up)
        needless = situation.served | situation.lan | situation.revoked
        if any(each.peer not in needless for each in up):
            self.assertTrue(left)

    def never_the_only_route(self, situation: Situation, seed: int) -> None:
        """A destination that was reached is still reached when all is dropped that is dropped, but for what
        is dead; nor is one tried again that was found to be needed."""
        actions = plan(situation, Random(seed))
        drops = [action for action in actions if isinstance(action, Drop) and not action.dead]
        going = {tunnel.tap for tunnel in situation.tunnels if tunnel.stopping}
        going |= {drop.tap for drop in drops if drop.peer in situation.revoked}
        gone = going | {drop.tap for drop in drops}
        for ways in situation.destinations:
            if ways - going:
                self.assertTrue(ways - gone)
        needed = {tunnel.tap for tunnel in situation.tunnels if tunnel.needed > NOW - INTERVAL}
        self.assertLessEqual(needed & gone, going)

    def never_beyond_the_count(self, situation: Situation, seed: int) -> None:
        """Not even for the moment in which a dropped tunnel is still there. What is believed to be dead does
        not count."""
        _, _, opens = parts(situation, seed)
        if opens:
            self.assertLessEqual(counting(situation) + len(opens), situation.connection_count)

    def never_to_the_wrong_one(self, situation: Situation, seed: int) -> None:
        """Not to us, not to whom we are connected to in any way, not to the revoked, nobody before time."""
        chosen = [action.peer for action in parts(situation, seed)[2]]
        self.assertLessEqual(set(chosen), ready(situation))
        self.assertEqual(len(chosen), len(set(chosen)))

    def always_a_reason(self, situation: Situation, seed: int) -> None:
        """For the log and the status."""
        self.assertTrue(all(action.reason for action in plan(situation, Random(seed))))

    def always_progress(self, situation: Situation, seed: int) -> None:
        """Whenever a tunnel is missing and there is anybody to try: one is opened, or one is on its way, or
        it is known when to look again, and within an interval there is progress."""
        missing = counting(situation) < situation.connection_count and situation.free_taps
        if not missing or not waiting(situation):
            return
        opening = any(not tunnel.up and not tunnel.stopping for tunnel in situation.tunnels)
        while not plan(situation, Random(seed)):
            when = next_look(replace(situation, refresh=False))
            if when is None:
                self.assertTrue(opening)
                return
            self.assertGreater(when, situation.now)
            self.assertLessEqual(when, NOW + max(60, INTERVAL) + SETTLE)
            situation = replace(situation, now=when, refresh=False)

    @settings(max_examples=500)
    @given(situations(), peers)
    def test_never_starved(self, situation: Situation, peer: Peer) -> None:
        """Whoever came back is chosen like any other after a time that its failures bound, once somebody has
        named it again."""
        assume(not peer.stale)
        back = replace(peer, prefix=Prefix(7, 5))
        longest = back.next_try + (back.failures + back.refusals + 1) * LAST_RETRY
        others = tuple(replace(each, stale=False) for each in situation.peers)
        room = replace(
            situation, tunnels=(), free_taps=("vifc0",), connection_count=1, refused=None, now=longest
        )
        situation = replace(room, peers=(*others, back))
        [chosen] = parts(situation, LastWins())[2]
        self.assertEqual(chosen.peer, back.prefix)


class ScarceTests(SynchronousTestCase):
    """Places at others' servers."""

    def test_a_full_peer_comes_after_the_others(self) -> None:
        """Unlike one that is dead it may have a place soon, but others have one now."""
        peers = (Peer(node(1), NOW, refusals=1), Peer(node(2)), Peer(node(3)))
        situation = quiet(peers=peers, connection_count=3)
        for seed in range(20):
            self.assertEqual(parts(situation, seed)[2][-1].peer, node(1))

    def test_who_has_none_waits_for_nobody(self) -> None:
        """The more links a node has, the longer it leaves places to others."""
        waits = []
        for links in range(6):
            tunnels = tuple(Tunnel(f"vifc{n}", node(n + 1), up=True, since=0.0) for n in range(links))
            situation = quiet(
                tunnels=tunnels, peers=(Peer(node(9)), Peer(node(10))), connection_count=6, refused=NOW
            )
            when = next_look(situation)
            waits.append(0.0 if when is None else when - NOW)
            self.assertEqual(len(parts(situation, 0)[2]), 0 if links else 2)
        self.assertEqual(waits[0], 0)
        self.assertEqual(waits, sorted(set(waits)))
        self.assertLess(waits[-1], INTERVAL)

    def test_served_peers_are_links(self) -> None:
        """Who is reached by many leaves the places to those whom nobody reaches."""
        served = frozenset(node(n) for n in range(1, 7))
        situation = quiet(served=served, peers=(Peer(node(9)),), connection_count=6, refused=NOW)
        self.assertEqual(next_look(situation), NOW + INTERVAL)

    def test_one_after_the_other(self) -> None:
        """After the wait one is tried, and the next when that one has come up."""
        tunnel = Tunnel("vifc0", node(1), up=True, since=0.0)
        situation = quiet(tunnels=(tunnel,), peers=(Peer(node(2)), Peer(node(3))), refused=NOW - INTERVAL / 2)
        self.assertEqual(len(parts(situation, 0)[2]), 1)
        opening = Tunnel("vifc1", node(2), up=False, since=NOW)
        self.assertEqual(parts(replace(situation, tunnels=(tunnel, opening)), 0)[2], [])
        up = replace(opening, up=True)
        self.assertEqual(len(parts(replace(situation, tunnels=(tunnel, up)), 0)[2]), 1)

    def test_forgotten(self) -> None:
        """When nobody has refused for a while there are places again."""
        tunnel = Tunnel("vifc0", node(1), up=True, since=0.0)
        known = tuple(Peer(node(n)) for n in range(2, 9))
        situation = quiet(tunnels=(tunnel,), peers=known, refused=NOW - SCARCE * INTERVAL)
        self.assertEqual(len(parts(situation, 0)[2]), 7)

    def test_places_are_given_up_for_others(self) -> None:
        """A refresh drops the worst although nobody is left who could take its place; never the last."""
        tunnels = tuple(Tunnel(f"vifc{n}", node(n + 1), up=True, since=0.0, routes=n) for n in range(3))
        situation = quiet(tunnels=tunnels, refresh=True, refused=NOW - 1)
        self.assertEqual([drop.tap for drop in parts(situation, 0)[1]], ["vifc0"])
        self.assertEqual(parts(replace(situation, tunnels=tunnels[:1]), 0)[1], [])


class AddressTests(SynchronousTestCase):
    """What stands at one address may fail together."""

    def test_other_addresses_first(self) -> None:
        """A second tunnel to the same address only when there is nobody else."""
        here, there = (Endpoint(f"192.0.2.{n}", 1194, "udp") for n in (1, 2))
        tunnel = Tunnel("vifc0", node(1), up=True, since=0.0)
        places = (here, here, there)
        known = tuple(Peer(node(n), endpoints=(place,)) for n, place in enumerate(places, start=1))
        situation = quiet(tunnels=(tunnel,), peers=known)
        for seed in range(20):
            self.assertEqual([action.peer for action in parts(situation, seed)[2]], [node(3), node(2)])


class DestinationsTests(SynchronousTestCase):
    """Routes to ways."""

    def test_destinations(self) -> None:
        """Equal ways once."""
        routes = [(1, "a"), (1, "b"), (2, "b"), (2, "a"), (3, "a"), (3, "a")]
        self.assertEqual(destinations(routes), {frozenset("ab"), frozenset("a")})

    def test_waits_for_another_way(self) -> None:
        """A tunnel to a peer on the LAN stays until the LAN leads wherever it leads."""
        tunnel = Tunnel("vifc0", node(1), up=True, since=0.0)
        situation = quiet(tunnels=(tunnel,), lan=frozenset([node(1)]), connection_count=1)
        blocked = replace(situation, destinations=destinations([(1, "lan"), (1, "vifc0"), (2, "vifc0")]))
        self.assertEqual(plan(blocked, Random(0)), [])
        self.assertEqual(next_look(blocked), NOW + SETTLE)
        free = replace(situation, destinations=destinations([(1, "lan"), (2, "lan"), (2, "vifc0")]))
        self.assertEqual(len(plan(free, Random(0))), 1)


class RefreshTests(SynchronousTestCase):
    """When to refresh."""

    @given(st.floats(0, 1e6), st.floats(0.1, 1e6), seeds)
    def test_bounds(self, calm: float, interval: float, seed: int) -> None:
        """Never more often than the haste allows, and around the interval at the latest."""
        wait = next_refresh(NOW + calm, NOW, interval, Random(seed)) - NOW - calm
        self.assertGreaterEqual(wait, interval / HASTE * 0.75 - 1e-6)
        self.assertLessEqual(wait, interval * 1.25 + 1e-6)

    def test_slows_down(self) -> None:
        """A few in the first interval, then one in each."""
        rng, when, times = Random(1), NOW, []
        while when < NOW + 20 * INTERVAL:
            when = next_refresh(when, NOW, INTERVAL, rng)
            times.append(when - NOW)
        self.assertTrue(4 <= sum(time <= INTERVAL for time in times) <= 7)
        self.assertTrue(15 <= sum(time > 2 * INTERVAL for time in times) <= 22)


class NextTryTests(SynchronousTestCase):
    """When somebody is tried again."""

    @given(st.integers(-5, 10_000), seeds)
    def test_bounds(self, failures: int, seed: int) -> None:
        """Always later than now, never for ever, around a mean that doubles."""
        wait = next_try(failures, NOW, Random(seed)) - NOW
        mean = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(max(failures - 1, 0), 60))
        self.assertGreaterEqual(wait, mean * 0.5 - 1e-9)
        self.assertLessEqual(wait, mean * 1.5 + 1e-9)

    @given(st.integers(1, 30))
    def test_jitter(self, failures: int) -> None:
        """Many that have failed at once do not try again at once."""
        waits = {next_try(failures, NOW, Random(seed)) for seed in range(100)}
        self.assertEqual(len(waits), 100)
        self.assertGreater(max(waits) - min(waits), 0.8 * FIRST_RETRY * min(2.0 ** (failures - 1), 600))


def quiet(**changes: object) -> Situation:
    """A situation in which nothing is to be done, but for the changes."""
    situation = Situation(
        own=node(0),
        now=NOW,
        tunnels=(),
        served=frozenset(),
        lan=frozenset(),
        peers=(),
        free_taps=tuple(f"vifc{n}" for n in range(20)),
        connection_count=20,
        refresh_rate=0.05,
        settle=SETTLE,
        interval=INTERVAL,
        refresh=False,
    )
    return replace(situation, **changes)  # type: ignore[arg-type]
