"""Real OpenVPN tunnels between network namespaces."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import provider

from tests.directories import short_directory
from tests.integration.namespaces import Namespace, ReactorInside, command, eventually, within
from tests.unit.pki.making import identity, trusted_directory, write_identity
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.node import orphans, watchdog
from vifibnet.node.openvpn import OpenVPNClient, OpenVPNSettings
from vifibnet.node.openvpnserver import OpenVPNServer
from vifibnet.node.preflight import refusal
from vifibnet.wire import openvpn as wire

HOST, GUEST = Prefix.parse("0/16"), Prefix.parse("1/16")
MTU = 1400


class TunnelTestCase(TestCase):
    """Two namespaces with a cable between them; a server's end and a client's."""

    timeout = 40

    def setUp(self) -> None:
        self.host, self.guest = self._namespace(), self._namespace()
        self.host.connect(self.guest, 0)
        self.changes = 0

    def _namespace(self) -> Namespace:
        namespace = Namespace()
        self.addCleanup(namespace.destroy)
        return namespace

    def settings(self, prefix: Prefix, **more: Any) -> OpenVPNSettings:
        """A node's settings, in directories with a space in their names."""
        directory = short_directory(self, "vifibnet test ")
        _, cert, key = write_identity(directory, identity(prefix=str(prefix)))
        settings = OpenVPNSettings(
            ca=trusted_directory(self), cert=cert, key=key, state=directory, log=directory, hello=0.2, mtu=MTU
        )
        return replace(settings, **more)

    def changed(self) -> None:
        self.changes += 1

    def server(
        self, proto: str = "udp", settings: OpenVPNSettings | None = None, **more: Any
    ) -> OpenVPNServer:
        """A server that runs, on a tap of its own."""
        _tap(self.host, "vifs0")
        settings = settings or self.settings(HOST)
        server = OpenVPNServer(
            ReactorInside(self.host), random.Random(1), settings, "vifs0", 1194, proto, self.changed, **more
        )
        server.startService()
        self.addCleanup(server.stopService)
        return server

    def client(
        self,
        *endpoints: Endpoint,
        peer: Prefix = HOST,
        settings: OpenVPNSettings | None = None,
        tap: str = "vifc0",
    ) -> OpenVPNClient:
        """A client that was started, on a tap of its own."""
        if tap not in self.guest.ip("link"):
            _tap(self.guest, tap)
        client = OpenVPNClient(
            ReactorInside(self.guest),
            settings or self.settings(GUEST),
            tap,
            peer,
            endpoints or (Endpoint("10.99.0.1", 1194, "udp"),),
            self.changed,
        )
        client.start()
        self.addCleanup(lambda: ensureDeferred(client.stop()))
        return client

    def complaints(self) -> list[str]:
        """Where warnings and errors in the log will be, from now on."""
        said: list[str] = []

        @provider(ILogObserver)
        def observer(event: LogEvent) -> None:
            if event["log_level"] >= LogLevel.warn:
                said.append(formatEvent(event))

        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        return said

    async def listening(self, proto: str = "udp") -> None:
        """Wait until the server can be reached."""
        family, state = ("udp6", "07") if proto == "udp" else ("tcp6", "0A")

        def bound() -> bool:
            with self.host.entered():
                sockets = Path(f"/proc/thread-self/net/{family}").read_text()
            return re.search(rf":04AA 0{{32}}:0000 {state}", sockets) is not None

        await eventually(bound, "a server that listens")

    async def tunnel(self, proto: str = "udp", **more: Any) -> tuple[OpenVPNServer, OpenVPNClient]:
        """A tunnel that both ends know of."""
        server = self.server(proto, self.settings(HOST, **more))
        await self.listening(proto)
        client = self.client(Endpoint("fd99::1", 1194, proto.replace("server", "client")))
        await eventually(lambda: client.up and GUEST in server.served, "a tunnel")
        return server, client

    def ended(self, client: OpenVPNClient) -> list[str]:
        """Where the reason will be, when the client has ended."""
        reasons: list[str] = []
        client.ended.addCallback(reasons.append)
        return reasons


def _tap(namespace: Namespace, name: str) -> None:
    namespace.ip("tuntap", "add", "dev", name, "mode", "tap")
    with namespace.entered():
        Path(f"/proc/sys/net/ipv6/conf/{name}/accept_dad").write_text("0")
    namespace.ip("link", "set", name, "mtu", str(MTU), "up")


def _link_local(namespace: Namespace, name: str) -> str:
    (link,) = json.loads(namespace.ip("-json", "-6", "address", "show", "dev", name))
    found: list[str] = [known["local"] for known in link["addr_info"] if known["scope"] == "link"]
    return found[0]


class TunnelTests(TunnelTestCase):
    """Tunnels come up, carry packets and go."""

    async def check(self, proto: str, endpoint: Endpoint) -> None:
        """A tunnel comes up, carries a full-size packet, and goes, and both sides know."""
        server = self.server(proto)
        await self.listening(proto)
        self.assertEqual(server.served, {})
        begun = reactor.seconds()
        client = self.client(endpoint)
        self.assertFalse(client.up)
        await eventually(lambda: client.up, "the client's end")
        took = reactor.seconds() - begun
        await eventually(lambda: GUEST in server.served, "the server's end")
        print(f"{proto} {endpoint.address}: up after {took * 1000:.0f} ms", end=" ")
        self.assertEqual(client.remote, endpoint)
        self.assertEqual(server.served[GUEST].address, endpoint.address[:-1] + "2")
        ping = ("ping", "-6", "-c1", "-W2", "-Mdo", f"-s{MTU - 48}", "-Ivifc0")
        command("ip", "netns", "exec", self.guest.name, *ping, _link_local(self.host, "vifs0"))
        reasons = self.ended(client)
        await within(1, client.stop())
        await eventually(lambda: reasons == ["stopped"], "the reason")
        self.assertFalse(client.up)
        # openvpn itself takes its time over UDP.
        await eventually(lambda: not server.served or proto == "udp", "an empty server", timeout=3)
        # The taps are ours: they have neither gone nor changed.
        self.assertIn(f"mtu {MTU}", self.guest.ip("link", "show", "vifc0"))
        await within(1, server.stopService())
        self.assertIn(f"mtu {MTU}", self.host.ip("link", "show", "vifs0"))
        self.assertEqual(self.host.processes("openvpn") + self.guest.processes("openvpn"), [])

    def test_udp4(self) -> Deferred[None]:
        """UDP over IPv4."""
        return ensureDeferred(self.check("udp", Endpoint("10.99.0.1", 1194, "udp")))

    def test_udp6(self) -> Deferred[None]:
        """UDP over IPv6."""
        return ensureDeferred(self.check("udp", Endpoint("fd99::1", 1194, "udp6")))

    def test_tcp4(self) -> Deferred[None]:
        """TCP over IPv4."""
        return ensureDeferred(self.check("tcp-server", Endpoint("10.99.0.1", 1194, "tcp-client")))

    def test_tcp6(self) -> Deferred[None]:
        """TCP over IPv6."""
        return ensureDeferred(self.check("tcp-server", Endpoint("fd99::1", 1194, "tcp6-client")))


class FailureTests(TunnelTestCase):
    """What happens when one end, or the operator, does something wrong."""

    async def test_another_peer(self) -> None:
        """Whoever answers must be the peer that was meant."""
        server = self.server()
        await self.listening()
        reasons = self.ended(self.client(peer=Prefix.parse("5/16")))
        await eventually(lambda: reasons, "a reason")
        self.assertIn("not reached (tls-error)", reasons[0])
        self.assertEqual((server.served, self.changes), ({}, 0))

    async def test_endpoints_in_turn(self) -> None:
        """The endpoints are tried one after the other; the one that answers is told."""
        self.server()
        await self.listening()
        dead, live = Endpoint("10.99.0.1", 9, "tcp-client"), Endpoint("fd99::1", 1194, "udp6")
        client = self.client(dead, live)
        await eventually(lambda: client.up, "a tunnel")
        self.assertEqual(client.remote, live)

    async def test_nobody_there(self) -> None:
        """A client gives up by itself, and says why."""
        reasons = self.ended(self.client(Endpoint("10.99.0.1", 9, "tcp-client")))
        await eventually(lambda: reasons, "a reason")
        self.assertIn("not reached (connection-failed)", reasons[0])

    async def test_killed_client(self) -> None:
        """A client that vanished is missed after ping-exit, however little openvpn is told to log."""
        server, client = await self.tunnel(verbose=0)
        reasons = self.ended(client)
        (pid,) = self.guest.processes("openvpn")
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: reasons, "a reason")
        self.assertEqual(reasons, ["openvpn ended by SIGKILL"])
        self.assertIn(GUEST, server.served)
        await eventually(lambda: not server.served, "an empty server")

    async def test_killed_server(self) -> None:
        """A server that dies is started again; over TCP its clients notice at once."""
        server, client = await self.tunnel("tcp-server")
        reasons = self.ended(client)
        (pid,) = self.host.processes("openvpn")
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: reasons and not server.served, "an end of both", timeout=3)
        self.assertIn("lost (", reasons[0])
        await eventually(lambda: server.supervisor.history.restarts == 1, "a restart", timeout=3)
        await self.listening("tcp-server")
        again = self.client(Endpoint("10.99.0.1", 1194, "tcp-client"))
        await eventually(lambda: again.up, "a tunnel to the new server")

    async def test_stopped_server(self) -> None:
        """A server that stops tells its clients, also over UDP."""
        server, client = await self.tunnel()
        reasons = self.ended(client)
        await within(1, server.stopService())
        await eventually(lambda: reasons, "a reason", timeout=3)
        self.assertIn("lost (", reasons[0])
        self.assertEqual(server.supervisor.state, "stopped")

    async def test_hung_server(self) -> None:
        """One that hangs is replaced, also when it does so again before it listens; who is connected to one
        that is well does not notice that it is watched."""
        self.patch(watchdog, "INTERVAL", 0.25)
        server, client = await self.tunnel()
        await deferLater(reactor, 2 * watchdog.PATIENCE * watchdog.INTERVAL)
        self.assertTrue(client.up)
        for number in (1, 2):
            hung = server.supervisor.child
            assert hung is not None
            os.kill(hung.pid or 0, signal.SIGSTOP)
            await eventually(lambda: server.supervisor.child not in (None, hung), "another", 5)  # noqa: B023
            status = server.supervisor.status()
            self.assertEqual(status.restarts, number)
            self.assertIn("hung, and was killed", status.complaint)
        await self.listening()
        await within(1, server.stopService())
        self.assertEqual(self.host.processes("openvpn"), [])

    async def test_kick(self) -> None:
        """A peer that is kicked is gone at once."""
        server, client = await self.tunnel()
        reasons = self.ended(client)
        await server.kick(GUEST)
        self.assertEqual(server.served, {})
        await eventually(lambda: reasons, "a reason", timeout=3)

    async def check_full(self, proto: str) -> None:
        """Who comes when all places are taken learns it at once, and gets the place that is left."""
        server, client = await self.tunnel(proto, max_clients=1)
        endpoint = Endpoint("10.99.0.1", 1194, proto.replace("server", "client"))
        other = Prefix.parse("2/16")
        for _ in range(3):
            late = self.client(endpoint, settings=self.settings(other), tap="vifc1")
            reasons, begun = self.ended(late), reactor.seconds()
            await eventually(lambda: reasons, "a reason", timeout=2)  # noqa: B023
            print(f"{proto}: sent away after {(reactor.seconds() - begun) * 1000:.0f} ms", end=" ")
            self.assertEqual((reasons, late.full), (["the server is full"], True))
        self.assertTrue(client.up)
        self.assertEqual(list(server.served), [GUEST])
        await server.kick(GUEST)
        late = self.client(endpoint, settings=self.settings(other), tap="vifc1")
        await eventually(lambda: late.up and other in server.served, "the place that is free")
        await deferLater(reactor, 0.2)
        self.assertTrue(late.up)

    async def test_full_udp(self) -> None:
        """Over UDP, where openvpn itself would say nothing."""
        await self.check_full("udp")

    async def test_full_tcp(self) -> None:
        """Over TCP."""
        await self.check_full("tcp-server")

    async def test_traffic(self) -> None:
        """Bytes are counted at the server's end."""
        server, _ = await self.tunnel()
        await eventually(lambda: server.served[GUEST].bytes > 0, "bytes")

    async def test_socket(self) -> None:
        """A management socket that was left behind does no harm; whoever is not root is sent away."""
        settings = self.settings(HOST)
        path = settings.socket("vifs0")
        path.touch()
        with self.host.entered():
            alone = Popen(wire.server_command(settings, tap="vifs0", port=1194, proto="udp"), stdout=PIPE)
        self.addCleanup(alone.communicate)
        self.addCleanup(alone.kill)

        def greeted(user: int) -> bytes | None:
            """What this user is told at first; None when nobody listens."""
            with closing(socket.socket(socket.AF_UNIX)) as caller:
                caller.settimeout(5)
                os.seteuid(user)
                try:
                    caller.connect(str(path))
                    return caller.recv(5)
                except ConnectionRefusedError:
                    return None
                finally:
                    os.seteuid(0)

        settings.state.chmod(0o755)
        await eventually(lambda: greeted(0) == b">INFO", "openvpn's greeting")
        self.assertEqual(greeted(65534), b"")
        self.assertEqual(greeted(0), b">INFO")

    async def test_pushed_options(self) -> None:
        """The server is a peer, not an administrator: what it pushes changes nothing."""

        def seen() -> str:
            return self.guest.ip("-o", "address") + self.guest.ip("route")

        _tap(self.guest, "vifc0")
        before = seen()
        push = (
            "--push",
            "route 10.123.0.0 255.255.0.0 10.99.0.1",
            "--push",
            "ifconfig 10.55.0.2 255.255.255.0",
        )
        _, client = await self.tunnel(extra=(*push, "--push", "ping-exit 1"))
        await deferLater(reactor, 0.2)
        self.assertTrue(client.up)
        self.assertEqual(
            [line for line in seen().splitlines() if "10." in line],
            [line for line in before.splitlines() if "10." in line],
        )

    async def test_bad_arguments(self) -> None:
        """openvpn's own words about wrong arguments reach the operator, once."""
        settings = self.settings(HOST, extra=("--fragment", "7"))
        words = "Options error: --fragment needs to be at least 68"
        self.assertEqual(refusal(settings), words)
        self.assertIsNone(refusal(replace(settings, extra=("--mssfix", "1300"))))
        self.assertEqual(
            refusal(replace(settings, extra=("--daemon",))), "--daemon is set by vifibnet itself"
        )
        said = self.complaints()
        server = self.server(settings=settings)
        await eventually(lambda: server.supervisor.history.restarts >= 3, "some tries")
        self.assertEqual(len(said), 1, said)
        self.assertIn(words, said[0])
        reasons = self.ended(self.client(settings=self.settings(GUEST, extra=("--fragment", "7"))))
        await eventually(lambda: reasons, "a reason")
        self.assertIn(words, reasons[0])

    async def test_orphans(self) -> None:
        """When our process is killed, every openvpn carries on until the next one ends it."""
        settings = self.settings(HOST)
        for name in ("vifs0", "vifc0"):
            _tap(self.host, name)
        inside = ["ip", "netns", "exec", self.host.name]
        node = Popen(
            [*inside, sys.executable, "-m", "tests.programs.openvpn_driver", settings.state, settings.ca],
            stdout=PIPE,
            cwd=Path(__file__).parents[2],
        )
        self.addCleanup(node.wait)
        self.addCleanup(node.kill)
        assert node.stdout is not None
        os.set_blocking(node.stdout.fileno(), False)
        self.addCleanup(node.stdout.close)
        await eventually(lambda: b"up" in (node.stdout.read() or b""), "a tunnel")  # type: ignore[union-attr]
        self.assertEqual(len(self.host.processes("--management")), 2)
        node.kill()
        node.wait()
        # Longer than a tunnel stands over which nothing comes.
        await deferLater(reactor, settings.ping_exit + 1.0)
        left = self.host.processes("--management")
        self.assertEqual(sorted(orphans.end(settings.state)), sorted(left))
        self.assertEqual(len(left), 2)
        await eventually(lambda: not self.host.processes("openvpn"), "no openvpn")
