"""The tunnels' service, with fake openvpn clients and a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fakes import NETWORK, FakeClient, FakeLeaving, clock, config, endpoint, node
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.tunnels import HASTE
from vifibnet.node.drain import LOOK, PATIENCE, UNDERWAY
from vifibnet.node.tries import ISOLATED_RETRY, STALE
from vifibnet.node.tunnels import Tunnels
from vifibnet.node.view import Surroundings
from vifibnet.store.peers import PeerStore

OWN = node(5)
HELLO = 1.0
REFRESH = 100.0


class TunnelsTests(SynchronousTestCase):
    """What is opened, what is dropped and what is learned from that."""

    def setUp(self) -> None:
        """A node that knows nobody yet, with room for two tunnels."""
        self.clock = clock()
        self.store = PeerStore.create(Path(self.mktemp()), NETWORK)
        self.addCleanup(self.store.close)
        self.clients: list[FakeClient] = []
        self.around = Surroundings()
        self.leaving = FakeLeaving()
        self.silences: dict[str, float] = {}
        self.isolated = 0
        self.failed: list[Prefix] = []
        self.broken = False
        self.tunnels = self.make(connection_count=2, refresh_rate=0.5)

    def make(self, **options: object) -> Tunnels:
        """The service under test."""
        return Tunnels(
            self.clock,
            Random(1),
            config(Path(), hello=HELLO, tunnel_refresh=REFRESH, **options),
            OWN,
            self.store,
            self.connect,
            lambda: self.around,
            self.leaving,
            self.alone,
            self.failed.append,
            lambda tap, peer, since: self.silences.get(tap),
        )

    def connect(
        self, tap: str, peer: Prefix, endpoints: Sequence[Endpoint], on_change: Callable[[], None]
    ) -> FakeClient:
        """Make a client and keep it for the test."""
        client = FakeClient(tap, peer, endpoints, on_change, self.clock.seconds())
        client.broken = self.broken
        self.clients.append(client)
        return client

    def alone(self) -> None:
        """Count it."""
        self.isolated += 1

    def know(self, *numbers: int) -> None:
        """Learn of some peers."""
        self.store.update([(node(n), (endpoint(n),)) for n in numbers], self.clock.seconds())

    def start(self) -> None:
        """Start; stop at the end."""
        self.tunnels.startService()
        self.addCleanup(self.tunnels.stopService)

    def running(self) -> list[FakeClient]:
        """The clients whose process is there."""
        return [client for client in self.clients if not client.ended.called]

    def pass_time(self, seconds: float, step: float = 0.25) -> None:
        """Let it pass in steps."""
        self.clock.pump([step] * int(seconds / step))

    def test_opens_at_once(self) -> None:
        """Peers that are known at the start are connected to without waiting, up to the count."""
        self.know(1, 2, 3)
        self.start()
        self.assertEqual([client.tap for client in self.running()], ["vifc0", "vifc1"])
        for client in self.running():
            self.assertTrue(client.started)
            self.assertNotEqual(client.peer, OWN)
            self.assertEqual(client.endpoints, (endpoint(client.peer.value),))
        self.assertEqual(len({client.peer for client in self.running()}), 2)

    def test_failed(self) -> None:
        """Whoever does not answer at any endpoint is told about, each time; who was dropped is not."""
        self.know(1, 2)
        self.start()
        first, second = self.running()
        first.end("not reached")
        self.assertEqual(self.failed, [first.peer])
        second.come_up(self.clock.seconds())
        self.tunnels.cut(frozenset([second.peer]))
        self.assertEqual(self.failed, [first.peer])

    def test_nothing_learned(self) -> None:
        """Whatever is wrong with what is learned from an end, the tap is free and a dead tunnel ends."""

        def failed(peer: Prefix, next_try: float) -> None:
            raise OSError

        self.patch(self.store, "failed", failed)
        self.know(1, 2, 3)
        self.start()
        first, second = self.running()
        again = self.tunnels.holders()
        first.end("not reached")
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertEqual(len(self.tunnels.status()), 1)
        self.successResultOf(again[0]())
        self.pass_time(0.25)
        third = self.running()[-1]
        self.assertEqual((len(self.running()), third.tap), (2, first.tap))
        for client in (second, third):
            client.come_up(self.clock.seconds())
        self.pass_time(4.5)
        self.silences[second.tap] = self.clock.seconds()
        self.tunnels.repair()
        self.pass_time(0.75)
        self.running()[-1].come_up(self.clock.seconds())
        self.pass_time(1.5)
        self.assertTrue(second.ended.called)
        self.assertGreater(len(self.flushLoggedErrors(OSError)), 0)

    def test_too_late(self) -> None:
        """A tunnel that comes up when it was told to end is none: nothing shall go over it, because it is not
        emptied before it ends."""
        self.know(1, 2)
        self.start()
        late, other = self.running()
        late.slow = True
        self.tunnels.cut(frozenset([late.peer]))
        late.come_up(self.clock.seconds())
        other.come_up(self.clock.seconds())
        self.assertEqual(self.tunnels.by_tap, {other.tap: other.peer})
        self.tunnels.cut(frozenset([other.peer]))

    def test_peers_that_come_later(self) -> None:
        """With nobody known there is nothing to do but to say so; a decision after news opens tunnels."""
        self.start()
        self.assertEqual(self.clients, [])
        self.assertEqual(self.isolated, 1)
        self.know(1)
        self.tunnels.peers_changed()
        self.assertEqual([client.peer for client in self.running()], [node(1)])

    def test_one_up(self) -> None:
        """A tunnel that is up is a success of its peer and ends the isolation."""
        self.know(1)
        self.start()
        self.clients[0].come_up(self.clock.seconds())
        known = self.store.get(node(1))
        assert known is not None
        self.assertEqual((known.failures, known.last_success), (0, self.clock.seconds()))
        self.assertEqual(self.tunnels.peers, {node(1)})
        before = self.isolated
        self.tunnels.decide()
        self.assertEqual(self.isolated, before)
        [status] = self.tunnels.status()
        self.assertEqual(
            (status.tap, status.peer, status.up, status.remote), ("vifc0", "1/16", True, "192.0.2.1,1194,udp")
        )

    def test_ended_tunnel_is_replaced_soon(self) -> None:
        """By another peer, on the same tap, within a fraction of a second."""
        self.know(1, 2, 3)
        self.start()
        first, second = self.running()
        for client in (first, second):
            client.come_up(self.clock.seconds())
        first.end("ping-exit")
        self.pass_time(0.5)
        self.assertEqual(len(self.running()), 2)
        third = self.clients[-1]
        self.assertEqual(third.tap, first.tap)
        self.assertEqual({first.peer, second.peer, third.peer}, {node(1), node(2), node(3)})

    def test_a_failing_peer_is_tried_ever_more_rarely(self) -> None:
        """With backoff, and while we reach nobody never too rarely."""
        self.know(1)
        self.start()
        tries = []
        for _ in range(4000):
            if self.running():
                tries.append(self.clock.seconds())
                self.running()[0].end("no answer")
            self.clock.advance(0.1)
        waits = [b - a for a, b in zip(tries, tries[1:], strict=False)]
        self.assertLess(waits[0], 2.0)
        self.assertGreater(len(waits), 10)
        self.assertGreater(max(waits), 10.0)
        self.assertLess(max(waits), ISOLATED_RETRY * 1.5 + 1)

    def test_a_failing_peer_is_left_alone_for_long_while_others_work(self) -> None:
        """Only isolation shortens the waits."""
        self.know(1, 2)
        self.start()
        for client in self.running():
            if client.peer == node(2):
                client.come_up(self.clock.seconds())
        for _ in range(12):
            for client in self.running():
                if client.peer == node(1):
                    client.end("no answer")
            known = self.store.get(node(1))
            assert known is not None
            self.clock.advance(max(0.0, known.next_try - self.clock.seconds()))
            self.clock.advance(0.3)
        known = self.store.get(node(1))
        assert known is not None
        self.assertGreater(known.failures, 8)

    def test_a_tunnel_that_comes_and_goes_is_backed_off_too(self) -> None:
        """Coming up does not start the waits anew unless the tunnel stands for a while."""
        self.know(1)
        self.start()
        waits = []
        for stands in [0.1] * 4 + [HELLO * 10]:
            [client] = self.running()
            client.come_up(self.clock.seconds())
            self.clock.advance(stands)
            client.end("ping-exit")
            known = self.store.get(node(1))
            assert known is not None
            waits.append(known.next_try - self.clock.seconds())
            self.clock.advance(waits[-1])
            self.clock.advance(0.3)
        self.assertGreater(waits[3], 3.0)
        self.assertLess(waits[4], 2.0)

    def test_waits_of_an_earlier_run_are_void(self) -> None:
        """Who starts a node again wants it to try."""
        self.know(1)
        self.store.failed(node(1), self.clock.seconds() + 500)
        self.start()
        self.assertEqual([client.peer for client in self.running()], [node(1)])

    def test_new_endpoints_end_the_wait(self) -> None:
        """A peer that has moved is tried at its new place at once."""
        self.know(1)
        self.start()
        for _ in range(8):
            for client in self.running():
                client.end("no answer")
            self.clock.advance(30)
            self.clock.advance(0.3)
        for client in self.running():
            client.end("no answer")
        self.clock.advance(0.3)
        self.assertEqual(self.running(), [])
        self.store.update([(node(1), (endpoint(99),))], self.clock.seconds())
        self.tunnels.peers_changed()
        self.assertEqual(self.running()[0].endpoints, (endpoint(99),))

    def test_those_not_named_for_long_come_last(self) -> None:
        """A peer that the registry has forgotten is tried when the others are."""
        self.know(*range(10, 40))
        self.clock.advance(STALE + 1)
        self.know(1, 2)
        self.start()
        self.assertEqual({client.peer for client in self.running()}, {node(1), node(2)})

    def test_a_full_peer_is_no_failure(self) -> None:
        """Others are tried first, and it again after a while; nothing is held against it."""
        self.tunnels = self.make(connection_count=1)
        self.know(1, 2)
        self.start()
        [first] = self.running()
        first.full = True
        first.end("full")
        self.pass_time(0.5)
        [second] = self.running()
        self.assertNotEqual(first.peer, second.peer)
        second.full = True
        second.end("full")
        self.pass_time(5)
        self.assertTrue(self.running())
        known = self.store.get(first.peer)
        assert known is not None
        self.assertEqual(known.failures, 0)

    def test_fast_refreshes_when_most_is_lost(self) -> None:
        """The next one comes soon then, not when it was due."""
        self.know(1, 2)
        self.start()
        first, second = self.running()
        for client in (first, second):
            client.come_up(self.clock.seconds())
        self.pass_time(4 * REFRESH, 1.0)
        refresh = self.tunnels._next_refresh
        assert refresh is not None
        due = refresh.getTime()
        first.end("ping-exit")
        self.assertEqual(refresh.getTime(), due)
        second.end("ping-exit")
        self.assertLess(refresh.getTime() - self.clock.seconds(), REFRESH / HASTE * 1.3)

    def test_openvpn_cannot_be_started(self) -> None:
        """That is a failure like others, and the loop goes on."""
        self.know(1)
        self.broken = True
        self.start()
        self.assertFalse(self.clients[0].started)
        self.broken = False
        self.pass_time(3)
        self.assertTrue(self.clients[-1].started)

    def test_duplicate(self) -> None:
        """Of two tunnels with one peer the node with the greater prefix drops its client; no failure."""
        self.know(1, 9)
        self.start()
        for client in self.running():
            client.come_up(self.clock.seconds())
        self.around = Surroundings(served=frozenset([node(1), node(9)]))
        self.leaving.emptied = True
        self.tunnels.repair()
        self.pass_time(7)
        self.assertEqual([client.peer for client in self.running()], [node(9)])
        known = self.store.get(node(1))
        assert known is not None
        self.assertEqual(known.failures, 0)

    def test_lan(self) -> None:
        """A peer that appears on the LAN loses its tunnel and gets it back when it disappears there."""
        self.know(1)
        self.start()
        self.clients[0].come_up(self.clock.seconds())
        self.around = Surroundings(lan=frozenset([node(1)]))
        self.leaving.emptied = True
        self.tunnels.repair()
        self.pass_time(7)
        self.assertEqual(self.running(), [])
        self.around = Surroundings()
        self.tunnels.repair()
        self.pass_time(0.5)
        self.assertEqual([client.peer for client in self.running()], [node(1)])

    def test_refresh_replaces_the_worst(self) -> None:
        """And who was dropped for that rests until the next refresh."""
        self.know(1, 2)
        self.start()
        for client in self.running():
            client.come_up(self.clock.seconds())
        worst, best = self.running()
        self.around = Surroundings(routes={best.tap: 3})
        self.pass_time(4 * REFRESH, 1.0)
        self.assertFalse(worst.ended.called)
        self.know(3)
        self.leaving.emptied = True
        self.tunnels.peers_changed()
        for _ in range(int(REFRESH * 1.25 + 8)):
            self.pass_time(1)
            for client in self.running():
                if not client.up:
                    client.come_up(self.clock.seconds())
        self.assertTrue(worst.ended.called)
        peers = {client.peer for client in self.running()}
        self.assertEqual(len(peers), 2)
        self.assertNotIn(worst.peer, peers)
        known = self.store.get(worst.peer)
        assert known is not None
        self.assertEqual(known.failures, 0)

    def test_silent(self) -> None:
        """Another tunnel is opened soon, beside it; then it is given up, which counts as a failure."""
        self.know(1, 2, 3)
        self.start()
        first, second = self.running()
        for client in (first, second):
            client.come_up(self.clock.seconds())
        self.pass_time(4.5)
        self.silences[first.tap] = self.clock.seconds()
        self.tunnels.repair()
        self.pass_time(0.75)
        self.assertFalse(first.ended.called)
        [third] = [client for client in self.running() if client not in (first, second)]
        third.come_up(self.clock.seconds())
        self.pass_time(1.5)
        self.assertEqual(self.running(), [second, third])
        known = self.store.get(first.peer)
        assert known is not None
        self.assertEqual(known.failures, 1)

    def test_silent_by_mistake(self) -> None:
        """It is heard again: no more are kept than are wanted."""
        self.know(1, 2, 3)
        self.start()
        for client in self.running():
            client.come_up(self.clock.seconds())
        first, _ = self.running()
        self.pass_time(4.5)
        self.silences[first.tap] = self.clock.seconds()
        self.tunnels.repair()
        self.pass_time(0.75)
        self.running()[-1].come_up(self.clock.seconds())
        self.silences.clear()
        self.tunnels.repair()
        self.leaving.emptied = True
        self.pass_time(5)
        self.assertEqual(len(self.running()), 2)

    def test_does_not_come_up(self) -> None:
        """Others are tried meanwhile, as far as there are taps; a node does not wait for one time-out after
        the other."""
        self.know(1, 2, 3, 4, 6, 7)
        self.start()
        self.pass_time(0.5)
        self.assertEqual(len(self.running()), 2)
        self.pass_time(0.5)
        self.assertEqual(len(self.running()), 4)
        self.assertEqual(len({client.tap for client in self.running()}), 4)

    def test_woken(self) -> None:
        """Others are connected to at once, also those that failed; whoever does not answer soon is given up,
        which is no failure."""
        self.know(1, 2, 3)
        self.start()
        first, second = self.running()
        for client in (first, second):
            client.come_up(self.clock.seconds())
        self.pass_time(4.5)
        self.silences = dict.fromkeys([first.tap, second.tap], self.clock.seconds())
        self.tunnels.woken()
        third = self.running()[-1]
        self.assertNotIn(third.peer, (first.peer, second.peer))
        self.pass_time(0.25)
        self.assertFalse(first.ended.called)
        del self.silences[second.tap]
        self.pass_time(0.5)
        self.assertEqual((first.ended.called, second.ended.called), (True, False))
        known = self.store.get(first.peer)
        assert known is not None
        self.assertEqual(known.failures, 0)

    def drop_one(self) -> FakeClient:
        """Have a tunnel that is up dropped, in favour of the LAN."""
        self.know(1)
        self.start()
        [client] = self.running()
        client.come_up(self.clock.seconds())
        self.around = Surroundings(lan=frozenset([node(1)]))
        self.tunnels.decide()
        return client

    def test_emptied_before_it_ends(self) -> None:
        """The tap is left until both ends have moved their routes; then it is as it was."""
        client = self.drop_one()
        self.assertEqual(self.leaving.left, {"vifc0"})
        self.pass_time(2, LOOK)
        self.assertFalse(client.ended.called)
        self.assertEqual(self.tunnels.status()[0].up, True)
        self.leaving.emptied = True
        self.pass_time(4 * LOOK + UNDERWAY, LOOK)
        self.assertTrue(client.ended.called)
        self.assertEqual(self.leaving.left, set())
        self.assertEqual(self.tunnels.status(), ())

    def test_cannot_be_emptied(self) -> None:
        """Then it stays after a while, and that is tried again, though not soon."""
        client = self.drop_one()
        self.pass_time(PATIENCE - 1)
        self.assertEqual(self.leaving.left, {"vifc0"})
        self.pass_time(2)
        self.assertEqual(self.leaving.left, set())
        [status] = self.tunnels.status()
        self.assertEqual(status.reason, "its other end goes no other way")
        self.leaving.emptied = True
        self.pass_time(REFRESH - 3)
        self.assertFalse(client.ended.called)
        self.pass_time(3 + 8)
        self.assertTrue(client.ended.called)

    def test_only_way(self) -> None:
        """What is found to be the only way to somewhere while it is emptied stays; another gets its turn. Its
        peer is connected to at once when the tunnel ends by itself."""
        self.know(1, 2, 3)
        self.start()
        only, other = self.running()
        for client in (only, other):
            client.come_up(self.clock.seconds())
        # What is announced looks as if there was another way.
        both = frozenset([frozenset([only.tap, other.tap])])
        self.around = Surroundings(routes={only.tap: 2, other.tap: 3}, destinations=lambda: both)
        self.pass_time(4 * HELLO)
        self.assertEqual(self.refresh(), {only.tap})
        self.assertFalse(only.ended.called)
        [reason] = [each.reason for each in self.tunnels.status() if each.tap == only.tap]
        self.assertEqual(reason, "the only way to 2 subnets")
        self.around = replace(self.around, routes={only.tap: 2})
        self.assertEqual(self.refresh(), {other.tap})
        self.assertTrue(other.ended.called)
        only.end("ping-exit")
        self.pass_time(3)
        self.assertIn(only.peer, {client.peer for client in self.running()})

    def test_only_way_opened_anew(self) -> None:
        """What has to end, because it is replaced, ends also where it was only tried whether it may."""
        client = self.drop_one()
        [end] = self.tunnels.holders()
        gone = end()
        self.around = Surroundings(lan=frozenset([node(1)]), routes={client.tap: 1})
        self.leaving.emptied = True
        self.pass_time(1, LOOK)
        self.successResultOf(gone)
        self.assertTrue(client.ended.called)

    def refresh(self) -> set[str | None]:
        """Refresh now, and let both ends move what they can; which tap was left for that."""
        self.leaving.emptied = False
        self.tunnels.decide(refresh=True)
        left = set(self.leaving.left)
        reasons = {each.reason for each in self.tunnels.status() if each.tap in left}
        self.assertTrue(all(reason.startswith("being dropped: the worst: ") for reason in reasons), reasons)
        self.leaving.emptied = True
        self.pass_time(4 * LOOK + UNDERWAY, LOOK)
        self.assertEqual(self.leaving.left, set())
        return left

    def test_ends_while_it_is_emptied(self) -> None:
        """Then there is nothing to wait for, and that is no failure of the peer."""
        self.drop_one().end("ping-exit")
        self.assertEqual(self.leaving.left, set())
        self.pass_time(10)
        known = self.store.get(node(1))
        assert known is not None
        self.assertEqual((known.failures, self.tunnels.status()), (0, ()))

    def test_stop_while_it_is_emptied(self) -> None:
        """A stop waits for nobody's routes."""
        client = self.drop_one()
        self.successResultOf(self.tunnels.stopService())
        self.assertTrue(client.ended.called)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_died_counts_for_the_refresh(self) -> None:
        """When a tunnel ended by itself since the last refresh, no other is dropped for the ratio."""
        self.know(1, 2, 3)
        self.start()
        for client in self.running():
            client.come_up(self.clock.seconds())
        self.running()[0].end("ping-exit")
        self.pass_time(1)
        for client in self.running():
            if not client.up:
                client.come_up(self.clock.seconds())
        before = self.running()
        self.pass_time(REFRESH / HASTE * 1.25)
        self.assertEqual(self.running(), before)

    def test_a_bad_turn_is_survived(self) -> None:
        """An error is logged, and the next refresh comes."""
        self.know(1)
        self.start()
        self.around = None  # type: ignore[assignment]
        self.pass_time(REFRESH + 1, 1.0)
        self.assertTrue(self.flushLoggedErrors(AttributeError))
        self.around = Surroundings()
        self.know(2)
        self.tunnels.peers_changed()
        self.pass_time(REFRESH, 1.0)
        self.assertEqual({client.peer for client in self.running()}, {node(1), node(2)})

    def test_stop(self) -> None:
        """All tunnels end, nothing is opened any more, no call stays scheduled."""
        self.know(1, 2, 3)
        self.start()
        self.successResultOf(self.tunnels.stopService())
        self.assertEqual(self.running(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.pass_time(REFRESH * 2, 1.0)
        self.assertEqual(len(self.clients), 2)

    def test_cancelled_stop(self) -> None:
        """Who waits no longer makes each client do so, too; that is no error."""
        cancelled: list[str] = []

        async def hang(*, farewell: bool = True) -> None:
            await Deferred(lambda _: cancelled.append("client"))

        self.know(1, 2)
        self.start()
        for client in self.running():
            client.stop = hang  # type: ignore[method-assign]
        stop = self.tunnels.stopService()
        self.assertNoResult(stop)
        stop.cancel()
        self.successResultOf(stop)
        self.assertEqual(cancelled, ["client"] * 2)

    def test_change(self) -> None:
        """Fewer are wanted: the surplus is emptied and ends. More: the new taps are used."""
        self.know(1, 2, 3, 4)
        self.start()
        for client in self.running():
            client.come_up(self.clock.seconds())
        few = config(Path(), hello=HELLO, tunnel_refresh=REFRESH, connection_count=1)
        self.tunnels.change(few, ("vifc0", "vifc1"))
        self.pass_time(0.5)
        self.assertEqual((len(self.running()), len(self.leaving.left)), (2, 1))
        self.leaving.emptied = True
        self.pass_time(1, 0.1)
        self.assertEqual((len(self.running()), self.leaving.left), (1, set()))
        self.tunnels.change(replace(few, connection_count=3), ("vifc0", "vifc1", "vifc2"))
        self.pass_time(0.5)
        self.assertEqual({client.tap for client in self.running()}, {"vifc0", "vifc1", "vifc2"})

    def test_change_of_the_refresh(self) -> None:
        """The next one comes within the new interval, and then one at each."""
        self.know(1, 2)
        self.start()
        for client in self.running():
            client.come_up(self.clock.seconds())
        self.leaving.emptied = True
        self.pass_time(4 * REFRESH, 1.0)
        self.know(*range(3, 10))
        self.tunnels.peers_changed()
        fast = config(Path(), hello=HELLO, connection_count=2, refresh_rate=0.5, tunnel_refresh=20.0)
        self.tunnels.change(fast, ("vifc0", "vifc1"))
        self.pass_time(20 * 1.25 + 2)
        self.assertEqual(len(self.clients), 3)
        self.clients[-1].come_up(self.clock.seconds())
        self.pass_time(20 * 1.25 + 2)
        self.assertEqual(len(self.clients), 4)
