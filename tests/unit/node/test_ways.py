"""What the kernel is told to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv6Network

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.errors import CommandFailed
from vifibnet.model.liveness import INFINITY
from vifibnet.model.ways import AHEAD, Health, Place, Way
from vifibnet.node.ways import LATER, SLICE, SOON, Ways
from vifibnet.wire.babeld import Interface, Neighbour, Route

ONE, TWO = IPv6Network("2001:db8:42:1::/64"), IPv6Network("2001:db8:42:2::/64")
THREE = IPv6Network("2001:db8:42:3::/64")
HERE, THERE = Way("fe80::1", "vifc0"), Way("fe80::2", "vifc1")
UP = [Interface("vifc0", True), Interface("vifc1", True)]


def neighbour(way: Way, reach: int = 0xFFFF) -> Neighbour:
    """One that is heard."""
    return Neighbour(way.via, way.via, way.interface, reach, 96, 96, 96)


def route(prefix: IPv6Network, way: Way, metric: int = 96, refmetric: int = 0, *, installed: bool) -> Route:
    """What babel says of a way."""
    return Route(f"{prefix}{way}", prefix, installed, metric, refmetric, way.via, way.interface)


class WaysTests(SynchronousTestCase):
    """A kernel that is slow, or refuses. HERE and THERE are neighbours, with the subnets ONE and TWO."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.known = True
        self.direct: dict[IPv6Network, Way] = {}
        self.healths: dict[tuple[str, str], Health] = {}
        self.said: list[tuple[dict[Place, Way], list[Place]]] = []
        self.answer: Deferred[None] = succeed(None)
        self.ways = Ways(
            self.clock,
            self.put,
            lambda: self.known,
            lambda: self.direct,
            lambda interface, via: self.healths.get((interface, via), Health.UNKNOWN),
        )
        self.ways.started(2, 0)

    async def put(self, put: Mapping[Place, Way], drop: Sequence[Place]) -> None:
        self.said.append((dict(put), list(drop)))
        await self.answer

    def learn(self, *routes: Route) -> None:
        """Babel has these routes, and both neighbours."""
        self.ways.learn([*UP, neighbour(HERE), neighbour(THERE), *routes])
        self.clock.advance(0)

    def note(self, *items: Route | Neighbour | Interface, gone: bool = False) -> None:
        """Something has changed."""
        for item in items:
            self.ways.note(item, gone=gone)
        self.clock.advance(0)

    def expect(self, *said: tuple[dict[Place, Way], list[Place]]) -> None:
        """The kernel has been told this since the last time."""
        self.assertEqual(self.said, list(said))
        self.said = []

    def triangle(self) -> None:
        """HERE and THERE are neighbours of each other, too."""
        self.learn(
            route(ONE, HERE, installed=True),
            route(ONE, THERE, 192, 96, installed=False),
            route(TWO, THERE, installed=True),
        )
        self.expect(({Place(ONE, 0): HERE, Place(ONE, 1): THERE, Place(TWO, 0): THERE}, []))

    def test_alternate(self) -> None:
        """It is there before it is needed, and the first when the neighbour has not been heard of late."""
        self.triangle()
        self.assertEqual(sorted(self.ways.kept()), [(ONE, "vifc0"), (ONE, "vifc1"), (TWO, "vifc1")])
        self.note(neighbour(HERE, 0x1FFF), route(ONE, HERE, INFINITY, installed=True))
        self.expect(({Place(ONE, 0): THERE}, [Place(ONE, 1)]))
        self.clock.advance(1.9)
        self.expect()
        self.clock.advance(0.1)
        self.expect(({}, [Place(ONE, 0)]))

    def test_told(self) -> None:
        """What others know of a neighbour is worth more than whether babel hears it."""
        for health in (Health.FINE, Health.LEAVING):
            self.triangle()
            self.healths[HERE.interface, HERE.via] = health
            self.note(neighbour(HERE, 0x1FFF), route(ONE, HERE, INFINITY, installed=True))
            self.expect()
            self.clock.advance(2)
            self.expect(({}, [Place(ONE, 0), Place(ONE, 1)]))
            self.ways.learn([])
            self.clock.pump([0, 2])
            self.said = []
        self.triangle()
        self.healths[HERE.interface, HERE.via] = Health.DEAD
        self.ways.look()
        self.clock.advance(0)
        self.expect(({Place(ONE, 0): THERE}, [Place(ONE, 1)]))
        self.healths[THERE.interface, THERE.via] = Health.DEAD
        self.ways.look()
        self.clock.advance(0)
        self.expect(({Place(ONE, 0): HERE}, []))

    def test_down(self) -> None:
        """A neighbour behind an interface that is down is not there; an interface that comes up has lost its
        routes."""
        self.healths[HERE.interface, HERE.via] = Health.FINE
        self.triangle()
        self.note(Interface("vifc0", False))
        self.expect(({Place(ONE, 0): THERE}, [Place(ONE, 1)]))
        self.note(Interface("vifc0", True))
        self.expect(({Place(ONE, 0): HERE, Place(ONE, 1): THERE}, []))
        self.note(Interface("vifc1", False), Interface("vifc1", True))
        self.expect(({Place(ONE, 1): THERE, Place(TWO, 0): THERE}, []))

    def test_past(self) -> None:
        """What is heard of the neighbours' own subnets tells who may be chosen."""
        self.learn(
            route(ONE, HERE, installed=True),
            route(TWO, THERE, 200, installed=True),
            route(THREE, HERE, 192, 96, installed=True),
            route(THREE, THERE, 530, 330, installed=False),
        )
        self.assertEqual(self.said.pop()[0][Place(THREE, 1)], THERE)
        # It is nearer than its link is long: it may be behind us.
        self.note(route(TWO, HERE, 150, 54, installed=False), route(THREE, THERE, 531, 331, installed=False))
        self.expect()
        self.clock.pump([LATER, 0])
        self.expect(({Place(TWO, 0): HERE}, [Place(THREE, 1)]))
        # It is far from our next hop: it needs neither.
        self.note(
            route(ONE, THERE, 600, 400, installed=False), route(THREE, THERE, 400, 200, installed=False)
        )
        self.note(route(TWO, HERE, INFINITY, 54, installed=False))
        self.expect(({Place(TWO, 0): THERE}, []))
        self.clock.pump([LATER, 0])
        self.expect(({Place(THREE, 0): THERE}, []))

    def test_calm(self) -> None:
        """New alternates are looked at soon, numbers later; what is in use, at once."""
        self.triangle()
        shorter = Way("fe80::3", "vifc1")
        self.note(route(ONE, shorter, 150, 90, installed=False))
        self.clock.advance(SOON - 0.1)
        self.expect()
        self.note(route(ONE, shorter, 151, 91, installed=False))
        self.clock.advance(0.1)
        self.clock.advance(0)
        self.expect(({Place(ONE, 1): shorter}, []))
        self.note(route(ONE, shorter, 151, 91, installed=False), gone=True)
        self.expect(({Place(ONE, 1): THERE}, []))
        self.note(route(ONE, HERE, installed=False), route(ONE, THERE, 192, 96, installed=True))
        self.expect(({}, [Place(ONE, 1)]))

    def test_many(self) -> None:
        """Others get their turn between many."""
        prefixes = [IPv6Network((0x20010DB8 << 96 | number << 64, 64)) for number in range(3 * SLICE)]
        self.learn(*(route(prefix, HERE, installed=True) for prefix in prefixes))
        self.assertEqual([len(put) for put, _ in self.said], [SLICE] * 3)
        self.answer = Deferred()
        self.said = []
        self.note(*(route(prefix, THERE, installed=True) for prefix in prefixes))
        self.answer.callback(None)
        self.assertEqual([len(put) for put, _ in self.said], [SLICE, 2 * SLICE])

    def test_slow(self) -> None:
        """What changes while the kernel is being told is told afterwards, as it is then."""
        self.answer = Deferred()
        self.learn(route(ONE, HERE, installed=True))
        self.learn(route(ONE, THERE, installed=True))
        self.learn()
        self.learn(route(ONE, THERE, installed=True))
        self.expect(({Place(ONE, 0): HERE}, []))
        self.answer.callback(None)
        self.expect(({Place(ONE, 0): THERE}, []))

    def test_refused(self) -> None:
        """A kernel that refuses is told of the next change nevertheless."""
        self.answer = Deferred()
        self.learn(route(ONE, HERE, installed=True))
        self.answer.errback(CommandFailed(command="ip", status=2, output="no"))
        self.answer = succeed(None)
        self.learn(route(ONE, THERE, installed=True))
        self.expect(({Place(ONE, 0): HERE}, []), ({Place(ONE, 0): THERE}, []))

    def test_any(self) -> None:
        """Who is dead and has no alternate is left for any other, as soon as that can be no way over us."""
        self.learn(route(ONE, HERE, installed=True), route(ONE, THERE, 400, 304, installed=False))
        self.expect(({Place(ONE, 0): HERE}, []))
        self.healths = {(HERE.interface, HERE.via): Health.DEAD}
        self.note(route(ONE, HERE, 65535, 0, installed=True))
        self.clock.advance(0.1)
        self.expect()
        self.clock.advance(0.15)
        self.expect(({Place(ONE, 0): THERE}, []))

    def test_unknown(self) -> None:
        """While nobody can tell the routes, nothing changes; each babeld has its time, and is not believed
        that something is gone before."""
        self.triangle()
        self.known = False
        self.ways.learn([])
        self.clock.advance(100)
        self.expect()
        self.known = True
        for _ in range(3):
            self.ways.started(2, 1)
            self.ways.learn([])
            self.clock.pump([0.1] * 29)
        self.expect()
        self.clock.advance(0.2)
        self.expect(({}, [Place(ONE, 0), Place(ONE, 1), Place(TWO, 0)]))

    def test_covered(self) -> None:
        """Whether somebody who is well offers a way to all that goes one way, whatever babel has."""
        self.triangle()
        self.assertEqual((self.ways.covered(HERE), self.ways.covered(THERE)), (True, False))
        self.healths = {(THERE.interface, THERE.via): Health.LEAVING}
        self.ways.look()
        self.clock.advance(0)
        self.assertFalse(self.ways.covered(HERE))
        self.healths = {}
        self.ways.look()
        self.clock.advance(0)
        self.said = []
        self.healths = {(HERE.interface, HERE.via): Health.LOSSY}
        self.ways.look()
        self.clock.advance(0)
        self.expect(({Place(ONE, 0): THERE, Place(ONE, 2): THERE}, [Place(ONE, 1)]))
        self.note(route(ONE, HERE, 65535, 0, installed=True))
        self.expect()
        self.assertTrue(self.ways.covered(HERE))
        self.note(route(ONE, THERE, 192, 96, installed=False), gone=True)
        self.assertFalse(self.ways.covered(HERE))

    def test_lossy(self) -> None:
        """The alternate goes before babel's own way for a while only."""
        self.triangle()
        self.healths = {(HERE.interface, HERE.via): Health.LOSSY}
        self.ways.look()
        self.clock.advance(0)
        self.expect(({Place(ONE, 0): THERE, Place(ONE, 2): THERE}, [Place(ONE, 1)]))
        self.clock.advance(AHEAD + 0.1)
        self.clock.advance(0)
        self.expect(({}, [Place(ONE, 2)]))

    def test_lossy_and_far(self) -> None:
        """A neighbour that comes nearer is looked at at once while the way is lossy."""
        self.learn(
            route(ONE, HERE, installed=True),
            route(ONE, THERE, 288, 192, installed=False),
            route(TWO, THERE, installed=True),
        )
        self.expect(({Place(ONE, 0): HERE, Place(TWO, 0): THERE}, []))
        self.healths = {(HERE.interface, HERE.via): Health.LOSSY}
        self.ways.look()
        self.clock.advance(0)
        self.expect()
        self.note(route(ONE, THERE, 192, 96, installed=False))
        self.expect(({Place(ONE, 0): THERE, Place(ONE, 2): THERE}, []))

    def test_direct(self) -> None:
        """The end of a tunnel is kept as long as it is one."""
        self.direct = {ONE: HERE}
        self.learn()
        self.expect(({Place(ONE, 0): HERE}, []))
        self.clock.advance(10)
        self.direct = {}
        self.ways.look()
        self.clock.pump([0, 1])
        self.expect()
        self.clock.advance(1)
        self.expect(({}, [Place(ONE, 0)]))

    def test_stop(self) -> None:
        """After a stop nothing follows."""
        self.triangle()
        self.note(route(ONE, HERE, INFINITY, installed=True), route(TWO, THERE, 97, installed=True))
        self.ways.look()
        self.known = False
        self.ways.stop()
        self.ways.look()
        self.note(route(ONE, THERE, 193, 97, installed=False), neighbour(HERE, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])
