"""What the kernel keeps beside babel's routes, and whether packets arrive by it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.ways import AHEAD, ASTRAY, PATIENCE, SLACK, Health, Kept, Offer, Way, keep

LEAST = 96
"""The cost of a link."""

P, N, M = Way("fe80::1", "vifc0"), Way("fe80::2", "vifc1"), Way("fe80::3", "vifc2")


@dataclass
class Neighbours:
    """What is known of them."""

    healths: dict[Way, Health] = field(default_factory=dict)
    distances: Mapping[tuple[Way, Way], int] = field(default_factory=dict)
    backs: Mapping[Way, int] = field(default_factory=dict)

    def health(self, way: Way) -> Health:
        return self.healths.get(way, Health.FINE)

    def back(self, offer: Offer) -> int:
        return self.backs.get(offer.way, offer.metric - offer.refmetric)

    def between(self, one: Way, other: Way) -> int | None:
        return self.distances.get((one, other))


def direct(installed: bool = True) -> Offer:
    """The destination is the neighbour itself."""
    return Offer(P, LEAST, 0, installed)


def over(way: Way, hops: int = 1, installed: bool = False) -> Offer:
    """It is so many hops behind the neighbour."""
    return Offer(way, LEAST * (hops + 1), LEAST * hops, installed)


class KeepTests(SynchronousTestCase):
    """Step by step, for one destination."""

    def setUp(self) -> None:
        self.around = Neighbours()
        self.kept: Kept | None = None
        self.now = 0.0

    def step(
        self, *offers: Offer, pause: float = 0, direct: Way | None = None, learning: bool = False
    ) -> tuple[Way, ...] | None:
        """After a while these are the offers; what the kernel keeps now, for 5 s after babel's end."""
        self.now += pause
        self.kept = keep(
            self.kept,
            offers,
            direct,
            self.around,
            learning=learning,
            now=self.now,
            until=self.now + 5,
        )
        return None if self.kept is None else self.kept.ways

    @property
    def ahead(self) -> Way | None:
        """What the kernel has before babel's own way now."""
        return None if self.kept is None else self.kept.ahead

    def test_same(self) -> None:
        """With nothing else the same way is kept, for a while also when babel has none, and as new after."""
        self.assertIsNone(self.step())
        self.assertEqual(self.step(direct()), (P,))
        self.assertEqual(self.step(), (P,))
        self.assertEqual(self.step(pause=4), (P,))
        self.assertEqual(self.step(direct()), (P,))
        self.assertEqual(self.step(pause=4), (P,))
        self.assertEqual(self.step(pause=4), (P,))
        self.assertIsNone(self.step(pause=1))

    def test_only_loop_free(self) -> None:
        """Who may have us as the next hop is no alternate: no farther than we and the way to us."""
        self.assertEqual(self.step(direct(), over(N, 2)), (P,))
        self.assertEqual(self.step(direct(), Offer(N, 2 * LEAST + 90, LEAST + 90)), (P,))
        self.assertEqual(self.step(direct(), over(N)), (P, N))
        # The link to it is long, but there is a short way round: it may well go over us.
        self.around.backs = {N: 10}
        self.assertEqual(self.step(direct(), over(N)), (P,))

    def test_safe_alone(self) -> None:
        """Who is nearer than we are, or never goes over our next hop, is enough; who is as near is not."""
        self.assertEqual(self.step(over(P, 2, True), over(N)), (N,))
        self.assertEqual(self.step(over(P, 2, True), over(N, 3)), (P, N))
        self.around.distances = {(N, P): 5 * LEAST}
        self.assertEqual(self.step(over(P, 2, True), over(N, 3)), (N,))

    def test_silent(self) -> None:
        """When babel gives the way up, an alternate takes over unless the old way is known to be good."""
        for health, expected in (
            (Health.FINE, (P, N)),
            (Health.LEAVING, (P, N)),
            (Health.LOSSY, (N,)),
            (Health.UNKNOWN, (N,)),
            (Health.DEAD, (N,)),
        ):
            self.around.healths = {}
            self.assertEqual(self.step(direct(), over(N)), (P, N))
            self.around.healths = {P: health}
            self.assertEqual(self.step(over(N)), expected)
            self.assertEqual(self.step(over(N), pause=4), expected)
            self.assertIsNone(self.step(over(N), pause=1))

    def test_lossy(self) -> None:
        """An alternate goes before a way that has just become lossy, also when babel gives that up and comes
        back to it, but not for ever; who may have come to us while that was good is none."""
        dear = Offer(P, 20 * LEAST, 0, installed=True)
        self.step(direct(), over(N))
        self.around.healths = {P: Health.LOSSY}
        self.assertEqual((self.step(dear, over(N)), self.ahead), ((N,), N))
        self.assertEqual((self.step(dear, over(N, 2), pause=AHEAD / 2), self.ahead), ((P,), None))
        self.assertEqual((self.step(dear, over(N)), self.ahead), ((N,), N))
        self.assertEqual((self.step(over(N)), self.ahead), ((N,), N))
        self.assertEqual((self.step(direct(), over(N)), self.ahead), ((N,), N))
        self.assertEqual((self.step(over(N)), self.ahead), ((N,), N))
        self.assertEqual((self.step(dear, over(N), pause=AHEAD), self.ahead), ((N,), None))
        self.assertEqual((self.step(over(N)), self.ahead), ((N,), None))
        self.around.healths = {}
        self.step(direct(), over(N))
        self.around.healths = {P: Health.LOSSY}
        self.step(dear, over(N))
        self.assertEqual((self.step(dear, over(N), pause=AHEAD - 0.1), self.ahead), ((N,), N))
        self.assertEqual((self.step(dear, over(N), pause=0.2), self.ahead), ((N,), None))

    def test_lossy_end(self) -> None:
        """Likewise where the destination is at the other end of the lossy tunnel, and babel has been told
        that it is dead."""
        self.step(direct(), over(N), direct=P)
        self.around.healths = {P: Health.LOSSY}
        for offers in ([direct(), over(N)], [over(N)], [direct(), over(N)], [over(N)]):
            self.assertEqual((self.step(*offers, direct=P), self.ahead), ((N,), N))
        self.assertEqual((self.step(over(N), direct=P, pause=AHEAD), self.ahead), ((N,), None))

    def test_lossy_and_left(self) -> None:
        """What babel takes instead goes first as long as the way that it has left is lossy, also while it
        takes that for dead."""
        taken = replace(over(N), installed=True)
        self.step(direct(), over(N), direct=P)
        self.around.healths = {P: Health.LOSSY}
        self.step(direct(), over(N), direct=P)
        for _ in range(3):
            self.step(taken, direct=P, pause=AHEAD)
            self.assertEqual(self.ahead, N)
        self.around.healths = {}
        self.step(taken, direct=P)
        self.assertIsNone(self.ahead)

    def test_lossy_never_known(self) -> None:
        """Of an end to which babel never had a way nobody knows where others' ways lead."""
        self.around.healths = {P: Health.LOSSY}
        for _ in range(2):
            self.assertEqual((self.step(over(N), direct=P), self.ahead), ((P,), None))

    def test_back_to_lossy(self) -> None:
        """What babel has taken instead goes before a lossy way that it comes back to, for a moment, as long
        as it can be taken; an alternate for a while."""
        self.around.healths = {P: Health.LOSSY}
        dear, taken = over(P, 20), replace(over(N), installed=True)
        back = direct(), over(N, 5)
        for _ in range(2):
            self.step(dear, taken, pause=1)
            self.assertEqual(self.ahead, N)
            self.step(replace(back[0], installed=False), back[1])
            self.assertEqual(self.ahead, N)
            self.step(*back)
            self.step(*back, pause=ASTRAY / 2)
            self.assertEqual(self.ahead, N)
        self.step(*back, pause=ASTRAY)
        self.assertIsNone(self.ahead)
        for health in (Health.DEAD, Health.LEAVING, Health.LOSSY):
            self.around.healths = {P: Health.LOSSY}
            self.step(dear, taken)
            self.assertEqual(self.ahead, N)
            self.around.healths[N] = health
            self.step(*back)
            self.assertIsNone(self.ahead)
        self.around.healths = {P: Health.LOSSY}
        self.step(dear, taken)
        self.step(direct())
        self.assertIsNone(self.ahead)
        self.step(dear, taken)
        self.step(dear, over(N))
        self.step(dear, over(N), pause=ASTRAY)
        self.assertIsNone(self.ahead)
        # Where nothing is lossy, babel's own way is enough.
        self.around.healths = {}
        self.step(over(P, 20), taken)
        self.assertIsNone(self.ahead)

    def test_no_alternate(self) -> None:
        """Without one the old way is kept, whatever is known."""
        for health in Health:
            self.around.healths = {}
            self.assertEqual(self.step(direct(), over(N)), (P, N))
            self.around.healths = {P: health}
            self.assertEqual(self.step(), (P,))

    def test_any(self) -> None:
        """A dead one without an alternate is left for the shortest of all other ways, but only when all have
        heard that; and that one for the next."""
        detours = over(N, 4), over(M, 3)
        self.assertEqual(self.step(direct(), *detours), (P,))
        self.around.healths = {P: Health.DEAD}
        self.assertEqual(self.step(*detours), (P,))
        self.assertEqual(self.step(*detours, pause=0.5 * PATIENCE), (P,))
        self.assertEqual(self.step(*detours, pause=PATIENCE), (M,))
        # It stays the one while it is about as good.
        self.assertEqual(self.step(over(N, 3), over(M, 3)), (M,))
        self.assertEqual(self.step(over(N, 2), over(M, 3)), (N,))
        self.around.healths[N] = Health.LEAVING
        self.assertEqual(self.step(over(N, 2), over(M, 3)), (M,))
        self.assertEqual(self.step(), (P,))
        self.assertEqual(self.step(direct(), *detours), (P,))

    def test_any_if_lossy(self) -> None:
        """Likewise one that loses many, when babel has been told that it is dead; but not for such another,
        and only as long as babel does not come back to it."""
        for end in (None, P):
            self.kept, self.around.healths = None, {}
            detours = over(N, 4), over(M, 3)
            self.assertEqual(self.step(direct(), *detours, direct=end), (P,))
            self.around.healths = {P: Health.LOSSY}
            self.assertEqual(self.step(direct(), *detours, direct=end), (P,))
            self.assertEqual(self.step(*detours, direct=end), (P,))
            self.assertEqual((self.step(*detours, direct=end, pause=PATIENCE), self.ahead), ((M,), M))
            self.around.healths[M] = Health.LOSSY
            self.assertEqual((self.step(*detours, direct=end), self.ahead), ((N,), N))
            self.around.healths[N] = Health.LOSSY
            self.assertEqual((self.step(*detours, direct=end), self.ahead), ((P,), None))
            self.around.healths = {P: Health.LOSSY}
            self.assertEqual(self.step(*detours, direct=end), (M,))
            self.assertEqual(self.step(direct(), *detours, direct=end, pause=PATIENCE), (P,))

    def test_any_if_dead(self) -> None:
        """One that babel has lost alone is not left."""
        for health in (Health.FINE, Health.UNKNOWN, Health.LEAVING):
            self.around.healths = {}
            self.assertEqual(self.step(direct(), over(N, 4)), (P,))
            self.around.healths = {P: health}
            self.assertEqual(self.step(over(N, 4)), (P,))
            self.assertEqual(self.step(over(N, 4), pause=2 * PATIENCE), (P,))

    def test_shunned(self) -> None:
        """Who leaves or is dead is no alternate."""
        for health in (Health.LEAVING, Health.DEAD):
            self.around.healths = {N: health}
            self.assertEqual(self.step(direct(), over(N)), (P,))
            self.assertEqual(self.step(direct(), over(N), over(M)), (P, M))

    def test_follow(self) -> None:
        """The next best when the best goes, while babel has a route and while it has none; then the old."""
        self.assertEqual(self.step(direct(), Offer(N, 200, 90), Offer(M, 300, 90)), (P, N))
        self.assertEqual(self.step(direct(), Offer(M, 300, 90)), (P, M))
        self.around.healths = {P: Health.UNKNOWN}
        self.assertEqual(self.step(Offer(N, 200, 90), Offer(M, 300, 90), pause=1), (N,))
        self.assertEqual(self.step(Offer(M, 300, 90), pause=1), (M,))
        self.assertEqual(self.step(pause=1), (P,))
        self.assertEqual(self.step(Offer(N, 200, 90)), (N,))
        self.assertIsNone(self.step(Offer(N, 200, 90), pause=3))

    def test_steady(self) -> None:
        """What is a little better is not worth telling; what is safe or much better is."""
        self.assertEqual(self.step(direct(), Offer(N, 200, 90)), (P, N))
        self.assertEqual(self.step(direct(), Offer(N, 200, 90), Offer(M, 180, 90)), (P, N))
        self.assertEqual(self.step(direct(), Offer(N, 220, 90), Offer(M, 180, 90)), (P, M))
        self.assertEqual(self.step(direct(), Offer(N, 200, 50), Offer(M, 180, 90)), (N,))
        # Why it was safe may be forgotten when the next hop has gone.
        self.assertEqual(self.step(Offer(N, 200, 90), Offer(M, 180, 90)), (N,))

    def test_other_interface(self) -> None:
        """Another interface rather than a shorter way over the same one, which may be what is broken."""
        beside = Way("fe80::9", P.interface)
        self.assertEqual(self.step(direct(), Offer(beside, 150, 90), Offer(N, 300, 90)), (P, N))
        self.assertEqual(self.step(direct(), Offer(beside, 150, 90)), (P, beside))

    def test_direct(self) -> None:
        """The end of a tunnel is kept without babel, as long as the tunnel is there and it lives."""
        self.assertEqual(self.step(direct=P), (P,))
        self.assertEqual(self.step(direct=P, pause=100), (P,))
        self.assertEqual(self.step(Offer(N, 300, 10, True), direct=P), (N,))
        self.assertEqual(self.step(direct=P), (P,))
        self.around.healths = {P: Health.DEAD}
        self.assertEqual(self.step(Offer(N, 300, 10), direct=P), (N,))
        self.assertEqual(self.step(direct=P), (P,))
        self.assertIsNone(self.step(direct=P, pause=5))

    def test_learning(self) -> None:
        """While babel has just begun, what was kept stays: what it does not know is not gone."""
        self.step(direct(), over(N))
        self.around.healths = {P: Health.UNKNOWN}
        self.assertEqual(self.step(learning=True), (P, N))
        self.assertEqual(self.step(over(M), learning=True), (P, N))
        self.around.healths = {}
        self.step(direct(), over(N))
        self.around.healths = {P: Health.LOSSY}
        self.assertEqual(self.step(over(M), learning=True), (N,))
        self.assertEqual(self.ahead, N)
        self.step(direct(), over(N))
        self.around.healths = {P: Health.DEAD}
        self.assertEqual(self.step(over(M), learning=True), (N,))
        self.around.healths = {P: Health.DEAD, N: Health.DEAD}
        self.assertEqual(self.step(over(M), learning=True), (M,))
        self.assertEqual(self.step(direct(), learning=True), (P,))
        # It is lossy, but all that there is.
        self.around.healths = {P: Health.LOSSY}
        self.assertEqual(self.step(learning=True), (P,))


Graph = dict[int, dict[int, int]]
Links = frozenset[tuple[int, int]]

NONE: Links = frozenset()


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Nodes and the costs of their links; costs like those of tunnels, and of any other kind."""
    count = draw(st.integers(2, 7))
    costs = draw(
        st.sampled_from(
            [
                st.just(LEAST),
                st.sampled_from([LEAST, 2 * LEAST]),
                st.integers(LEAST, 2 * LEAST),
                st.integers(1, 1000),
            ]
        )
    )
    graph: Graph = {node: {} for node in range(count)}
    for one in graph:
        for other in range(one):
            # All are connected at first.
            if other == one - 1 or draw(st.booleans()):
                graph[one][other] = graph[other][one] = draw(costs)
    return graph


def distances(graph: Graph, origin: int) -> dict[int, float]:
    """From everywhere."""
    found: dict[int, float] = {}
    heap: list[tuple[float, int]] = [(0, origin)]
    while heap:
        distance, node = heappop(heap)
        if node not in found:
            found[node] = distance
            for other, cost in graph[node].items():
                heappush(heap, (distance + cost, other))
    return found


class Net:
    """A network in which babel has found all the ways to one destination, and every node knows what its
    neighbours announce; with the ways that every node keeps."""

    def __init__(self, graph: Graph, destination: int) -> None:
        self.graph, self.destination = graph, destination
        self.far = {node: distances(graph, node) for node in graph}
        self.ways = {
            node: {other: Way(f"{other}", f"{node}-{other}") for other in graph[node]} for node in graph
        }
        self.next = {
            node: min(
                graph[node], key=lambda other: (graph[node][other] + self.far[destination][other], other)
            )  # noqa: B023
            for node in graph
            if node != destination
        }
        self.around = {node: self._neighbours(node) for node in self.next}
        self.kept = {node: self._keep(node, None, self._offers(node)) for node in self.next}

    def _neighbours(self, node: int) -> Neighbours:
        ways = self.ways[node]
        return Neighbours(
            distances={(ways[one], ways[other]): int(self.far[one][other]) for one in ways for other in ways},
            backs={way: int(self.far[node][other]) for other, way in ways.items()},
        )

    def _offers(self, node: int) -> dict[int, Offer]:
        found = {}
        for other, cost in self.graph[node].items():
            refmetric = int(self.far[self.destination][other])
            chosen = self.next[node] == other
            found[other] = Offer(self.ways[node][other], cost + refmetric, refmetric, chosen)
        return found

    def _keep(self, node: int, before: Kept | None, offers: Mapping[int, Offer], now: float = 0.0) -> Kept:
        kept = keep(
            before, list(offers.values()), None, self.around[node], learning=False, now=now, until=5.0
        )
        assert kept is not None
        return kept

    def lose(self, node: int, other: int, health: Health) -> None:
        """The node's babel gives up a neighbour, about whom that is known."""
        self.around[node].healths[self.ways[node][other]] = health
        offers = self._offers(node)
        del offers[other]
        self.kept[node] = self._keep(node, self.kept[node], offers)

    def shun(self, node: int, other: int, more: int) -> None:
        """The node finds a neighbour to be lossy, and its babel that it costs so much more."""
        self.around[node].healths[self.ways[node][other]] = Health.LOSSY
        offers = self._offers(node)
        offers[other] = replace(offers[other], metric=offers[other].metric + more)
        self.kept[node] = self._keep(node, self.kept[node], offers)

    def hear(self, node: int, lost: Collection[int]) -> bool:
        """The node has heard that these have lost the destination, too; whether others are left."""
        offers = {other: offer for other, offer in self._offers(node).items() if other not in lost}
        self.kept[node] = self._keep(node, self.kept[node], offers, PATIENCE)
        return bool(offers)

    def walk(self, start: int, missed: Links, cut: Links = NONE) -> tuple[str, list[int]]:
        """How a packet fares that is sent now, before any babel has told another, and where it was. Babels
        miss the one links; the others do not carry anything."""
        path = [start]
        while path[-1] != self.destination:
            node = path[-1]
            step = self.next[node]
            kept = self.kept.get(node)
            if kept is not None and kept.ahead is not None:
                step = int(kept.ahead.via)
            elif (node, step) in missed:
                ways = self.kept[node].ways
                step = int(ways[0].via) if ways else node
            if step == node or (node, step) in cut:
                return "dropped", path
            if step in path:
                return "loops", [*path, step]
            path.append(step)
        return "arrives", path


class GraphTests(SynchronousTestCase):
    """Every node follows its shortest way, but for those that have just lost it."""

    def test_triangle(self) -> None:
        """What the rest is about, in the smallest network: the third node takes over."""
        net = Net({0: {1: LEAST, 2: LEAST}, 1: {0: LEAST, 2: LEAST}, 2: {0: LEAST, 1: LEAST}}, 2)
        self.assertEqual([int(way.via) for way in net.kept[0].ways], [2, 1])
        cut = frozenset({(0, 2), (2, 0)})
        self.assertEqual(net.walk(0, NONE, cut), ("dropped", [0]))
        net.lose(0, 2, Health.DEAD)
        self.assertEqual(net.walk(0, cut, cut), ("arrives", [0, 1, 2]))

    @given(graphs(), st.data())
    def test_link(self, graph: Graph, data: st.DataObject) -> None:
        """One link is cut: nothing loops, and everything arrives where its end had an alternate."""
        net = Net(graph, data.draw(st.sampled_from(sorted(graph))))
        one = data.draw(st.sampled_from(sorted(graph)))
        other = data.draw(st.sampled_from(sorted(graph[one])))
        health = data.draw(st.sampled_from([Health.DEAD, Health.UNKNOWN]))
        cut = frozenset({(one, other), (other, one)})
        helpless = set()
        for node, gone in cut:
            if net.next.get(node) == gone:
                if {int(way.via) for way in net.kept[node].ways} == {gone}:
                    helpless.add(node)
                net.lose(node, gone, health)
        for node in net.next:
            end, path = net.walk(node, cut, cut)
            self.assertEqual(end, "dropped" if helpless & set(path) else "arrives")

    @given(graphs(), st.data(), st.integers(0, 2000))
    def test_lossy(self, graph: Graph, data: st.DataObject, more: int) -> None:
        """A link is found to be lossy by both ends, which soon costs more: everything arrives, and what had
        an alternate there does not go over it."""
        net = Net(graph, data.draw(st.sampled_from(sorted(graph))))
        one = data.draw(st.sampled_from(sorted(graph)))
        other = data.draw(st.sampled_from(sorted(graph[one])))
        spared = False
        for node, gone in ((one, other), (other, one)):
            if net.next.get(node) == gone:
                spared = {int(way.via) for way in net.kept[node].ways} != {gone}
                net.shun(node, gone, data.draw(st.sampled_from([0, more])))
        for node in net.next:
            end, path = net.walk(node, NONE)
            self.assertEqual(end, "arrives")
            if spared:
                self.assertFalse({(one, other), (other, one)} & set(pairwise(path)))

    @given(graphs(), st.data())
    def test_heard(self, graph: Graph, data: st.DataObject) -> None:
        """When all have heard that a link is cut, or that it loses many, everything arrives past it where
        anybody around still has a way."""
        health = data.draw(st.sampled_from([Health.DEAD, Health.LOSSY]))
        net = Net(graph, data.draw(st.sampled_from(sorted(graph))))
        node = data.draw(st.sampled_from(sorted(net.next)))
        gone = net.next[node]
        cut = frozenset({(node, gone), (gone, node)})
        # Nobody else has found another way yet.
        lost = {each for each in net.next if net.walk(each, NONE, cut)[0] != "arrives"}
        net.lose(node, gone, health)
        if net.hear(node, {gone, *lost}):
            self.assertEqual(net.walk(node, cut, cut)[0], "arrives")

    @given(graphs(), st.data())
    def test_node(self, graph: Graph, data: st.DataObject) -> None:
        """A node dies: everything to others arrives if all that miss it had safe alternates."""
        net = Net(graph, data.draw(st.sampled_from(sorted(graph))))
        dead = data.draw(st.sampled_from(sorted(graph)))
        hit = [node for node in net.next if net.next[node] == dead]
        safe = all(int(net.kept[node].ways[0].via) != dead for node in hit)
        for node in hit:
            net.lose(node, dead, Health.DEAD)
        cut = frozenset((node, dead) for node in graph)
        for node in set(net.next) - {dead}:
            if safe and dead != net.destination:
                self.assertEqual(net.walk(node, cut, cut)[0], "arrives")

    @given(graphs(), st.data())
    def test_restart(self, graph: Graph, data: st.DataObject) -> None:
        """All neighbours give up a node at once, and it all its routes, as when its babeld is killed: it goes
        on forwarding, and everything arrives. The same for one that leaves."""
        net = Net(graph, data.draw(st.sampled_from(sorted(graph))))
        forgetful = data.draw(st.sampled_from(sorted(graph)))
        health = data.draw(st.sampled_from([Health.FINE, Health.LEAVING]))
        for node in net.next:
            if net.next[node] == forgetful:
                net.lose(node, forgetful, health)
        missed = {(node, forgetful) for node in graph} | {(forgetful, node) for node in graph}
        for node in net.next:
            self.assertEqual(net.walk(node, frozenset(missed))[0], "arrives")

    @given(graphs(), st.data(), st.integers(0, SLACK // 2 - 1))
    def test_late(self, graph: Graph, data: st.DataObject, late: int) -> None:
        """No way leads back when what neighbours announce is a little too little."""
        destination = data.draw(st.sampled_from(sorted(graph)))
        net = Net(graph, destination)
        before = net._offers

        def offers(node: int) -> dict[int, Offer]:
            found = before(node)
            for other, offer in found.items():
                less = min(offer.refmetric, late)
                if not offer.installed:
                    found[other] = Offer(offer.way, offer.metric - less, offer.refmetric - less)
            return found

        net._offers = offers  # type: ignore[method-assign]
        net.kept = {node: net._keep(node, None, offers(node)) for node in net.next}
        for node in net.next:
            for way in net.kept[node].ways:
                path = [int(way.via)]
                while path[-1] != destination:
                    path.append(net.next[path[-1]])
                self.assertNotIn(node, path)

    def test_mesh(self) -> None:
        """Where everybody is everybody's neighbour, everybody has an alternate for everybody."""
        net = Net({one: {other: LEAST for other in range(6) if other != one} for one in range(6)}, 0)
        self.assertEqual({len(kept.ways) for kept in net.kept.values()}, {2})
