"""Children and their supervisor, in a reactor where nothing happens by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger, LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.unit.node.processes import FakeReactor
from vifibnet.errors import CommandFailed
from vifibnet.model.supervision import LONG_ENOUGH, LONGEST_DELAY, WELL_AFTER, State
from vifibnet.node.ending import bounded
from vifibnet.node.supervisor import Child, Exit, Supervisor


class ChildTests(SynchronousTestCase):
    """One run of a program."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.child = Child(self.reactor, ["program", "argument"])

    def test_end(self) -> None:
        """How it ended is told once, with the last lines it said and how long it ran."""
        self.child.start()
        (process,) = self.reactor.processes
        self.assertEqual(process.command, ["setsid", "program", "argument"])
        self.assertEqual(self.child.pid, 100)
        self.assertNoResult(self.child.ended)
        process.say("".join(f"line {number}\n" for number in range(100)))
        process.say("last words")
        self.reactor.advance(5)
        process.end(3)
        end = self.successResultOf(self.child.ended)
        self.assertEqual((end.status, end.signal, end.ran, str(end)), (3, None, 5.0, "ended with status 3"))
        self.assertEqual((len(end.output), end.output[0], end.output[-1]), (20, "line 81", "last words"))

    def test_signal(self) -> None:
        """A signal is called by its name."""
        self.child.start()
        self.reactor.processes[0].end(signal=11)
        self.assertEqual(str(self.successResultOf(self.child.ended)), "ended by SIGSEGV")

    def test_log(self) -> None:
        """With a log file, the output is in the file, and the end tells only what this run has said."""
        log = Path(self.mktemp())
        log.write_text("of an earlier run\n")
        child = Child(self.reactor, ["program"], log=log)
        child.start()
        with log.open("a") as file:
            file.write("a word\nanother\n\n")
        self.reactor.processes[0].end(1)
        self.assertEqual(self.successResultOf(child.ended).output, ("a word", "another"))

    def test_log_unwritable(self) -> None:
        """A log file that cannot be opened is an error, and nothing is started."""
        child = Child(self.reactor, ["program"], log=Path(self.mktemp()) / "log")
        self.assertRaises(OSError, child.start)
        self.assertEqual(self.reactor.processes, [])

    def test_stop(self) -> None:
        """SIGTERM is enough for a program that obeys."""
        self.child.start()
        stopped = Deferred.fromCoroutine(self.child.stop())
        self.successResultOf(stopped)
        self.assertEqual(self.reactor.processes[0].signals, ["TERM"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.successResultOf(Deferred.fromCoroutine(self.child.stop()))

    def test_stubborn(self) -> None:
        """What does not end by SIGTERM, nor by a second one, is killed."""
        self.reactor.obeys = ("KILL",)
        self.child.start()
        stops = [Deferred.fromCoroutine(self.child.stop(3, insist=0.2)) for _ in range(2)]
        self.reactor.advance(2.9)
        self.assertEqual(self.reactor.processes[0].signals, ["TERM"] * 4)
        self.assertNoResult(stops[0])
        self.reactor.advance(0.2)
        for stop in stops:
            self.successResultOf(stop)
        self.assertEqual(self.reactor.processes[0].signals[-1], "KILL")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_no_longer_waited_for(self) -> None:
        """A stop that is cancelled leaves nothing behind, neither the program nor a call."""
        self.reactor.obeys = ("KILL",)
        self.child.start()
        stop = Deferred.fromCoroutine(self.child.stop(insist=0.2))
        stop.cancel()
        self.failureResultOf(stop, CancelledError)
        self.assertEqual(self.reactor.processes[0].signals, ["TERM", "KILL"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_never_started(self) -> None:
        """There is nothing to stop."""
        self.successResultOf(Deferred.fromCoroutine(self.child.stop()))


class SupervisorTests(SynchronousTestCase):
    """A program kept running."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.ends: list[Exit] = []

    def supervisor(self, **how: Any) -> Supervisor:
        return Supervisor(
            self.reactor, Random(7), "program", lambda: ["program"], on_end=self.ends.append, **how
        )

    def end_and_wait(self, supervisor: Supervisor, status: int = 1) -> float:
        """End the program; how long it takes until it runs again."""
        self.reactor.children[0].end(status)
        waited = 0.0
        while supervisor.state is State.BACKING_OFF:
            self.reactor.advance(0.01)
            waited += 0.01
        return waited

    def test_restarts(self) -> None:
        """It is started again, later each time, at most every minute, and each time at another moment."""
        supervisor = self.supervisor()
        self.assertEqual(supervisor.state, "stopped")
        supervisor.startService()
        self.assertEqual(supervisor.state, "running")
        waits = [self.end_and_wait(supervisor) for _ in range(12)]
        for number, wait in enumerate(waits):
            longest = min(LONGEST_DELAY, 0.2 * 2**number)
            self.assertTrue(longest / 2 - 0.02 <= wait <= longest + 0.02, f"{number}: {wait}")
        self.assertNotEqual(waits[-1], waits[-2])
        self.assertEqual((supervisor.history.restarts, len(self.ends)), (12, 12))
        assert supervisor.last_exit is not None
        self.assertEqual(supervisor.last_exit.status, 1)

    def test_restart(self) -> None:
        """A wanted restart is at once, without a word to the program, and no failure; never two at a time."""
        supervisor = self.supervisor()
        supervisor.startService()
        first = self.reactor.processes[0]
        first.obeys = ()
        supervisor.restart()
        supervisor.restart()
        self.assertEqual((supervisor.state, first.signals), ("replacing", ["KILL"]))
        first.end(signal=9)
        self.assertEqual((supervisor.state, len(self.reactor.processes)), ("running", 2))
        self.assertEqual(supervisor.history.restarts, 0)
        self.reactor.processes[1].end(1)
        self.assertEqual(supervisor.state, "backing off")
        supervisor.restart()
        self.assertEqual((supervisor.state, len(self.reactor.processes)), ("running", 3))
        self.reactor.advance(LONGEST_DELAY)
        self.assertEqual(len(self.reactor.processes), 3)

    def test_recovered(self) -> None:
        """After a run that was long enough it starts again soon."""
        supervisor = self.supervisor()
        supervisor.startService()
        for _ in range(6):
            self.end_and_wait(supervisor)
        self.reactor.advance(LONG_ENOUGH)
        self.assertLess(self.end_and_wait(supervisor), 0.25)

    def test_complaints(self) -> None:
        """A complaint is told once, with its log's last lines, until the program is well: so is that."""
        supervisor = self.supervisor(explain=lambda lines: lines[0])

        def told(words: str, after: float = 0) -> list[str]:
            self.reactor.advance(after)
            with capturedLogs() as events:
                self.reactor.children[0].say(f"{words}\nnoise\n")
                self.end_and_wait(supervisor)
            return [formatEvent(event) for event in events if event["log_level"] >= LogLevel.warn]

        supervisor.startService()
        (once,) = told("bad option")
        self.assertRegex(
            once,
            r"^program ended with status 1: bad option; it is started again in 0\.\d s\n  bad option\n  n",
        )
        self.assertEqual(told("bad option"), [])
        self.assertEqual(len(told("bad key")), 1)
        self.assertEqual(told("bad key", after=LONG_ENOUGH), [])
        with capturedLogs() as events:
            self.reactor.advance(WELL_AFTER)
        self.assertRegex(formatEvent(events[0]) or "", r"^program is well again after 4 failures, 4\.\d s$")
        self.assertEqual(len(told("bad key")), 1)

    def test_last_words(self) -> None:
        """Where the complaint is the last of its log's lines, those before are told, too; a single one is
        told once."""
        for words, lines in (("no socket\ngiving up", "\n  no socket\n  giving up"), ("giving up", "")):
            supervisor = self.supervisor()
            supervisor.startService()
            with capturedLogs() as events:
                self.reactor.children[0].say(f"{words}\n")
                self.reactor.children[0].end(1)
            (said,) = [formatEvent(event) for event in events if event["log_level"] >= LogLevel.warn]
            self.assertRegex(said, rf"^program ended with status 1: giving up; .* in 0\.\d s{lines}$")
            supervisor.stopService()

    def test_quiet_loop(self) -> None:
        """What fails for a day, each time for another reason, says so three times."""
        supervisor = self.supervisor()
        with capturedLogs() as events:
            supervisor.startService()
            for number in range(1000):
                self.reactor.children[0].say(f"reason {number}\n")
                self.end_and_wait(supervisor)
        loud = [formatEvent(event) for event in events if event["log_level"] > LogLevel.debug]
        self.assertEqual(len(loud), 5, loud)
        self.assertEqual(supervisor.status().complaint, "ended with status 1: reason 999")

    def test_status(self) -> None:
        """What an operator sees."""
        supervisor = self.supervisor()
        supervisor.startService()
        self.reactor.advance(3)
        self.reactor.children[0].end(1)
        status = supervisor.status()
        self.assertEqual((status.state, status.pid, status.since), ("backing off", None, 3.0))
        self.assertEqual(
            (status.restarts, status.complaint, status.complained), (1, "ended with status 1", 3.0)
        )
        self.reactor.advance(1)
        status = supervisor.status()
        self.assertEqual((status.name, status.state, status.pid), ("program", "running", 101))

    def test_stop(self) -> None:
        """A stop ends when the program has."""
        self.reactor.obeys = ()
        supervisor = self.supervisor()
        supervisor.startService()
        stops = [supervisor.stopService(), supervisor.stopService()]
        self.assertEqual(supervisor.state, "stopping")
        for stop in stops:
            self.assertNoResult(stop)
        self.reactor.children[0].end()
        for stop in stops:
            self.successResultOf(stop)
        self.assertEqual((supervisor.state, supervisor.child), ("stopped", None))
        self.reactor.advance(1000)
        self.assertEqual(len(self.reactor.processes), 1)
        self.successResultOf(supervisor.stopService())

    def test_stop_no_longer_waited_for(self) -> None:
        """Who does not wait any longer has the program killed; others may wait for that."""
        self.reactor.obeys = ()
        supervisor = self.supervisor()
        supervisor.startService()
        impatient, patient = supervisor.stopService(), supervisor.stopService()
        impatient.cancel()
        self.failureResultOf(impatient, CancelledError)
        self.assertEqual(self.reactor.processes[0].signals, ["TERM", "KILL"])
        self.assertNoResult(patient)
        self.reactor.processes[0].end(signal=9)
        self.successResultOf(patient)
        self.assertEqual((supervisor.state, self.reactor.getDelayedCalls()), ("stopped", []))

    def test_stop_waiting(self) -> None:
        """Nothing follows a stop while it waited to start again."""
        supervisor = self.supervisor()
        supervisor.startService()
        self.reactor.children[0].end(1)
        self.successResultOf(supervisor.stopService())
        self.assertEqual((supervisor.state, self.reactor.getDelayedCalls()), ("stopped", []))

    def test_start_while_stopping(self) -> None:
        """A start during a stop is carried out after it."""
        self.reactor.obeys = ()
        supervisor = self.supervisor()
        supervisor.startService()
        stop = supervisor.stopService()
        supervisor.startService()
        self.assertEqual(len(self.reactor.processes), 1)
        self.reactor.children[0].end()
        self.successResultOf(stop)
        self.assertEqual((supervisor.state, len(self.reactor.children)), ("running", 1))

    def test_before(self) -> None:
        """What is to happen before every start does; a stop meanwhile is heeded."""
        gates: list[Deferred[None]] = []

        async def before() -> None:
            gates.append(Deferred())
            await gates[-1]

        supervisor = self.supervisor(before=before)
        supervisor.startService()
        self.assertEqual((supervisor.state, self.reactor.processes), ("preparing", []))
        gates[0].callback(None)
        self.assertEqual(supervisor.state, "running")
        self.end_and_wait(supervisor)
        stop = supervisor.stopService()
        self.assertNoResult(stop)
        gates[1].callback(None)
        self.successResultOf(stop)
        self.assertEqual(len(self.reactor.processes), 1)

    def test_before_fails(self) -> None:
        """An error there, or of the start itself, is a failure like any other."""
        problems: list[Exception] = [CommandFailed(command="ip", status=1, output="no"), ValueError("x")]

        async def before() -> None:
            if problems:
                raise problems.pop(0)

        supervisor = self.supervisor(before=before)
        self.reactor.fails = OSError("no processes left")
        supervisor.startService()
        for _ in range(2):
            self.assertEqual(supervisor.state, "backing off")
            self.reactor.advance(1)
        self.reactor.fails = None
        self.reactor.advance(1)
        self.assertEqual(supervisor.state, "running")
        self.assertEqual(
            [end.output for end in self.ends],
            [("ip ended with status 1: no",), ("x",), ("no processes left",)],
        )
        self.assertEqual(str(self.ends[0]), "could not be started")

    def test_hook_fails(self) -> None:
        """A hook that fails does not end the supervision."""
        supervisor = self.supervisor(on_start=lambda child: 1 / 0)
        supervisor.startService()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.end_and_wait(supervisor)
        self.assertEqual(supervisor.state, "running")
        self.flushLoggedErrors(ZeroDivisionError)

    @given(st.lists(st.sampled_from(["start", "stop", "restart", "end", "obey", "wait"]), max_size=30))
    def test_any_sequence(self, events: list[str]) -> None:
        """Whatever happens in whatever order, there is never more than one child, and in the end as many as
        there should be."""
        self.reactor = FakeReactor()
        self.reactor.obeys = ("KILL",)
        supervisor = self.supervisor()
        stops: list[Deferred[None]] = []

        def end(only_if_told: bool) -> None:
            for process in self.reactor.children:
                if process.signals or not only_if_told:
                    process.end(0 if process.signals else 1)

        actions: dict[str, Callable[[], object]] = {
            "start": supervisor.startService,
            "stop": lambda: stops.append(supervisor.stopService()),
            "restart": supervisor.restart,
            "end": lambda: end(only_if_told=False),
            "obey": lambda: end(only_if_told=True),
            "wait": lambda: self.reactor.advance(0.3),
        }
        for event in events:
            actions[event]()
            self.assertLessEqual(len(self.reactor.children), 1)
        self.reactor.advance(4)
        self.reactor.advance(LONGEST_DELAY)
        self.assertEqual(len(self.reactor.children), int(supervisor.running))
        self.assertEqual(supervisor.state, "running" if supervisor.running else "stopped")
        for stop in stops:
            self.successResultOf(stop)
        stop = supervisor.stopService()
        self.reactor.advance(4)
        self.successResultOf(stop)
        self.assertEqual((supervisor.state, self.reactor.children), ("stopped", []))
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class StubbornTests(TestCase):
    """Real programs that do not end when they are told to, and whose end is not waited for."""

    timeout = 20

    async def check(self, program: str) -> None:
        """They have gone as soon as nobody waits for it any more."""
        command = ["sh", "-c", f"{program}; exec sleep 60"]
        gone: Deferred[Exit] = Deferred()
        supervisor = Supervisor(reactor, Random(), "stubborn", lambda: command, on_end=gone.callback)
        supervisor.startService()
        child = Child(reactor, command)
        child.start()
        await deferLater(reactor, 0.2)
        stops = (supervisor.stopService(), gone), (Deferred.fromCoroutine(child.stop()), child.ended)
        for stop, ended in stops:
            await bounded(reactor, Logger(), 0.2, "it", stop)
            end = await ended
            self.assertEqual(end.signal, 9)
            self.assertLess(end.ran, 2.0)

    async def test_deaf(self) -> None:
        """They ignore SIGTERM."""
        await self.check("trap '' TERM")

    async def test_hung(self) -> None:
        """They were stopped."""
        await self.check("kill -STOP $$")
