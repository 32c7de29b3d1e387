"""What is read of babeld's lines, and when."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fakes import Pipe
from tests.unit.node.test_babeld import GREETING, UP, XROUTE, neighbour, route
from vifibnet.model.liveness import INFINITY
from vifibnet.node.monitor import FEW, LITTLE, MUCH, PAUSE, Monitor
from vifibnet.node.told import Told
from vifibnet.wire.babeld import Change, Neighbour, Reply, Route, parse_monitor


class MonitorTests(SynchronousTestCase):
    """The test is babeld at one end, and who listens at the other."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.transport = Pipe()
        self.told: list[str] = []
        self.changes: list[Change] = []
        self.ends = 0
        self.patient = PAUSE
        self.asks = False
        self.monitor = Monitor(self.clock, self)
        self.transport.end = self.monitor
        self.monitor.makeConnection(self.transport)
        self.say(*GREETING)
        self.assertEqual(self.transport.value(), b"monitor\n")
        self.transport.clear()
        self.say(UP, neighbour(), XROUTE, route(), "ok")
        self.assertEqual(self.told, ["Interface", "Neighbour", "Xroute", "Route"])

    def known(self, link: Monitor, told: Told) -> None:
        self.assertIs(link, self.monitor)
        self.told = [type(item).__name__ for item in told]

    def changed(self, change: Change) -> None:
        self.changes.append(change)
        if self.asks:
            self.monitor.ask("flush interface a")

    def lost(self, link: Monitor) -> None:
        self.ends += 1

    def patience(self) -> float:
        return self.patient

    def say(self, *lines: str) -> None:
        """babeld says something."""
        self.monitor.dataReceived("".join(f"{line}\n" for line in lines).encode())

    def metrics(self) -> list[int]:
        """Those of the routes that were told since the last time."""
        changes, self.changes = self.changes, []
        return [change.item.metric for change in changes if isinstance(change.item, Route)]

    def test_repeated(self) -> None:
        """A line that says the same again is none."""
        self.say(*[route("change")] * 5, neighbour("change"), XROUTE.replace("add", "change"))
        self.assertEqual(self.changes, [])

    def test_repeated_after_flush(self) -> None:
        """What was flushed is news when it comes again in the same words."""
        lines = [route("flush"), route("change")]
        self.say(*lines)
        self.assertEqual(self.changes, [parse_monitor(line) for line in lines])

    def test_back_again(self) -> None:
        """What was true before the last line is news again."""
        lines = [route("change", "no"), route("change"), route("change", "no")]
        self.say(*lines)
        self.assertEqual(self.changes, [parse_monitor(line) for line in lines])

    def test_hastened(self) -> None:
        """What waits to be read is read at once when somebody cannot wait."""
        self.monitor.hasten()
        self.say(route("change", metric=300))
        self.assertEqual(self.transport.producerState, "paused")
        self.monitor.hasten()
        self.assertEqual(self.transport.producerState, "producing")

    def test_a_little(self) -> None:
        """A metric that has changed by a little is the same as long as it stays near what was told last."""
        self.say(*(route("change", metric=96 + more) for more in (LITTLE - 1, -LITTLE + 1, 1)))
        self.assertEqual(self.metrics(), [])
        far = [96 + LITTLE, 96 + 2 * LITTLE, 96 + LITTLE]
        self.say(*(route("change", metric=metric) for metric in far))
        self.assertEqual(self.metrics(), far)
        self.say(route("change", "no", metric=far[-1] + 1))
        self.assertEqual(self.metrics(), [far[-1] + 1])

    def test_a_little_announced(self) -> None:
        """Likewise what the neighbour announces, but whether it is there itself counts."""
        both = [(192, 96), (199, 103), (192, 104), (185, 97), (200, 103), (200, 0), (200, 7)]
        self.say(*(route("change", metric=metric, refmetric=announced) for metric, announced in both))
        routes = [change.item for change in self.changes if isinstance(change.item, Route)]
        told = [(each.metric, each.refmetric) for each in routes]
        self.assertEqual(told, [(192, 96), (192, 104), (200, 103), (200, 0), (200, 7)])

    def test_round_trip(self) -> None:
        """Likewise a neighbour's round-trip time: two milliseconds or an eighth; but what it costs counts."""
        lines = [f"change {neighbour()[4:]} rtt {rtt} rttcost 0" for rtt in (5, 6.9, 7.1, 80, 71, 89, 91)]
        self.say(*lines)
        told = [change.item.rtt for change in self.changes if isinstance(change.item, Neighbour)]
        self.assertEqual(told, [5, 7.1, 80, 91])
        self.changes.clear()
        self.say(lines[-1].replace("rttcost 0", "rttcost 1"))
        self.assertEqual(len(self.changes), 1)

    def test_unreachable(self) -> None:
        """The greatest metric is no neighbour's of another."""
        near = INFINITY - 1
        told = [near, INFINITY, near]
        self.say(*(route("change", metric=metric) for metric in told))
        self.assertEqual(self.metrics(), told)

    def test_some_at_a_time(self) -> None:
        """Between two reads there is a pause, in which babeld's lines come together; the reactor has nothing
        to do with them."""
        for metric in (200, 300):
            self.transport.waiting = [route("change", metric=metric), route("change", metric=metric + 50)]
            self.clock.advance(0.4 * PAUSE)
            self.assertEqual(self.metrics(), [])
            self.clock.advance(0.6 * PAUSE)
            self.assertEqual(self.metrics(), [metric, metric + 50])
            self.assertEqual(self.transport.producerState, "paused")
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_much(self) -> None:
        """babeld, which has a lot to say, shall not wait for us."""
        self.transport.waiting = [route("change", metric=1000 + 10 * number) for number in range(MUCH // 50)]
        self.clock.advance(PAUSE)
        self.assertEqual((self.transport.producerState, self.clock.getDelayedCalls()), ("producing", []))
        self.say(route("change", metric=200))
        self.assertEqual(self.transport.producerState, "paused")

    def test_in_pieces(self) -> None:
        """A line may come in several of them."""
        for part in (
            b"change rou",
            route("change", metric=200).encode().removeprefix(b"change rou"),
            b"\nch",
        ):
            self.monitor.dataReceived(part)
        self.assertEqual(self.metrics(), [200])

    def test_impatient(self) -> None:
        """Who has to know at once is told at once."""
        self.patient = 0.0
        self.clock.advance(PAUSE)
        self.assertEqual((self.transport.producerState, self.clock.getDelayedCalls()), ("producing", []))
        self.say(route("change", metric=200))
        self.assertEqual((self.metrics(), self.transport.producerState), ([200], "producing"))

    def test_patient(self) -> None:
        """Who may wait for longer does, as long as babeld has no more to tell than the kernel keeps."""
        self.patient = 2 * PAUSE
        self.clock.pump([PAUSE, PAUSE])
        self.transport.waiting = [route("change", metric=200)]
        self.clock.advance(PAUSE)
        self.assertEqual(self.metrics(), [])
        self.clock.advance(PAUSE)
        self.assertEqual(self.metrics(), [200])
        for number in range(FEW):
            self.say(route().replace("route b1", f"route c{number}"))
        self.clock.pump([1.1 * PAUSE] * 2)
        self.changes.clear()
        for metric in (300, 400):
            self.transport.waiting = [route("change", metric=metric)]
            self.clock.advance(PAUSE)
            self.assertEqual(self.metrics(), [metric])

    def test_ended(self) -> None:
        """The reactor has to see that it is over."""
        self.transport.ended = Failure(ConnectionDone())
        self.clock.advance(PAUSE)
        self.assertEqual((self.transport.producerState, self.clock.getDelayedCalls()), ("producing", []))

    def test_failure(self) -> None:
        """Who does not want to hear of something is not left without the rest: the connection ends."""
        self.patch(self, "changed", lambda change: 1 / 0)
        self.transport.waiting = [route("change", metric=200)]
        self.clock.advance(PAUSE)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(self.transport.disconnected)

    def test_asked_meanwhile(self) -> None:
        """Who is told something may ask at once."""
        self.asks = True
        self.transport.waiting = [route("change", metric=200)]
        self.clock.advance(PAUSE)
        self.assertEqual(self.transport.value(), b"flush interface a\n")
        self.assertEqual((self.transport.producerState, self.clock.getDelayedCalls()), ("producing", []))

    def test_asked(self) -> None:
        """An answer is not waited for longer than it takes."""
        answer = self.monitor.ask("flush interface a")
        self.assertEqual(self.transport.value(), b"flush interface a\n")
        self.assertEqual(self.transport.producerState, "producing")
        self.say(route("change", metric=200))
        self.assertEqual(self.transport.producerState, "producing")
        self.say("no such interface")
        self.assertEqual(self.successResultOf(answer), Reply("no", "such interface"))
        self.assertEqual(self.transport.producerState, "paused")

    def test_lost(self) -> None:
        """Its end ends the pause, and fails what was asked."""
        answer = self.monitor.ask("quit")
        self.monitor.connectionLost(Failure(ConnectionDone()))
        self.failureResultOf(answer, ConnectionError)
        self.assertEqual((self.ends, self.clock.getDelayedCalls()), (1, []))
