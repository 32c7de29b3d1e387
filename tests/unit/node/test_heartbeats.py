"""Two nodes that hear each other's hearts, on a clock and a wire of lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv6Address, IPv6Network
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.liveness import ANSWER, DRAINED, INFINITY, LEAVING, LINK, SHUNNED, SLACK
from vifibnet.model.ways import Health, Way
from vifibnet.node.heartbeats import RING, Heartbeats
from vifibnet.node.otherend import EAGER, FORGET, LIVELY
from vifibnet.node.pace import CALM, KEEN, LOOK
from vifibnet.node.prompting import SEIZED
from vifibnet.node.ticks import until_tick
from vifibnet.wire.babeld import Neighbour
from vifibnet.wire.heartbeat import parse_beat

ONE, OTHER, THIRD = (IPv6Address(f"fe80::{number}") for number in (1, 2, 3))
TAP = "vifc0"
INTERVAL = 0.25
ROUTES = [IPv6Network("2001:db8:42:1::/64"), IPv6Network("2001:db8:42:2::/64")]


class Wire:
    """What one end sends comes out at the other, unless it is ``cut``, loses one in ``every`` so many, or the
    next ``few``."""

    def __init__(self, hardware: bytes, clock: Clock) -> None:
        self.hardware = hardware
        self.clock = clock
        self.frames: list[tuple[str, bytes, bytes, float]] = []
        self.other: Wire | None = None
        self.cut = self.closed = False
        self.sent = self.every = self.lost = self.few = 0
        self.bell: FakeBell | None = None
        self.slow = self.kernel = False
        self.late: list[tuple[str, bytes, bytes]] = []

    def send(self, tap: str, to: bytes, data: bytes) -> None:
        """To the other end."""
        assert self.other is not None
        self.sent += 1
        if self.few or (self.every and self.sent % self.every == 0):
            self.few = max(0, self.few - 1)
            self.lost += 1
        elif self.slow:
            self.late.append((tap, to, data))
        elif not self.cut and to in (self.other.hardware, b"\xff" * 6):
            self.other.frames.append((tap, self.hardware, data, self.clock.seconds()))
            beat = parse_beat(data)
            if self.other.bell is not None and beat is not None and not beat.plain:
                self.clock.callLater(0, self.other.bell.pull)

    def catch_up(self) -> None:
        """What was not sent in time is sent now."""
        self.slow = False
        late, self.late = self.late, []
        for frame in late:
            self.send(*frame)

    def read(self) -> Iterator[tuple[str, bytes, bytes, float]]:
        """What has come."""
        while self.frames:
            tap, hardware, data, came = self.frames.pop(0)
            yield tap, hardware, data, self.clock.seconds() - came

    def close(self) -> None:
        """No more."""
        self.closed = True


class FakeBell:
    """Rings at what comes over a wire."""

    def __init__(self, wire: Wire, ring: Callable[[], None]) -> None:
        self.ring = ring
        self.listens = False
        self.rung = 0
        wire.bell = self

    def pull(self) -> None:
        """Something has come that does not wait."""
        if self.listens:
            self.listens = False
            self.rung += 1
            self.ring()

    def listen(self) -> None:
        """Ring at the next one."""
        self.listens = True

    def ignore(self) -> None:
        """Do not."""
        self.listens = False

    close = ignore


class FakeEcho:
    """Asks the kernel at the other end of a wire."""

    def __init__(self, wire: Wire, answered: Callable[[str, IPv6Address], None]) -> None:
        self.wire = wire
        self.answered = answered
        self.asked = 0
        self.delay = 0.01

    def ask(self, tap: str, address: IPv6Address) -> None:
        """It answers if it is there."""
        self.asked += 1
        other = self.wire.other
        if other is not None and other.kernel and not (other.cut or self.wire.cut):
            self.wire.clock.callLater(self.delay, self.answered, tap, address)

    def close(self) -> None:
        """No more."""


class Babel:
    """A babeld that believes what it is told, and gets its neighbour's own words again when the test says."""

    def __init__(self, neighbour: IPv6Address) -> None:
        self.neighbour = neighbour
        self.cost = self.hears = LINK
        self.reach = 0xFFFF
        self.questions = self.inquiries = 0
        self.rtt: float | None = None
        self.knows = True
        self.said: list[int] = []
        self.introduced: list[tuple[int, float]] = []
        self.asked = 0

    def say(self, interface: str, neighbour: IPv6Address, cost: int) -> None:
        """The neighbour's words, as far as it knows."""
        assert (interface, neighbour) == (TAP, self.neighbour)
        self.cost = cost
        self.said.append(cost)

    def introduce(self, interface: str, neighbour: IPv6Address, cost: int, hello: float) -> None:
        """It believes that, too."""
        assert (interface, neighbour) == (TAP, self.neighbour)
        self.introduced.append((cost, hello))
        self.cost, self.hears, self.knows = cost, LINK, True

    def ask(self, interface: str, neighbour: IPv6Address, prefixes: Iterable[IPv6Network]) -> None:
        """It tells everybody."""
        assert (interface, neighbour, list(prefixes)) == (TAP, self.neighbour, ROUTES)
        self.questions += 1

    def inquire(self, interface: str, neighbour: IPv6Address, prefixes: Iterable[IPv6Network]) -> None:
        """Others are asked."""
        assert (interface, neighbour, list(prefixes)) == ("vifc1", THIRD, ROUTES)
        self.inquiries += 1

    def forget(self, interface: str, neighbour: IPv6Address) -> None:
        """It believes that it does not hear it."""
        assert (interface, neighbour) == (TAP, self.neighbour)
        self.hears = INFINITY

    def quieten(self, interface: str, neighbour: IPv6Address) -> None:
        """It misses nothing."""
        assert (interface, neighbour) == (TAP, self.neighbour)

    def neighbours(self) -> list[Neighbour]:
        """The only one, if it knows it."""
        self.asked += 1
        cost = max(self.cost, self.hears)
        found = Neighbour("1", str(self.neighbour), TAP, self.reach, self.hears, self.cost, cost, self.rtt)
        return [found] if self.knows else []

    def close(self) -> None:
        """Nothing to do."""


class Thorough(Heartbeats):
    """Takes nothing for granted: judges everybody at every look, and asks babeld whenever it may."""

    def _look(self) -> None:
        """Forget what spares work."""
        self._all = self._others = True
        self._calm = False
        self._ends._likes.clear()
        super()._look()

    def prompt(self) -> None:
        """Likewise."""
        self._calm = False
        super().prompt()


class Node:
    """One end."""

    def __init__(
        self,
        clock: Clock,
        own: IPv6Address,
        peer: IPv6Address,
        wire: Wire,
        make: type[Heartbeats] = Heartbeats,
    ) -> None:
        self.wire = wire
        self.babel = Babel(peer)
        self.peer = peer
        self.partners = {TAP: frozenset([peer])}
        self.unused = True
        self.covered = False
        self.carried = 0
        self.changes = self.woken = 0
        self.hearts = make(
            clock,
            own,
            INTERVAL,
            lambda: self.partners,
            self.babel.neighbours,
            lambda: ROUTES,
            lambda tap, address: {Way(str(THIRD), "vifc1"): ROUTES},
            lambda tap, address: self.unused,
            lambda tap, address: self.covered,
            self.changed,
            self.wake,
            lambda: self.wire,  # type: ignore[arg-type,return-value]
            lambda own: self.babel,  # type: ignore[arg-type,return-value]
            lambda: {TAP: self.carried},
            make_bell=lambda clock, ring: FakeBell(wire, ring),  # type: ignore[arg-type,return-value]
            make_echo=self.listen,  # type: ignore[arg-type]
        )

    def listen(self, clock: Clock, answered: Callable[[str, IPv6Address], None]) -> FakeEcho:
        """To the kernel at the other end."""
        self.echo = FakeEcho(self.wire, answered)
        return self.echo

    def meet(self, *peers: IPv6Address) -> None:
        """These are at the other end of the tap now."""
        self.partners = {TAP: frozenset(peers)} if peers else {}
        self.hearts.look()

    def changed(self) -> None:
        """Counts."""
        self.changes += 1

    def wake(self) -> None:
        """Counts."""
        self.woken += 1

    @property
    def health(self) -> Health:
        """What it thinks of the other end."""
        return self.hearts.health(TAP, str(self.peer))


def pair(clock: Clock, make: type[Heartbeats] = Heartbeats) -> tuple[Node, Node]:
    """Both ends of a tunnel."""
    one, other = Wire(b"\2\0\0\0\0\1", clock), Wire(b"\2\0\0\0\0\2", clock)
    one.other, other.other = other, one
    return Node(clock, ONE, OTHER, one, make), Node(clock, OTHER, ONE, other, make)


class HeartbeatTests(SynchronousTestCase):
    """A tunnel with two ends."""

    def setUp(self) -> None:
        """Both run, and know each other."""
        self.clock = Clock()
        self.clock.advance(1000)
        self.one, self.other = pair(self.clock)
        for node in (self.one, self.other):
            self.addCleanup(node.hearts.stopService)
            node.hearts.startService()
        self.wait(1.0)
        self.changes = self.one.changes, self.other.changes

    def wait(self, seconds: float, period: float = LOOK) -> None:
        """Time passes."""
        for _ in range(round(seconds / period)):
            self.clock.advance(until_tick(self.clock.seconds(), period))

    def test_well(self) -> None:
        """Both are fine, and babel needs no word."""
        self.assertEqual((self.one.health, self.other.health), (Health.FINE, Health.FINE))
        self.wait(10)
        self.assertEqual((self.one.babel.said, self.other.babel.said), ([], []))
        self.assertEqual(self.one.hearts.health("vifc1", str(OTHER)), Health.UNKNOWN)

    def test_beats(self) -> None:
        """Each sends one an interval, to the other's tap alone."""
        count = 0
        for _ in range(40):
            self.clock.advance(until_tick(self.clock.seconds(), LOOK))
            count += len(self.one.wire.frames)
        self.assertLessEqual(abs(count - 40 * LOOK / INTERVAL), 1)

    def test_cut(self) -> None:
        """Nothing goes through any more: both babels give the tunnel up; when it is mended they take it."""
        self.one.wire.cut = self.other.wire.cut = True
        self.wait(0.7)
        self.assertEqual((self.one.babel.cost, self.other.babel.cost), (INFINITY, INFINITY))
        # For lost ways others ask (node.hurry).
        self.assertEqual((self.one.babel.inquiries, self.other.babel.inquiries), (0, 0))
        self.wait(1.0)
        for node in (self.one, self.other):
            self.assertEqual((node.health, node.babel.cost), (Health.DEAD, INFINITY))
            self.assertGreater(node.changes, 0)
            # The neighbour's own words still come through now and then.
            node.babel.cost = LINK
            node.hearts.prompt()
            self.assertEqual(node.babel.cost, INFINITY)
            node.wire.cut = False
        self.wait(1.0)
        for node in (self.one, self.other):
            self.assertEqual((node.health, node.babel.cost), (Health.FINE, LINK))

    def test_prompt(self) -> None:
        """Whoever is asked for more beats, and could have answered by now, is dead; where an answer takes
        long, or nobody knows how long, two beats have to be missing. (That differs where nodes look often:
        one that looks while all is calm sees late that a beat is missing.)"""
        took: dict[float | None, list[float]] = {}
        for rtt in (None, 300.0, 2.0):
            took[rtt] = []
            for step in range(20):
                one, other = pair(self.clock, Thorough)
                one.babel.rtt = rtt
                for node in (one, other):
                    node.hearts.startService()
                self.wait(2)
                self.clock.advance(step * INTERVAL / 20)
                one.wire.cut = other.wire.cut = True
                cut = self.clock.seconds()
                while one.health is not Health.DEAD:
                    self.clock.advance(0.01)
                took[rtt].append(self.clock.seconds() - cut)
                for node in (one, other):
                    node.hearts.stopService()
        self.assertEqual(took[None], took[300.0])
        self.assertLess(max(took[None]), 2 * INTERVAL + SLACK + 2 * LOOK)
        self.assertLess(max(took[2.0]), INTERVAL + SLACK + ANSWER + 2 * LOOK)
        self.assertGreater(sum(took[None]) / 20, sum(took[2.0]) / 20 + 0.08)

    def test_prompt_answer(self) -> None:
        """A single beat that is lost makes nobody dead: the other end answers at once."""
        for node in (self.one, self.other):
            node.babel.rtt = 2.0
        for _ in range(20):
            self.wait(3.0)
            self.other.wire.few = 1
            self.wait(1.0)
        self.assertEqual(self.other.wire.lost, 20)
        self.assertEqual((self.one.babel.said, self.other.babel.said), ([], []))

    def test_back(self) -> None:
        """When a silence ends, both take the tunnel again as soon as some beats have come. They come fast."""
        for looks in range(6):
            self.one.wire.cut = self.other.wire.cut = True
            self.wait(1.0 + looks * LOOK)
            self.one.wire.cut = self.other.wire.cut = False
            self.wait(2 * INTERVAL)
            self.assertEqual((self.one.health, self.other.health), (Health.FINE, Health.FINE))

    def test_late(self) -> None:
        """Whoever has no time for its beats is taken for dead once; nothing follows from the same again."""
        for health in (Health.DEAD, Health.FINE, Health.FINE):
            self.other.wire.slow = True
            self.wait(2 * INTERVAL + SLACK + 2 * LOOK)
            self.assertEqual(self.one.health, health)
            self.other.wire.catch_up()
            self.wait(2 * EAGER)
            self.assertEqual((self.one.health, self.other.health), (Health.FINE, Health.FINE))

    def test_kernel(self) -> None:
        """A node that is hanging, or being started again, keeps its tunnels while its kernel answers; when
        that does not either, they are dead as soon as anybody's."""
        self.assertEqual(self.one.echo.asked, 0)
        self.other.wire.kernel = self.other.wire.slow = True
        self.wait(2 * FORGET)
        self.assertEqual((self.one.health, self.one.babel.said), (Health.FINE, []))
        self.assertIsNone(self.one.hearts.silent(TAP, OTHER, 0.0))
        self.assertLess(self.one.echo.asked, 2 * FORGET / INTERVAL + 2)
        self.other.wire.kernel = False
        self.wait(2 * INTERVAL + SLACK + 2 * LOOK)
        self.assertEqual(self.one.health, Health.DEAD)
        self.assertIsNotNone(self.one.hearts.silent(TAP, OTHER, 0.0))

    def test_kernel_while_babeld_is_watched(self) -> None:
        """babeld is not told to forget it either, where somebody is not well; here it is the same one."""
        self.one.hearts.leave(TAP)
        self.other.wire.kernel = self.other.wire.slow = True
        self.wait(5)
        self.assertEqual(self.one.babel.hears, LINK)

    def test_kernel_cut(self) -> None:
        """Where no packets come through there are no answers."""
        self.one.wire.kernel = self.other.wire.kernel = True
        self.test_cut()
        asked = self.one.echo.asked
        self.wait(10)
        self.assertEqual(self.one.echo.asked, asked)

    def test_kernel_late(self) -> None:
        """An answer that comes after the verdict is one, too."""
        self.other.wire.kernel = self.other.wire.slow = True
        self.one.echo.delay = 0.5
        self.wait(2 * INTERVAL + SLACK + 2 * LOOK)
        self.assertEqual(self.one.health, Health.DEAD)
        self.wait(0.5)
        self.assertEqual(self.one.health, Health.FINE)

    def test_busy(self) -> None:
        """While a tunnel carries packets, by the word of one end, both beat more often; so its end is noticed
        sooner than an idle one's."""
        self.one.carried = 1000
        self.wait(0.5)
        counts = [node.wire.sent for node in (self.one, self.other)]
        self.wait(1.0)
        for node, before in zip((self.one, self.other), counts, strict=True):
            self.assertIn(node.wire.sent - before, range(19, 23))
        for looks in range(5):
            self.wait(1.0 + looks * LOOK)
            self.one.wire.cut = self.other.wire.cut = True
            self.wait(LIVELY * 2 + SLACK + 3 * LOOK)
            self.assertEqual((self.one.health, self.other.health), (Health.DEAD, Health.DEAD))
            self.one.wire.cut = self.other.wire.cut = False

    def test_not_busy(self) -> None:
        """Beats and babel's packets are no traffic, and of others' packets nobody knows whose they are."""
        self.one.carried = 5
        self.other.carried = 1000
        self.other.meet(ONE, THIRD)
        self.test_beats()

    @given(
        st.sampled_from([0.1, INTERVAL, 1.0]),
        st.lists(st.tuples(st.integers(0, 1), st.booleans(), st.integers(1, 40)), max_size=12),
    )
    def test_busy_now_and_then(self, interval: float, changes: list[tuple[int, bool, int]]) -> None:
        """Nobody is missed when the beats become fewer again, whatever they usually are."""
        clock = Clock()
        clock.advance(1000)
        nodes = pair(clock)
        for node in nodes:
            node.hearts.interval = interval
            node.hearts.startService()
        clock.pump([LOOK] * 60)
        for which, busy, looks in [*changes, (0, False, 60), (1, False, 60)]:
            nodes[which].carried = 1000 * busy
            for _ in range(looks):
                clock.advance(until_tick(clock.seconds(), LOOK))
                self.assertEqual([node.health for node in nodes], [Health.FINE, Health.FINE])
        for node in nodes:
            node.hearts.stopService()

    @given(st.integers(0, 2**32 - 1), st.integers(1, 2))
    def test_some_lost(self, seed: int, lost: int) -> None:
        """Nobody is taken for dead because of a beat or two in a row, though machines wake a little late: who
        misses one asks for more at once."""
        chance = Random(seed)
        clock = Clock()
        clock.advance(1000)
        nodes = pair(clock)
        for node in nodes:
            node.hearts.startService()
        for turn in range(400):
            sender = nodes[turn // 60 % 2]
            # Those that are sent after a while of calm.
            if turn % 60 == 40:
                sender.wire.few = lost
            clock.advance(until_tick(clock.seconds(), LOOK) + 0.01 * chance.random())
            if turn > 20:
                self.assertEqual([node.health for node in nodes], [Health.FINE, Health.FINE])
        for node in nodes:
            node.hearts.stopService()

    def test_one_way(self) -> None:
        """Who hears nothing has babel forget that it did, also when that hears a hello; who hears does not.

        So the other end is not told that it is heard."""
        self.one.wire.cut = True
        self.wait(1.0)
        self.assertEqual((self.one.babel.hears, self.other.babel.hears), (LINK, INFINITY))
        self.other.babel.hears = LINK
        self.other.hearts.prompt()
        self.assertEqual(self.other.babel.hears, INFINITY)
        self.assertEqual((self.one.babel.cost, self.other.babel.cost), (INFINITY, INFINITY))
        self.one.wire.cut = False
        self.wait(1.0)
        self.assertEqual((self.one.babel.hears, self.other.babel.hears), (LINK, LINK))

    def test_introduced(self) -> None:
        """As soon as two hear each other, both babels are told so, once, as they believe it."""
        for node in (self.one, self.other):
            node.babel.knows = False
            node.meet()
        self.wait(FORGET + 1)
        for node in (self.one, self.other):
            node.meet(node.peer)
        self.wait(4 * LOOK)
        for node in (self.one, self.other):
            self.assertEqual(node.babel.introduced, [(LINK, 1.0)])
            # Whoever is new there is told all.
            self.assertEqual(node.babel.questions, 1)
        self.wait(10)
        for node in (self.one, self.other):
            self.assertEqual((len(node.babel.introduced), node.babel.questions), (1, 1))

    def test_awaited(self) -> None:
        """Who is looked out for is heard at the next look, though all others are well and let us wait."""
        self.wait(10)
        self.other.meet()
        self.wait(FORGET + 1)
        for looks in range(6):
            self.wait(looks * LOOK)
            self.assertNotEqual(self.one.health, Health.FINE)
            self.other.meet(ONE)
            self.other.hearts.look()
            self.wait(2 * LOOK)
            self.assertEqual((self.one.babel.cost, self.other.babel.cost), (LINK, LINK))
            self.assertEqual((self.one.health, self.other.health), (Health.FINE, Health.FINE))
            self.other.meet()
            self.wait(FORGET + 1)

    def test_introduced_again(self) -> None:
        """babel does not believe it: it is told again for a while, but not for ever, nor of a dead one."""
        self.one.wire.cut = self.other.wire.cut = True
        self.wait(1.0)
        self.one.wire.cut = self.other.wire.cut = False
        for _ in range(100):
            self.wait(LOOK)
            self.one.babel.cost = self.one.babel.hears = INFINITY
        count = len(self.one.babel.introduced)
        self.assertIn(count, range(10, 40))
        self.assertEqual(set(self.one.babel.introduced), {(LINK, 1.0)})
        # Not all routes each time: that concerns everybody on the tap.
        self.assertIn(self.one.babel.questions, range(3, count))
        self.wait(10)
        self.one.wire.cut = True
        self.wait(1)
        self.assertEqual(len(self.one.babel.introduced), count)
        self.assertEqual(self.one.babel.cost, INFINITY)

    def test_not_introduced_there_yet(self) -> None:
        """The neighbour's babel tells that it does not hear ours: of somebody who has just been introduced
        that is wrong, and is put right at once."""
        self.one.wire.cut = self.other.wire.cut = True
        self.wait(1.0)
        self.one.wire.cut = self.other.wire.cut = False
        while not self.one.babel.introduced:
            self.wait(LOOK)
        before = len(self.one.babel.introduced)
        for _ in range(3):
            self.one.babel.cost = INFINITY
            self.one.hearts.prompt()
            self.assertEqual(self.one.babel.cost, LINK)
        self.assertEqual(len(self.one.babel.introduced), before)

    def silent(self, since: float = 0.0) -> float | None:
        """What one end says of the other."""
        return self.one.hearts.silent(TAP, OTHER, since)

    def test_silent(self) -> None:
        """It is known since when, also of somebody who lives but does not hear us."""
        self.assertIsNone(self.silent())
        self.assertIsNone(self.one.hearts.silent(TAP, None, 0.0))
        self.one.wire.cut = True
        self.wait(2.0)
        since = self.silent()
        assert since is not None
        self.assertLess(abs(self.clock.seconds() - 1.3 - since), 0.3)
        self.one.wire.cut = False
        self.wait(1.0)
        self.assertIsNone(self.silent())

    def test_silent_before(self) -> None:
        """The silence of a tunnel that has ended is not that of the next one on its tap."""
        self.one.wire.cut = self.other.wire.cut = True
        self.wait(2.0)
        self.one.meet()
        self.wait(LOOK)
        self.one.meet(OTHER)
        up = self.clock.seconds()
        self.wait(LOOK)
        self.assertIsNone(self.silent(up))
        self.other.wire.cut = False
        self.wait(2 * INTERVAL)
        self.assertIsNone(self.silent(up))
        self.other.wire.cut = True
        self.wait(2.0)
        self.assertGreater(self.silent(up) or 0.0, up)

    def test_silent_since_the_sleep(self) -> None:
        """Only what comes after it counts, and not what comes first: that may be old."""
        self.one.babel.knows = False
        self.clock.advance(120)
        woken = self.clock.seconds()
        since = self.silent()
        assert since is not None
        self.assertLessEqual(since, woken)
        # Nor does babel hear of somebody who may not be there any more.
        self.wait(0.1)
        self.assertEqual(self.one.babel.introduced, [])
        self.wait(0.5)
        self.assertIsNone(self.silent())
        # Of one that was never heard, too; but not of a tunnel that is younger.
        self.assertEqual(self.one.hearts.silent("vifc1", OTHER, 500.0), 500.0)
        self.assertIsNone(self.one.hearts.silent("vifc1", OTHER, woken + 1))

    def test_cut_one_way(self) -> None:
        """Who is heard no more learns it from the other."""
        self.one.wire.cut = True
        self.wait(0.8)
        self.assertEqual((self.one.health, self.other.health), (Health.DEAD, Health.DEAD))
        self.assertEqual((self.one.babel.cost, self.other.babel.cost), (INFINITY, INFINITY))

    def test_leaving(self) -> None:
        """It becomes dear for both at once; it is empty when both say so; then all is as it was."""
        self.one.unused = self.other.unused = False
        self.one.hearts.leave(TAP)
        self.wait(2 * LOOK)
        for node in (self.one, self.other):
            self.assertEqual((node.health, node.babel.cost), (Health.LEAVING, LEAVING))
            # Others are asked for their ways at once, and not all the time.
            self.assertEqual(node.babel.inquiries, 1)
        self.one.unused = True
        self.wait(1.0)
        self.assertFalse(self.one.hearts.empty(TAP))
        self.other.unused = True
        self.wait(1.0)
        self.assertTrue(self.one.hearts.empty(TAP))
        self.assertTrue(self.one.hearts.empty(None))
        self.one.hearts.stay(TAP)
        self.wait(2 * LOOK)
        for node in (self.one, self.other):
            self.assertEqual((node.health, node.babel.cost), (Health.FINE, LINK))

    def test_leave_all(self) -> None:
        """A node that stops leaves every tap; a dead end is not waited for."""
        self.other.unused = False
        self.one.hearts.leave()
        self.wait(0.5)
        self.assertFalse(self.one.hearts.empty())
        self.other.wire.cut = True
        self.wait(1.0)
        self.assertTrue(self.one.hearts.empty())

    def test_end(self) -> None:
        """The other end gives it up at once, and takes it again when that is taken back."""
        for tap in (TAP, None):
            self.one.hearts.leave(tap)
            self.wait(0.5)
            self.assertEqual(self.one.hearts.busy(tap), [])
            self.one.hearts.end(tap)
            self.wait(2 * LOOK)
            self.assertEqual((self.one.health, self.other.health), (Health.LEAVING, Health.DEAD))
            self.one.hearts.stay(tap)
            self.wait(1.0)
            self.assertEqual((self.one.health, self.other.health), (Health.FINE, Health.FINE))

    def test_used_again(self) -> None:
        """That a tunnel that is left is in use again is told before the next beat."""
        self.one.hearts.leave(TAP)
        self.wait(1.0)
        self.assertTrue(self.one.hearts.empty(TAP))
        self.other.unused = False
        self.wait(2 * LOOK)
        self.assertEqual(self.one.hearts.busy(TAP), [(TAP, OTHER)])

    def test_drained(self) -> None:
        """All cost something, and one that is about to end more."""
        self.one.hearts.leave()
        self.wait(0.5)
        self.assertEqual((self.one.babel.cost, self.other.babel.cost), (DRAINED, DRAINED))
        self.one.hearts.leave(TAP)
        self.wait(0.5)
        self.assertEqual((self.one.babel.cost, self.other.babel.cost), (LEAVING, LEAVING))
        self.one.hearts.stay(TAP)
        self.wait(0.5)
        self.assertEqual((self.one.babel.cost, self.one.health), (DRAINED, Health.LEAVING))

    def test_dies_while_it_is_left(self) -> None:
        """Its own words are what comes back in the end, not what it was told between."""
        self.one.hearts.leave(TAP)
        self.wait(0.3)
        self.other.wire.cut = True
        self.wait(1.0)
        self.assertEqual(self.one.babel.said, [LEAVING, INFINITY])
        self.other.wire.cut = False
        self.one.hearts.stay(TAP)
        self.wait(1.5)
        self.assertEqual(self.one.babel.cost, LINK)

    def test_lossy(self) -> None:
        """Beats get lost: the tunnel becomes dearer for both, but no tunnel to avoid at any price."""
        for turn in range(40):
            self.one.wire.cut = turn % 5 == 0
            self.wait(INTERVAL)
        for node in (self.one, self.other):
            self.assertIn(node.babel.cost, range(2 * LINK + 1, LEAVING))
            self.assertEqual(node.health, Health.LOSSY)

    def test_eager(self) -> None:
        """One beat gets lost: more come for a second, both ways, and it was nothing."""
        self.one.wire.cut = True
        self.wait(INTERVAL)
        self.one.wire.cut = False
        counts = []
        for _ in range(12):
            before = self.one.wire.sent, self.other.wire.sent
            self.wait(INTERVAL)
            counts.append((self.one.wire.sent - before[0], self.other.wire.sent - before[1]))
        for end in range(2):
            self.assertEqual(max(count[end] for count in counts), round(INTERVAL / LOOK))
            self.assertEqual(counts[-1][end], 1)
        self.assertEqual((self.one.health, self.one.babel.cost), (Health.FINE, LINK))

    def test_show(self) -> None:
        """One end's packets go nowhere until the other end has seen one from its new address: that is soon
        over for both when it says that it has moved."""
        self.wait(0.1)
        self.one.wire.cut = self.other.wire.cut = True
        before = self.one.wire.sent
        self.one.hearts.show()
        self.assertEqual(self.one.wire.sent, before + 1)
        self.one.wire.cut = self.other.wire.cut = False
        counts = []
        for _ in range(15):
            sent = self.one.wire.sent, self.other.wire.sent
            self.wait(INTERVAL)
            counts.append((self.one.wire.sent - sent[0], self.other.wire.sent - sent[1]))
        for end in range(2):
            self.assertGreaterEqual(counts[0][end], round(INTERVAL / LOOK) - 1)
            self.assertEqual(counts[-1][end], 1)
        self.assertEqual((self.one.changes, self.other.changes), self.changes)

    def test_found_out(self) -> None:
        """One in five gets lost: that is known within a second after the first one."""
        wire = self.one.wire
        wire.every = 5
        while not wire.lost:
            self.wait(LOOK)
        self.wait(1.0)
        for node in (self.one, self.other):
            self.assertGreater(node.babel.cost, LINK)

    def test_keen(self) -> None:
        """If it carries packets, much sooner: beats come four times as often then, until that is known."""
        wires = (self.one.wire, self.other.wire)
        self.one.carried = 1000
        self.wait(2.0, KEEN)
        wires[0].every = 5
        while not wires[0].lost:
            self.wait(KEEN, KEEN)
        before = [wire.sent for wire in wires]
        self.wait(0.4, KEEN)
        self.assertEqual((self.one.health, self.other.health), (Health.LOSSY, Health.LOSSY))
        for wire, sent in zip(wires, before, strict=True):
            self.assertIn(wire.sent - sent, range(14, 33))
        self.wait(2.0, KEEN)
        before = [wire.sent for wire in wires]
        self.wait(1.0, KEEN)
        for wire, sent in zip(wires, before, strict=True):
            self.assertIn(wire.sent - sent, range(19, 23))

    def test_seized(self) -> None:
        """Where others offer a way for all, babel is told for a second that a lossy one is dead; only there,
        only once, and only as long."""
        self.one.covered = True
        self.one.wire.every = self.other.wire.every = 5
        while self.one.health is not Health.LOSSY:
            self.wait(LOOK)
        self.wait(SEIZED / 2)
        self.assertEqual((self.one.babel.cost, self.other.health), (INFINITY, Health.LOSSY))
        self.assertIn(self.other.babel.cost, range(SHUNNED, DRAINED))
        self.wait(SEIZED)
        for _ in range(100):
            self.wait(LOOK)
            self.assertIn(self.one.babel.cost, range(SHUNNED, DRAINED))

    def test_seized_in_vain(self) -> None:
        """Those who went over us offer nothing any more then; babel would have all come and go again."""
        self.one.covered = True
        self.one.wire.every = 5
        while self.one.health is not Health.LOSSY:
            self.wait(LOOK)
        self.one.covered = False
        for _ in range(round(0.9 * SEIZED / LOOK)):
            self.assertEqual(self.one.babel.cost, INFINITY)
            self.wait(LOOK)
        self.wait(0.2 * SEIZED)
        self.assertIn(self.one.babel.cost, range(SHUNNED, DRAINED))

    def test_seized_late(self) -> None:
        """Others may come to offer one within that second."""
        self.one.wire.every = 5
        while self.one.health is not Health.LOSSY:
            self.wait(LOOK)
        self.assertIn(self.one.babel.cost, range(SHUNNED, DRAINED))
        self.one.covered = True
        self.wait(LOOK)
        self.assertEqual(self.one.babel.cost, INFINITY)

    def test_ended(self) -> None:
        """A tunnel that has ended is dead at once; another over the same tap with the same peer is new."""
        self.one.meet()
        self.wait(LOOK)
        self.assertEqual((self.one.health, self.one.babel.cost), (Health.DEAD, INFINITY))
        self.one.meet(OTHER)
        self.wait(1.0)
        self.assertEqual((self.one.health, self.one.babel.cost), (Health.FINE, LINK))

    def test_forgotten(self) -> None:
        """Who was silent for long is nobody."""
        self.one.meet()
        self.wait(FORGET + 1)
        self.assertEqual(self.one.health, Health.UNKNOWN)

    def test_strangers(self) -> None:
        """Only who is at the other end counts, and only beats do."""
        self.one.meet(IPv6Address("fe80::3"))
        self.wait(0.5)
        self.assertEqual(self.one.hearts.health(TAP, "fe80::3"), Health.UNKNOWN)
        self.one.wire.frames += [(TAP, b"", b"no beat", 0.0), ("eth0", b"", b"", 0.0)]
        self.wait(0.5)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_woken(self) -> None:
        """Two looks far apart: the machine has slept, which is said once, and what came is read first."""
        self.clock.advance(120)
        self.assertEqual((self.one.woken, self.other.woken), (1, 1))
        self.wait(1)
        self.assertEqual((self.one.woken, self.one.health), (1, Health.FINE))

    def test_interval(self) -> None:
        """It may be changed, and each end judges by what the other tells."""
        self.one.hearts.interval = 2.0
        self.wait(10)
        self.assertEqual((self.one.health, self.other.health), (Health.FINE, Health.FINE))

    @given(st.sampled_from([0.05, 0.3, 1.0, 2.0, 5.0, 30.0, 60.0]))
    def test_any_interval(self, interval: float) -> None:
        """Who beats rarely is not missed for that, and costs as much less; when it is gone, that is noticed
        after two beats, and remembered."""
        clock = Clock()
        clock.advance(1000)
        one, other = pair(clock)
        for node in (one, other):
            node.hearts.interval = interval
            node.hearts.startService()
        clock.pump([LOOK] * 100)
        before = one.wire.sent
        clock.pump([LOOK] * round(10 * interval / LOOK))
        self.assertEqual((one.health, other.health), (Health.FINE, Health.FINE))
        self.assertLessEqual(one.wire.sent - before, 12)
        one.wire.kernel = True
        one.wire.cut = True
        asked = other.echo.asked
        clock.pump([LOOK] * round((2.1 * interval + 0.3) / LOOK))
        self.assertEqual(other.health, Health.DEAD)
        self.assertGreater(other.echo.asked, asked)
        self.assertIsNotNone(other.hearts.silent(TAP, ONE, 1000.0))
        clock.pump([LOOK] * round(FORGET / LOOK))
        self.assertEqual(other.health, Health.UNKNOWN)

    def test_shorter_interval(self) -> None:
        """Silence is noticed by what was told last, however long it would have taken by what was before."""
        self.one.hearts.interval = 20.0
        self.wait(1.0)
        self.one.hearts.interval = INTERVAL
        self.wait(25)
        self.assertEqual(self.other.health, Health.FINE)
        self.one.wire.cut = True
        self.wait(0.7)
        self.assertEqual(self.other.health, Health.DEAD)

    def test_calm(self) -> None:
        """While all is well babeld is not asked what it believes; as soon as it is not, it is."""
        self.wait(5)
        before = self.one.babel.asked
        self.wait(5)
        for _ in range(100):
            self.one.hearts.prompt()
        self.assertEqual(self.one.babel.asked, before)
        self.one.hearts.leave(TAP)
        self.assertGreater(self.one.babel.asked, before)

    def test_rung(self) -> None:
        """While all is well looks are rare. Who says more than that is heard at once all the same."""
        self.wait(5)
        bell = self.other.wire.bell
        assert bell is not None
        self.clock.advance(until_tick(self.clock.seconds(), CALM))
        self.assertEqual((bell.listens, bell.rung), (True, 0))
        self.clock.advance(0.3 * LOOK)
        self.one.hearts.leave(TAP)
        self.clock.advance(0)
        self.assertEqual((self.other.health, bell.listens, bell.rung), (Health.LEAVING, False, 1))

    def test_rung_all_the_time(self) -> None:
        """Whoever says so all the time does not have us do nothing else."""
        self.wait(5)
        bell = self.other.wire.bell
        assert bell is not None
        for _ in range(1000):
            bell.pull()
            self.clock.advance(0.001)
        self.assertLessEqual(bell.rung, 1.0 / RING)

    def test_stopped(self) -> None:
        """Nothing is left."""
        for node in (self.one, self.other):
            node.hearts.stopService()
            self.assertTrue(node.wire.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_sockets(self) -> None:
        """Without them babel alone watches, which is said once."""

        def refuse() -> Wire:
            raise OSError(1, "Operation not permitted")

        hearts = Heartbeats(
            self.clock,
            ONE,
            INTERVAL,
            dict,
            list,
            list,
            lambda tap, address: {},
            lambda tap, address: True,
            lambda tap, address: True,
            lambda: None,
            make_socket=refuse,  # type: ignore[arg-type]
        )
        hearts.startService()
        hearts.leave(TAP)
        self.assertTrue(hearts.empty(TAP))
        hearts.stopService()

    def test_first_beat(self) -> None:
        """It goes to whoever is there, with the sender's interval and address, and hears nobody yet."""
        wire = Wire(b"\2\0\0\0\0\3", self.clock)
        wire.other = Wire(b"\2\0\0\0\0\4", self.clock)
        node = Node(self.clock, ONE, OTHER, wire)
        node.hearts.startService()
        self.addCleanup(node.hearts.stopService)
        [(tap, _, data, _)] = wire.other.frames
        beat = parse_beat(data)
        assert beat is not None
        self.assertEqual((tap, beat.address, beat.cost, beat.interval), (TAP, ONE, INFINITY, INTERVAL))


def _believe(cost: int, *, knows: bool = True) -> Callable[[Node], None]:
    """babeld believes something else."""

    def deed(node: Node) -> None:
        node.babel.cost, node.babel.knows = cost, knows
        node.hearts.prompt()

    return deed


DEEDS: dict[str, Callable[[Node], None]] = {
    "nothing": lambda node: None,
    "cut": lambda node: setattr(node.wire, "cut", True),
    "mend": lambda node: setattr(node.wire, "cut", False),
    "leave": lambda node: node.hearts.leave(TAP),
    "leave all": lambda node: node.hearts.leave(),
    "stay": lambda node: node.hearts.stay(TAP),
    "all stay": lambda node: node.hearts.stay(),
    "end": lambda node: node.hearts.end(TAP),
    "use": lambda node: setattr(node, "unused", False),
    "use no more": lambda node: setattr(node, "unused", True),
    "go": lambda node: node.meet(),
    "carry": lambda node: setattr(node, "carried", 50),
    "carry no more": lambda node: setattr(node, "carried", 0),
    "cover": lambda node: setattr(node, "covered", True),
    "lose": lambda node: setattr(node.wire, "every", 4),
    "lose no more": lambda node: setattr(node.wire, "every", 0),
    "come": lambda node: node.meet(node.peer),
    "believe": _believe(LINK),
    "doubt": _believe(INFINITY),
    "forget": _believe(INFINITY, knows=False),
    "show": lambda node: node.hearts.show(),
    "slow": lambda node: setattr(node.hearts, "interval", 1.0),
    "fast": lambda node: setattr(node.hearts, "interval", INTERVAL),
    "sleep": lambda node: node.hearts._reactor.advance(7),
    "age": lambda node: node.hearts._reactor.pump([LOOK] * 1300),
}


class SparedWorkTests(SynchronousTestCase):
    """Most looks look at little: nobody can tell."""

    @given(
        st.lists(st.tuples(st.sampled_from(list(DEEDS)), st.integers(0, 1), st.integers(0, 30)), max_size=40)
    )
    def test_same(self, deeds: list[tuple[str, int, int]]) -> None:
        """Whatever happens, all is as if everything was looked at each time."""
        self.assertEqual(trace(deeds, Heartbeats), trace(deeds, Thorough))


def trace(deeds: list[tuple[str, int, int]], make: type[Heartbeats]) -> list[object]:
    """What there is to see after each look: the deeds are done to one end, and so many looks follow each."""
    clock = Clock()
    clock.advance(1000)
    nodes = pair(clock, make)
    for node in nodes:
        node.hearts.startService()
    seen: list[object] = []
    for name, which, looks in deeds:
        DEEDS[name](nodes[which])
        for _ in range(looks):
            clock.advance(until_tick(clock.seconds(), LOOK))
            for node in nodes:
                babel, hearts = node.babel, node.hearts
                seen.append((clock.seconds(), babel.cost, len(babel.said), len(babel.introduced)))
                seen.append((node.health, node.changes, node.woken, hearts.busy(), list(node.wire.frames)))
                seen.append(hearts.silent(TAP, node.peer, 900.0))
    for node in nodes:
        node.hearts.stopService()
    return seen
