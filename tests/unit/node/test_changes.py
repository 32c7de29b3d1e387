"""Following the parameters: who is told what, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fakes import config
from vifibnet.errors import CommandFailed
from vifibnet.node.changes import LONGEST_STEP, Changes
from vifibnet.node.config import NodeConfig, follow
from vifibnet.node.taps import Taps

KEY = bytes(range(16))
BASE = config(Path(), hello=1.0, connection_count=2, roll=60.0)


class FakeKernel:
    """Notes what becomes of the taps."""

    def __init__(self, diary: list[str]) -> None:
        self.diary = diary
        self.broken = False

    def _note(self, words: Sequence[object]) -> None:
        if self.broken:
            raise CommandFailed(command="ip", status=1, output="no")
        self.diary.append(" ".join(map(str, words)))

    async def clean(self) -> None:
        """Nothing to do."""

    async def add_taps(self, names: Sequence[str], mtu: int) -> None:
        """Note it."""
        self._note(["add", *names, mtu])

    async def set_mtu(self, names: Sequence[str], mtu: int) -> None:
        """Note it."""
        self._note(["mtu", *names, mtu])


class ChangesTests(SynchronousTestCase):
    """A node with two clients and one server, begun."""

    def setUp(self) -> None:
        """Nothing has been changed yet."""
        self.clock = Clock()
        self.diary: list[str] = []
        self.others: list[tuple[NodeConfig, tuple[str, ...]]] = []
        self.babeld: Deferred[None] = succeed(None)
        self.kernel = FakeKernel(self.diary)
        self.taps = Taps(self.kernel, 1)  # type: ignore[arg-type]
        self.changes = Changes(
            self.clock, Random(1), BASE, self.taps, self.tell_babeld, self.tell_others, self.replace
        )
        self.successResultOf(Deferred.fromCoroutine(self.taps.make(2, BASE.mtu)))
        self.diary.clear()

    def begin(self) -> None:
        """Everything starts."""
        self.successResultOf(Deferred.fromCoroutine(self.changes.begin()))
        self.others.clear()

    def tell_babeld(self, told: NodeConfig, taps: Sequence[str]) -> Deferred[None]:
        """Note what babeld is told."""
        key = "" if told.babel_key is None else f" key {told.babel_key[0]}"
        self.diary.append(f"babeld {told.hello:g} {' '.join(taps)}{key}")
        return self.babeld

    def tell_others(self, told: NodeConfig, taps: Sequence[str]) -> None:
        """Keep what they are told."""
        self.others.append((told, tuple(taps)))

    def replace(self, first: float, last: float) -> None:
        """Note it."""
        self.diary.append(f"replace {first:g} {last:g}")

    def follow(self, **values: float | int | bytes) -> None:
        """The network sets these and nothing else."""
        self.changes.follow(follow(BASE, {name.replace("_", "-"): value for name, value in values.items()}))

    def test_nothing(self) -> None:
        """The same once more: nobody does anything."""
        self.begin()
        self.changes.follow(BASE)
        self.clock.advance(100)
        self.assertEqual((self.diary, self.clock.getDelayedCalls()), ([], []))

    def test_before_the_start(self) -> None:
        """What comes before everything starts needs no restart and no roll."""
        self.follow(hello=0.5, mtu=1300, connection_count=3, babel_key=KEY, max_clients=3)
        self.assertEqual(self.diary, [])
        self.begin()
        self.assertEqual(
            self.diary,
            [
                "babeld 1 vifc0 vifc1 vifc2 vifs0 key 0",
                "mtu vifc0 vifc1 vifs0 1300",
                "add vifc2 1300",
                "babeld 0.5 vifc0 vifc1 vifc2 vifs0 key 0",
            ],
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_key(self) -> None:
        """At once, and nothing else."""
        self.begin()
        self.follow(babel_key=KEY)
        self.assertEqual(self.diary, ["babeld 1 vifc0 vifc1 vifs0 key 0"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_hello(self) -> None:
        """babeld at a moment of the roll; until it is over who waits some hellos goes by the slower, and no
        tunnel is refreshed."""
        self.begin()
        self.follow(hello=0.5, roll=10.0)
        self.assertEqual((self.diary, self.others[-1][0].hello), ([], 1.0))
        self.assertEqual(self.others[-1][0].refresh_rate, 0.0)
        moments = [call.getTime() for call in self.clock.getDelayedCalls()]
        self.clock.advance(min(moments))
        self.assertEqual(self.diary, ["babeld 0.5 vifc0 vifc1 vifs0"])
        self.assertEqual(self.others[-1][0].hello, 1.0)
        self.clock.advance(10 - min(moments))
        self.assertEqual(self.others[-1][0].hello, 0.5)
        self.assertEqual(self.others[-1][0].refresh_rate, BASE.refresh_rate)
        self.assertEqual((self.clock.getDelayedCalls(), len(self.diary)), ([], 1))

    def test_slower_hello(self) -> None:
        """Who waits some hellos goes by the slower at once."""
        self.begin()
        self.follow(hello=3.0)
        self.assertEqual((self.diary, self.others[-1][0].hello), ([], 3.0))

    def test_key_and_hello(self) -> None:
        """The key at once with the old hello interval; the new one keeps the new key."""
        self.begin()
        self.follow(hello=0.5, babel_key=KEY)
        self.assertEqual(self.diary, ["babeld 1 vifc0 vifc1 vifs0 key 0"])
        self.clock.advance(60)
        self.assertEqual(self.diary[1:], ["babeld 0.5 vifc0 vifc1 vifs0 key 0"])

    def test_changed_again_during_the_roll(self) -> None:
        """Only the last counts; what is taken back needs nothing; another parameter does not disturb."""
        self.begin()
        self.follow(hello=0.5)
        self.follow(hello=0.7)
        self.follow(hello=0.7, refresh_rate=0.5)
        self.assertEqual(self.others[-1][0].hello, 1.0)
        self.clock.advance(60)
        self.assertEqual(self.diary, ["babeld 0.7 vifc0 vifc1 vifs0"])
        self.diary.clear()
        self.follow(hello=0.5)
        self.follow(hello=0.7)
        self.clock.advance(60)
        self.assertEqual((self.diary, self.others[-1][0].hello), ([], 0.7))

    def test_more_tunnels(self) -> None:
        """babeld is told the taps, they are made, then used; they stay when fewer are wanted."""
        self.begin()
        self.follow(connection_count=4)
        self.assertEqual(self.diary, ["babeld 1 vifc0 vifc1 vifc2 vifc3 vifs0", "add vifc2 vifc3 1400"])
        self.assertEqual(self.others[-1][1], ("vifc0", "vifc1", "vifc2", "vifc3"))
        self.diary.clear()
        self.follow(connection_count=1)
        self.assertEqual((self.diary, self.others[-1][0].connection_count), ([], 1))
        self.follow(connection_count=1, babel_key=KEY)
        self.assertEqual(self.diary, ["babeld 1 vifc0 vifc1 vifc2 vifc3 vifs0 key 0"])

    def test_mtu(self) -> None:
        """A smaller one is set at once, a greater one with each process; all processes are replaced."""
        self.begin()
        self.follow(mtu=1300)
        self.assertEqual(self.diary, ["mtu vifc0 vifc1 vifs0 1300", "replace 0 60"])
        self.diary.clear()
        self.follow(mtu=1350, roll=5.0)
        self.assertEqual((self.diary, self.others[-1][0].mtu), (["replace 0 5"], 1350))
        for name in ("vifc1", "vifc1", "vifc7"):
            self.successResultOf(Deferred.fromCoroutine(self.taps.fit(name, 1350)))
        self.assertEqual(self.diary[1:], ["mtu vifc1 1350"])
        self.kernel.broken = True
        self.successResultOf(Deferred.fromCoroutine(self.taps.fit("vifc0", 1350)))

    def test_max_clients(self) -> None:
        """All processes are replaced."""
        self.begin()
        self.follow(max_clients=5)
        self.assertEqual((self.diary, self.others[-1][0].max_clients), (["replace 0 60"], 5))

    def test_own_options(self) -> None:
        """The operator's own changes hold for this node alone: there is no roll to wait for."""
        self.begin()
        self.changes.follow(replace(BASE, hello=0.5, wireless=True, verbose=1), roll=0.0)
        self.assertEqual(self.diary, ["replace 8 8"])
        self.clock.advance(0)
        self.assertEqual(self.diary[1:], ["babeld 0.5 vifc0 vifc1 vifs0"])
        self.assertEqual(self.changes.patience, 0.5)
        self.changes.follow(replace(BASE, hello=0.5, interfaces=("eth0",)), roll=0.0)
        self.assertEqual(self.diary[2:], ["babeld 0.5 vifc0 vifc1 vifs0", "replace 4 4"])

    def test_live(self) -> None:
        """What applies at once restarts nothing."""
        self.begin()
        self.follow(refresh_rate=1.0, tunnel_refresh=5.0)
        told = self.others[-1][0]
        self.assertEqual((told.refresh_rate, told.tunnel_refresh, self.diary), (1.0, 5.0, []))

    def test_a_step_fails(self) -> None:
        """The others are done nevertheless, with the taps that there are."""
        self.begin()
        self.kernel.broken = True
        self.follow(connection_count=4, max_clients=5)
        self.assertEqual(self.diary, ["babeld 1 vifc0 vifc1 vifc2 vifc3 vifs0", "replace 0 60"])
        self.assertEqual(self.others[-1][1], ("vifc0", "vifc1"))

    def test_a_step_hangs(self) -> None:
        """It is given up after a while."""
        self.begin()
        self.babeld = Deferred()
        self.follow(connection_count=4)
        self.follow(connection_count=4, max_clients=5)
        self.assertEqual(self.diary[1:], [])
        self.clock.advance(LONGEST_STEP)
        self.assertEqual(self.diary[1:], ["add vifc2 vifc3 1400", "replace 0 60"])
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    def test_stop(self) -> None:
        """Nothing is planned any more, and nothing is done."""
        self.begin()
        self.follow(hello=0.5)
        self.changes.stop()
        self.follow(hello=0.7, babel_key=KEY)
        self.assertEqual((self.diary, self.clock.getDelayedCalls()), ([], []))
