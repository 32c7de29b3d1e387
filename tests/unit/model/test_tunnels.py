"""Which tunnels to drop and which to open, on generated situations."""

from dataclasses import replace
from math import ceil
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.addresses import Prefix
from vifibnet.model.tunnels import (
    FIRST_RETRY,
    LAST_RETRY,
    Drop,
    Open,
    Peer,
    Situation,
    Tunnel,
    earliest_try,
    next_try,
    plan,
)

NOW = 1000.0
SETTLE = 10.0


def node(number: int) -> Prefix:
    """The prefix of a node by its number."""
    return Prefix(number, 4)


numbers = st.integers(0, 15)
prefix_sets = st.frozensets(numbers.map(node), max_size=6)
times = st.sampled_from([0.0, NOW - SETTLE, NOW - 1, NOW, NOW + 1, NOW + 60])


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Any situation a node can observe: at most one tunnel to a peer, none to itself."""
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
            stopping=draw(st.booleans()),
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
        peers=tuple(
            draw(st.lists(st.builds(Peer, numbers.map(node), times, st.integers(0, 3)), max_size=20))
        ),
        free_taps=free,
        connection_count=draw(st.integers(0, 8)),
        refresh_rate=draw(st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.5, 1.0])),
        settle=SETTLE,
        refresh=draw(st.booleans()),
        died=draw(st.integers(0, 3)),
    )


seeds = st.integers(0, 1000)


def parts(situation: Situation, seed: int) -> tuple[list[Drop], list[Drop], list[Open]]:
    """The plan taken apart: needless tunnels, worst tunnels, opens."""
    actions = plan(situation, Random(seed))
    drops = [action for action in actions if isinstance(action, Drop)]
    return (
        [drop for drop in drops if not drop.rest],
        [drop for drop in drops if drop.rest],
        [action for action in actions if isinstance(action, Open)],
    )


def ready(situation: Situation) -> set[Prefix]:
    """Whom the rules allow to be connected to now, said in another way than the code under test."""
    latest = {peer.prefix: peer for peer in situation.peers}
    return (
        {prefix for prefix, peer in latest.items() if peer.next_try <= NOW}
        - {tunnel.peer for tunnel in situation.tunnels}
        - situation.served
        - situation.lan
        - {situation.own}
    )


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
        """Up to the connection count, which tunnels that are still stopping count towards."""
        _, _, opens = parts(situation, seed)
        room = max(0, situation.connection_count - len(situation.tunnels))
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
        needless, worst, _ = parts(replace(situation, refresh=False), seed)
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
        """No tunnel is kept that has fewer routes, or as many and less traffic, than one that is dropped."""
        needless, worst, _ = parts(situation, seed)
        gone = {drop.tap for drop in needless + worst}
        tunnels = {tunnel.tap: tunnel for tunnel in situation.tunnels}
        kept = [
            (tunnel.routes, tunnel.traffic)
            for tunnel in situation.tunnels
            if tunnel.up and not tunnel.stopping and tunnel.tap not in gone and NOW - tunnel.since >= SETTLE
        ]
        for drop in worst:
            dropped = tunnels[drop.tap]
            self.assertTrue(all((dropped.routes, dropped.traffic) <= better for better in kept))

    @given(situations(), seeds)
    def test_never_what_would_be_recreated_at_once(self, situation: Situation, seed: int) -> None:
        """For each of the worst another peer is left when all free places are taken."""
        needless, worst, opens = parts(situation, seed)
        stopping = sum(tunnel.stopping for tunnel in situation.tunnels)
        if worst:
            self.assertLessEqual(len(worst) + len(needless) + stopping + len(opens), len(ready(situation)))

    @given(situations(), seeds)
    def test_the_refresh_rate_is_met(self, situation: Situation, seed: int) -> None:
        """At least the ratio goes, the dead included, as long as others can take the places."""
        situation = replace(situation, refresh=True)
        needless, worst, opens = parts(situation, seed)
        stopping = sum(tunnel.stopping for tunnel in situation.tunnels)
        quota = ceil(round(situation.refresh_rate * situation.connection_count, 9))
        dropped = {drop.tap for drop in needless + worst}
        droppable = [
            tunnel
            for tunnel in situation.tunnels
            if tunnel.up
            and not tunnel.stopping
            and tunnel.tap not in dropped
            and NOW - tunnel.since >= SETTLE
        ]
        gone = situation.died + stopping + len(needless) + len(worst)
        spare = len(ready(situation)) - len(opens) - stopping - len(needless) - len(worst)
        self.assertTrue(gone >= quota or not droppable or spare <= 0)
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
        self.assertEqual(plan(after, Random(0)), [Open(node(3), "vifc1", "chosen at random")])


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


class NextTryTests(SynchronousTestCase):
    """When somebody is tried again."""

    @given(st.integers(-5, 10_000), seeds)
    def test_bounds(self, failures: int, seed: int) -> None:
        """Always later than now, never for ever, around a mean that doubles."""
        wait = next_try(failures, NOW, Random(seed)) - NOW
        mean = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(max(failures - 1, 0), 60))
        self.assertGreaterEqual(wait, mean * 0.5 - 1e-9)
        self.assertLessEqual(wait, mean * 1.5 + 1e-9)

    @given(situations())
    def test_earliest(self, situation: Situation) -> None:
        """In the future, and then there is something to open."""
        earliest = earliest_try(situation)
        if earliest is None:
            return
        self.assertGreater(earliest, NOW)
        self.assertTrue(situation.free_taps)
        later = plan(replace(situation, refresh=False, now=earliest), Random(0))
        self.assertTrue(any(isinstance(action, Open) for action in later))


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
        refresh=False,
    )
    return replace(situation, **changes)  # type: ignore[arg-type]
