"""OpenVPN processes that say what the test wants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fakes import FakeLeaving
from tests.unit.node.processes import FakeReactor
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.node.drain import LOOK, UNDERWAY
from vifibnet.node.openvpn import OpenVPNClient, OpenVPNSettings
from vifibnet.node.openvpnserver import COMPANY, OpenVPNServer
from vifibnet.node.watchdog import INTERVAL, PATIENCE
from vifibnet.wire.openvpn import REFUSED_PLACES

PEER = Prefix.parse("1/16")
ENDPOINTS = (Endpoint("10.0.0.1", 1194, "udp"), Endpoint("example.com", 443, "tcp-client"))
CONNECTED = ">STATE:1,CONNECTED,SUCCESS,,10.0.0.1,1194,,"


class Management:
    """The management connection of an openvpn, seen from openvpn."""

    def __init__(self, reactor: FakeReactor) -> None:
        factory = reactor.unixClients[-1][1]
        self.protocol: Any = factory.buildProtocol(None)
        self.transport = StringTransport()
        self.protocol.makeConnection(self.transport)

    def say(self, *lines: str) -> None:
        """Send lines."""
        self.protocol.dataReceived("".join(f"{line}\r\n" for line in lines).encode())

    def heard(self) -> list[str]:
        """The commands since the last time."""
        text: str = self.transport.value().decode()
        self.transport.clear()
        return text.splitlines()


class OpenVPNTestCase(SynchronousTestCase):
    """A reactor, settings, and a count of changes."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.changes = 0
        state = Path(self.mktemp())
        state.mkdir()
        self.settings = OpenVPNSettings(Path("ca"), Path("cert"), Path("key"), state, state, hello=1)

    def changed(self) -> None:
        self.changes += 1


class ClientTests(OpenVPNTestCase):
    """One try to reach one peer."""

    def setUp(self) -> None:
        super().setUp()
        self.client = OpenVPNClient(self.reactor, self.settings, "vifc0", PEER, ENDPOINTS, self.changed)
        self.reasons: list[str] = []
        self.client.ended.addCallback(self.reasons.append)
        self.reactor.advance(100)
        self.client.start()
        self.management = Management(self.reactor)

    def test_up(self) -> None:
        """It is released, comes up, counts, and knows whom it has reached."""
        self.assertEqual(self.management.heard(), ["state on", "bytecount 5"])
        self.management.say(">HOLD:Waiting for hold release:0")
        self.assertEqual(self.management.heard(), ["hold release"])
        self.assertEqual((self.client.up, self.client.since, self.client.remote), (False, 100.0, None))
        self.reactor.advance(1)
        self.management.say(CONNECTED, ">BYTECOUNT:20,3")
        self.assertEqual((self.client.up, self.client.since), (True, 101.0))
        self.assertEqual((self.client.remote, self.client.bytes), (ENDPOINTS[0], 23))
        self.assertEqual((self.changes, self.reasons), (1, []))
        self.reactor.advance(1000)
        self.assertEqual(self.reactor.children[0].signals, [])

    def test_remote(self) -> None:
        """The endpoint that answered may be one with a name, or have its address spelt otherwise."""
        self.management.say(">STATE:1,CONNECTED,SUCCESS,,9.9.9.9,443,,")
        self.assertEqual(self.client.remote, Endpoint("9.9.9.9", 443, "tcp-client"))

    def test_lost(self) -> None:
        """A tunnel that was lost ends; openvpn is not to reach for another one by itself."""
        for line, reason in (
            (">STATE:1,RECONNECTING,ping-restart,,,,,", "lost (ping-restart)"),
            (">STATE:1,EXITING,ping-exit,,,,,", "lost (ping-exit)"),
            (">NOTIFY:info,server-pushed-halt,", "lost (server-pushed-halt)"),
        ):
            self.setUp()
            self.management.say(CONNECTED, line)
            self.assertEqual((self.reasons, self.client.up), ([reason], False))
            self.assertEqual(self.changes, 2)

    def test_sent_away(self) -> None:
        """By a server that has no place; openvpn says so before or after it says that it is connected."""
        for before in ((), (CONNECTED,)):
            self.setUp()
            self.management.say(*before, ">NOTIFY:info,server-pushed-halt,full")
            self.assertEqual((self.reasons, self.client.full), (["the server is full"], True))

    def test_ended_by_itself(self) -> None:
        """The last detail that it told is the reason."""
        self.management.say(">STATE:1,RECONNECTING,tls-error,,,,,", ">FATAL:All connections have failed")
        self.reactor.children[0].end(1)
        self.assertEqual(self.reasons, ["not reached (tls-error)"])

    def test_refused(self) -> None:
        """Without any, it is what openvpn complains about."""
        self.settings.log_file("vifc0").write_text("Options error: no\nUse --help for more information.\n")
        self.reactor.children[0].end(1)
        self.assertEqual(self.reasons, ["openvpn ended with status 1: Options error: no"])
        self.assertEqual(self.changes, 0)

    def test_fatal(self) -> None:
        """What it called fatal on its way."""
        self.management.say(">FATAL:out of everything")
        self.reactor.children[0].end(1)
        self.assertEqual(self.reasons, ["openvpn ended with status 1: out of everything"])

    def test_killed(self) -> None:
        """A signal of somebody else's."""
        self.management.say(CONNECTED)
        self.reactor.children[0].end(signal=9)
        self.assertEqual((self.reasons, self.changes), (["openvpn ended by SIGKILL"], 2))

    def test_patience(self) -> None:
        """One that neither comes up nor ends is ended."""
        self.reactor.advance(12.9)
        self.assertEqual(self.reasons, [])
        self.reactor.advance(0.2)
        self.assertEqual(self.reasons, ["no tunnel after 13 s"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """A stop returns when all is over, whoever asks; the socket is closed."""
        self.reactor.children[0].obeys = ()
        stops = [self.defer_stop() for _ in range(2)]
        for stop in stops:
            self.assertNoResult(stop)
        self.reactor.children[0].end()
        for stop in stops:
            self.successResultOf(stop)
        self.assertEqual(self.reasons, ["stopped"])
        self.assertTrue(self.management.transport.disconnecting)
        self.successResultOf(self.defer_stop())

    def defer_stop(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.client.stop())

    def test_not_started(self) -> None:
        """That it could not be started is a reason, too."""
        self.reactor.fails = OSError("no processes left")
        client = OpenVPNClient(self.reactor, self.settings, "vifc1", PEER, ENDPOINTS, self.changed)
        client.start()
        self.assertEqual(
            self.successResultOf(client.ended), "openvpn could not be started: no processes left"
        )

    def test_log_of_earlier_run(self) -> None:
        """What an earlier process on the same tap complained about is not this one's."""
        self.settings.log_file("vifc0").write_text("ERROR: old\n")
        client = OpenVPNClient(self.reactor, self.settings, "vifc0", PEER, ENDPOINTS, self.changed)
        client.start()
        self.reactor.children[-1].end(1)
        self.assertEqual(self.successResultOf(client.ended), "openvpn ended with status 1")


class ServerTests(OpenVPNTestCase):
    """A server and those it serves."""

    def setUp(self) -> None:
        super().setUp()
        self.several = False
        self.start(self.settings)

    def start(self, settings: OpenVPNSettings) -> None:
        self.leaving = FakeLeaving()
        self.revoked: set[object] = set()
        self.server = OpenVPNServer(
            self.reactor, Random(1), settings, "vifs0", 1194, "udp", self.changed,
            lambda prefix, serial: not self.revoked & {prefix, serial}, several=lambda: self.several,
        )  # fmt: skip
        self.server.startService()
        self.management = Management(self.reactor)
        self.greeting = self.management.heard()

    def test_socket(self) -> None:
        """Whoever wants to is told which process has a socket now; where he fails, it is said why."""
        told: list[int] = []

        def tell(pid: int) -> None:
            told.append(pid)
            raise PermissionError(1, "not allowed")

        for proto, expected in (("udp", 1), ("tcp-server", 1)):
            server = OpenVPNServer(
                self.reactor, Random(1), self.settings, "vifs0", 1194, proto, self.changed, on_socket=tell
            )
            server.startService()
            management = Management(self.reactor)
            self.assertIn("state on", self.greeting)
            management.say(">STATE:1,ASSIGN_IP,,,,,,", ">STATE:1,CONNECTED,SUCCESS,,,,,")
            self.assertEqual(len(told), expected)

    def come(self, cid: int, name: str) -> None:
        self.management.say(
            f">CLIENT:ESTABLISHED,{cid}",
            f">CLIENT:ENV,common_name={name}",
            ">CLIENT:ENV,trusted_ip=1.2.3.4",
            f">CLIENT:ENV,trusted_port={5000 + cid}",
            f">CLIENT:ENV,tls_serial_0={100 + cid}",
            ">CLIENT:ENV,END",
        )

    def table(self, *cids: int) -> None:
        rows = [f"CLIENT_LIST\tx\t{cid}\t10\t5" for cid in cids]
        header = "HEADER\tCLIENT_LIST\tCommon Name\tClient ID\tBytes Received\tBytes Sent"
        self.management.say("TITLE\tx", header, *rows, "END")

    def test_served(self) -> None:
        """Peers come, are counted, and are gone when the table has them no more."""
        self.come(0, "1/16")
        self.come(1, "2/16")
        self.assertEqual(list(self.server.served), [PEER, Prefix(2, 16)])
        first = self.server.served[PEER]
        self.assertEqual((first.address, first.port, first.bytes), ("1.2.3.4", 5000, 0))
        self.table(0, 1)
        self.assertEqual((self.server.served[PEER].bytes, self.changes), (15, 2))
        self.table(1)
        self.assertEqual((list(self.server.served), self.changes), ([Prefix(2, 16)], 3))

    def test_full(self) -> None:
        """One more than there are places for is sent away with the reason; who is here may come anew."""
        self.start(replace(self.settings, max_clients=1))
        self.come(0, "1/16")
        self.management.heard()
        self.come(1, "2/16")
        self.assertEqual(self.management.heard(), ["client-kill 1 HALT,full"])
        self.come(2, "1/16")
        self.assertEqual(self.management.heard(), [])
        self.assertEqual({prefix: each.cid for prefix, each in self.server.served.items()}, {PEER: 2})
        self.server.change(replace(self.settings, max_clients=2))
        self.come(3, "2/16")
        self.come(4, "3/16")
        self.assertEqual(self.management.heard(), ["client-kill 4 HALT,full"])

    def test_replaced(self) -> None:
        """A peer that came again is one, and stays when its first connection goes."""
        self.come(0, "1/16")
        self.come(1, "1/16")
        self.table(1)
        self.assertEqual([served.cid for served in self.server.served.values()], [1])

    def test_polls(self) -> None:
        """The table is asked for every hello, or every five seconds."""
        self.management.heard()
        self.reactor.pump([0.5] * 8)
        self.assertEqual(self.management.heard(), ["status 3"] * 4)
        self.start(replace(self.settings, hello=15))
        self.reactor.pump([1] * 10)
        self.assertEqual(self.management.heard(), ["status 3"] * 2)

    def test_hangs(self) -> None:
        """Whether it never listens, or listens no more: it is killed, and another one started. One that
        answers now and then is not."""
        for connected in (False, True):
            self.start(self.settings)
            process = self.reactor.children[-1]
            for _ in range(3 * connected):
                self.reactor.pump([INTERVAL] * PATIENCE)
                self.table()
            self.reactor.pump([INTERVAL] * PATIENCE)
            self.assertEqual(process.signals, [])
            self.reactor.advance(INTERVAL)
            self.assertEqual(process.signals, ["KILL"])
            status = self.server.supervisor.status()
            self.assertEqual((status.restarts, status.complaint), (1, "hung, and was killed"))
            self.reactor.advance(1)
            self.assertEqual(self.server.supervisor.state, "running")

    def test_polls_calmly(self) -> None:
        """While nobody is missed it is asked less often."""
        self.server.calm = lambda: True
        self.management.heard()
        self.reactor.pump([0.5] * 40)
        self.assertEqual(self.management.heard(), ["status 3"] * 4)
        self.server.calm = lambda: False
        self.reactor.pump([0.5] * 4)
        self.assertEqual(self.management.heard(), ["status 3"] * 2)

    def test_log(self) -> None:
        """Where openvpn's log tells that a client leaves, it is asked at once."""
        self.assertNotIn("log on", self.greeting)
        self.start(replace(self.settings, verbose=3))
        self.assertIn("log on", self.greeting)
        self.management.say(">LOG:1,,1/16/10.0.0.2:34749 SIGTERM[soft,ping-exit], client-instance exiting")
        self.assertEqual(self.management.heard(), ["status 3"])

    def test_stranger(self) -> None:
        """Whoever is called as no node can be is sent away."""
        self.come(4, "registry.vifibnet")
        self.assertEqual((self.server.served, self.changes), ({}, 0))
        self.assertEqual(self.management.heard(), ["client-kill 4 HALT"])

    def test_kick(self) -> None:
        """A kick is over when openvpn has answered, or has not for a while."""
        self.successResultOf(Deferred.fromCoroutine(self.server.kick(PEER)))
        self.come(0, "1/16")
        kick = Deferred.fromCoroutine(self.server.kick(PEER))
        self.assertEqual((self.server.served, self.changes), ({}, 2))
        self.assertEqual(self.management.heard(), ["client-kill 0 HALT", "status 3"])
        self.assertNoResult(kick)
        self.table(0)
        self.successResultOf(kick)
        self.come(1, "1/16")
        kick = Deferred.fromCoroutine(self.server.kick(PEER))
        self.reactor.advance(2.1)
        self.successResultOf(kick)
        self.table()

    def test_dismiss(self) -> None:
        """Whoever is not welcome any more is disconnected, all at once; the others stay."""
        for cid in range(4):
            self.come(cid, f"{cid}/16")
        self.management.heard()
        self.revoked = {PEER, 103}
        done = Deferred.fromCoroutine(self.server.dismiss())
        self.assertEqual(list(self.server.served), [Prefix(0, 16), Prefix(2, 16)])
        said = self.management.heard()
        self.assertEqual([line for line in said if "kill" in line], [f"client-kill {n} HALT" for n in (1, 3)])
        self.table(0, 2)
        self.successResultOf(done)

    def test_holder(self) -> None:
        """Started anew, once, and not if it has been since."""
        restart = self.holder()
        self.leaving.emptied = True
        self.start_anew()
        self.reactor.advance(UNDERWAY)
        self.assertEqual(self.reactor.processes[0].signals, ["TERM"])
        self.reactor.processes[0].end()
        self.assertEqual((len(self.reactor.processes), self.server.served), (2, {}))
        restart()
        self.assertEqual((len(self.reactor.processes), self.server.supervisor.history.restarts), (2, 0))
        again = self.holder()
        self.server.stopService()
        again()
        self.assertEqual(len(self.reactor.processes), 2)

    def holder(self) -> Callable[[], Deferred[None]]:
        """A call that starts the server anew."""
        return self.server.holder(self.leaving)

    def start_anew(self) -> None:
        """Begin that with a peer connected; the process ends when the test says so."""
        self.reactor.children[0].obeys = ()
        self.come(0, "1/16")
        self.holder()()

    def test_emptied_before_it_is_started_anew(self) -> None:
        """The tap is left until nothing goes over it, and the process is gone."""
        self.start_anew()
        self.holder()()
        [process] = self.reactor.processes
        self.assertEqual(self.leaving.left, {"vifs0"})
        self.reactor.pump([LOOK] * 10)
        self.assertEqual(process.signals, [])
        self.leaving.emptied = True
        self.reactor.pump([LOOK] * round(UNDERWAY / LOOK + 3))
        self.assertEqual((process.signals, self.leaving.left), (["TERM"], {"vifs0"}))
        process.end()
        self.assertEqual((len(self.reactor.processes), self.leaving.left), (2, set()))

    def test_company(self) -> None:
        """Where something is reached over its tap only, its clients may be connected to first."""
        for found in (True, False):
            spared = {"vifs0": False}
            self.server.spared = spared.__getitem__
            self.reactor.children[-1].obeys = ()
            self.come(0, "1/16")
            changes = self.changes
            gone = self.holder()()
            self.reactor.pump([LOOK] * 10)
            self.assertEqual(
                (self.server.leaving, self.changes, self.leaving.left), (True, changes + 1, set())
            )
            spared["vifs0"] = found
            self.reactor.pump([LOOK] * (2 if found else round(COMPANY / LOOK)))
            self.assertEqual(self.leaving.left, {"vifs0"})
            self.leaving.emptied = True
            self.reactor.pump([LOOK] * round(UNDERWAY / LOOK + 3))
            self.assertNoResult(gone)
            self.reactor.children[-1].end()
            self.successResultOf(gone)
            self.assertEqual((self.server.leaving, self.leaving.left), (False, set()))
            self.leaving.emptied = False
            self.management = Management(self.reactor)

    def test_ends_before_there_is_company(self) -> None:
        """Its clients are not served any more then anyway."""
        self.server.spared = lambda _: False
        self.start_anew()
        self.assertTrue(self.server.leaving)
        self.reactor.children[0].end(1)
        self.assertEqual((self.server.leaving, self.leaving.left), (False, set()))

    def test_ends_while_it_is_emptied(self) -> None:
        """By itself, or because the node stops: nothing to wait for, and no silence is left."""
        self.start_anew()
        self.reactor.children[0].end(1)
        self.assertEqual(self.leaving.left, set())
        self.reactor.advance(1)
        self.management = Management(self.reactor)
        self.start_anew()
        self.assertEqual(self.leaving.left, {"vifs0"})
        stopped = self.server.stopService()
        self.reactor.children[0].end()
        self.successResultOf(stopped)
        self.assertEqual((len(self.reactor.processes), self.leaving.left), (2, set()))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_change(self) -> None:
        """Other settings count from the next start on."""
        self.server.change(replace(self.settings, max_clients=7, mtu=1300))
        self.assertEqual(len(self.reactor.processes), 1)
        self.reactor.children[0].obeys = ()
        self.leaving.emptied = True
        gone = self.holder()()
        self.assertNoResult(gone)
        self.reactor.children[0].end()
        self.successResultOf(gone)
        command = self.reactor.processes[1].command
        self.assertEqual(command[command.index("--max-clients") + 1], str(7 + REFUSED_PLACES))
        self.assertEqual(command[command.index("--tun-mtu") + 1], "1300")

    def test_change_before_start(self) -> None:
        """They count for one that is about to be started, too."""
        fitted: Deferred[None] = Deferred()
        self.server = OpenVPNServer(
            self.reactor, Random(1), self.settings, "vifs1", 1195, "udp", self.changed,
            before=lambda: fitted, several=lambda: self.several,
        )  # fmt: skip
        self.server.startService()
        self.several = True
        self.server.change(replace(self.settings, mtu=1300))
        fitted.callback(None)
        command = self.reactor.processes[1].command
        self.assertEqual(command[command.index("--tun-mtu") + 1], "1300")
        self.assertIn("--multihome", command)

    def test_rehome(self) -> None:
        """With a second address it is started anew, its tap emptied first; with a third one it is not."""
        [process] = self.reactor.processes
        self.assertNotIn("--multihome", process.command)
        self.reactor.children[0].obeys = ()
        self.come(0, "1/16")
        self.several = True
        gone = self.server.rehome(self.leaving)
        self.assertEqual((self.leaving.left, process.signals), ({"vifs0"}, []))
        self.leaving.emptied = True
        self.reactor.pump([LOOK] * round(UNDERWAY / LOOK + 3))
        process.end()
        self.successResultOf(gone)
        self.assertIn("--multihome", self.reactor.processes[1].command)
        self.successResultOf(self.server.rehome(self.leaving))
        self.assertEqual((len(self.reactor.processes), self.leaving.left), (2, set()))

    def test_rehome_tcp(self) -> None:
        """Over TCP there is nothing to do."""
        how = (self.reactor, Random(1), self.settings, "vifs1", 443, "tcp-server", self.changed)
        self.server = OpenVPNServer(*how, several=lambda: False)
        self.server.startService()
        self.successResultOf(self.server.rehome(self.leaving))
        self.assertEqual(self.leaving.left, set())

    def test_unwelcome(self) -> None:
        """Who comes all the same is sent away."""
        self.revoked = {PEER}
        self.come(7, "1/16")
        self.assertEqual((self.server.served, self.changes), ({}, 0))
        self.assertEqual(self.management.heard(), ["client-kill 7 HALT"])

    def test_restart(self) -> None:
        """When the process ends, nobody is served; the next one is spoken to, too."""
        self.come(0, "1/16")
        self.reactor.children[0].end(1)
        self.assertEqual((self.server.served, self.changes), ({}, 2))
        self.reactor.advance(1)
        self.assertEqual((len(self.reactor.children), len(self.reactor.unixClients)), (1, 2))
        self.management = Management(self.reactor)
        self.come(0, "1/16")
        self.assertEqual(list(self.server.served), [PEER])
        self.assertEqual(self.server.supervisor.history.restarts, 1)

    def test_stop(self) -> None:
        """A stop is over when the process has ended and the socket is closed."""
        self.reactor.children[0].obeys = ()
        stop = self.server.stopService()
        self.assertNoResult(stop)
        self.assertEqual(self.reactor.children[0].signals, ["TERM"])
        self.reactor.advance(0.3)
        self.assertEqual(self.reactor.children[0].signals, ["TERM", "TERM"])
        self.reactor.children[0].end()
        self.successResultOf(stop)
        self.assertTrue(self.management.transport.disconnecting)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
