"""Two nodes' daemons together: taps, tunnels, babeld and the kernel's routes between namespaces."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.directories import short_directory
from tests.integration.namespaces import Namespace, ReactorInside, command, eventually, within
from tests.unit.pki.making import identity, trusted_directory, write_identity
from vifibnet.model.addresses import Network, Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.node import watchdog
from vifibnet.node.babeld import Babeld, BabeldSettings, Interface
from vifibnet.node.kernel import Kernel
from vifibnet.node.openvpn import OpenVPNClient, OpenVPNSettings
from vifibnet.node.openvpnserver import OpenVPNServer
from vifibnet.node.prompter import Prompter
from vifibnet.node.prompting import ENOUGH

NETWORK = Network.parse("2001:db8:42::/48")
HELLO = 0.2


class Node:
    """A node's daemons in a namespace."""

    def __init__(self, test: TestCase, value: int, network: Network = NETWORK, **more: Any) -> None:
        self.test = test
        self.namespace = Namespace()
        test.addCleanup(self.namespace.destroy)
        self.trusted = trusted_directory(test)
        self.prefix, self.network = Prefix(value, 16), network
        self.address, self.subnet = network.address(self.prefix), network.subnet(self.prefix)
        self.state = short_directory(test, "vifibnet test ")
        self.reactor = ReactorInside(self.namespace)
        self.kernel = Kernel(self.reactor, self.state)
        self.changes = 0
        settings = BabeldSettings(
            network, self.prefix, ("vifc0", "vifs0"), self.state, self.state, hello=HELLO
        )
        self.settings = settings = replace(settings, **more)
        self.babeld = Babeld(
            self.reactor,
            random.Random(value),
            settings,
            self.changed,
            self.kernel,
        )
        test.addCleanup(self.babeld.stopService)

    def changed(self) -> None:
        self.changes += 1

    async def start(self) -> None:
        """Everything but the tunnels."""
        with self.namespace.entered():
            await self.kernel.add_taps(["vifc0", "vifs0"], 1400)
            await self.kernel.add_subnet("lo", self.address, self.subnet, self.network.ip_network)
        self.babeld.startService()
        await eventually(lambda: self.babeld.xroutes, "babeld's own route")

    async def stop(self) -> None:
        """The other way round."""
        await self.babeld.stopService()
        with self.namespace.entered():
            await self.kernel.restore()

    async def change(self, **settings: Any) -> None:
        """Give babeld other settings."""
        self.settings = replace(self.settings, **settings)
        await self.babeld.change(self.settings)

    def openvpn(self) -> OpenVPNSettings:
        """Settings with a certificate."""
        _, cert, key = write_identity(self.state, identity(prefix=str(self.prefix)))
        return OpenVPNSettings(self.trusted, cert, key, self.state, self.state, HELLO)

    def ping(self, address: object, *options: str) -> str:
        """What ping says about an address, seen from here."""
        words = [
            "ip",
            "netns",
            "exec",
            self.namespace.name,
            "ping",
            "-6",
            "-c1",
            "-W1",
            *options,
            str(address),
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=5)
        return done.stdout + done.stderr

    def way(self, other: Node) -> str:
        """The way that packets to another node take; empty without one."""
        with contextlib.suppress(AssertionError):
            return self.namespace.ip("-6", "route", "get", str(other.address), "from", str(self.address))
        return ""

    def routes(self) -> set[object]:
        """The prefixes that babeld has a way to."""
        return {route.prefix for route in self.babeld.routes if route.reachable}

    def pings(self, address: object) -> Pings:
        """A hundred pings a second."""
        return Pings(self, address)

    def picture(self) -> list[str]:
        """The namespace's links, addresses and routes."""
        with self.namespace.entered():
            return [command("ip", "link"), command("ip", "-6", "addr"), command("ip", "-6", "route")]


IN_FLIGHT = 5
"""Pings that may not have been answered yet when ping ends: a busy machine is some hundredths late."""


class Pings:
    """A hundred pings a second to an address, until ``lost``."""

    def __init__(self, node: Node, address: object) -> None:
        words = ["ip", "netns", "exec", node.namespace.name, "ping", "-6", "-n", "-O", "-i0.01"]
        self._process = subprocess.Popen(
            [*words, "-I", str(node.address), str(address)], stdout=subprocess.PIPE, text=True
        )

    def lost(self) -> int:
        """Stop; how many were not answered. Raises AssertionError when there were too few."""
        self._process.send_signal(signal.SIGINT)
        said = self._process.communicate(timeout=10)[0]
        found = re.search(r"(\d+) packets transmitted", said)
        assert found is not None
        answered = {int(number) for number in re.findall(r"bytes from .* icmp_seq=(\d+) ", said)}
        assert len(answered) > 50, said
        # The last ones may be on their way still.
        assert int(found[1]) - max(answered) <= IN_FLIGHT, said
        return max(answered) - len(answered)


class TunnelledTests(TestCase):
    """Two nodes that have only a tunnel between them."""

    timeout = 40

    async def test_tunnel(self) -> None:
        """Nothing passes before the tunnel, everything with it, nothing after it; nothing is left."""
        one, two = Node(self, 1), Node(self, 2)
        one.namespace.connect(two.namespace, 0)
        await eventually(lambda: all("fe80" in node.picture()[2] for node in (one, two)), "the cable")
        before = [one.picture(), two.picture()]
        await one.start()
        await two.start()
        self.assertEqual(
            [one.babeld.xroutes[0].prefix, two.babeld.xroutes[0].prefix], [one.subnet, two.subnet]
        )
        self.assertEqual((one.babeld.neighbours, one.babeld.routes), ((), ()))
        self.assertNotIn("bytes from", one.ping(two.address))
        server = OpenVPNServer(
            two.reactor, random.Random(), two.openvpn(), "vifs0", 1194, "udp", lambda: None
        )
        server.startService()
        self.addCleanup(server.stopService)
        # A client that comes before the server listens has only one more try.
        await eventually(
            lambda: ":1194" in command("ip", "netns", "exec", two.namespace.name, "ss", "-lunH"),
            "the server's port",
        )
        client = OpenVPNClient(
            one.reactor,
            one.openvpn(),
            "vifc0",
            two.prefix,
            [Endpoint("10.99.0.2", 1194, "udp")],
            lambda: None,
        )
        begun = reactor.seconds()
        client.start()
        self.addCleanup(lambda: ensureDeferred(client.stop()))
        await eventually(lambda: one.routes() == {two.subnet}, "a route to the other")
        await eventually(lambda: two.routes() == {one.subnet}, "a route back")
        print(f"route after {reactor.seconds() - begun:.2f} s, {one.changes} changes", end=" ")
        self.assertEqual([neighbour.interface for neighbour in one.babeld.neighbours], ["vifc0"])
        self.assertEqual([neighbour.interface for neighbour in two.babeld.neighbours], ["vifs0"])
        self.assertIn("bytes from", one.ping(two.address, "-Mdo", f"-s{1400 - 48}"))
        self.assertIn("bytes from", two.ping(one.address))
        self.assertIn("nreachable", one.ping(two.subnet[2]))
        await within(1, client.stop())
        # Without its openvpn a tap has no carrier, and babeld no interface: no matter how long a hello is.
        down = Interface("vifc0", up=False)
        await eventually(lambda: down in one.babeld.interfaces, "the tap going down", timeout=5)
        self.assertEqual((one.babeld.neighbours, one.routes()), ((), set()))
        await eventually(lambda: not (two.babeld.neighbours or two.routes()), "no neighbour there")
        self.assertNotIn("bytes from", one.ping(two.address))
        await within(1, server.stopService())
        for node in (one, two):
            await within(1, node.stop())
        self.assertEqual([one.picture(), two.picture()], before)
        self.assertEqual(one.namespace.processes() + two.namespace.processes(), [])


class TriangleTests(TestCase):
    """Three nodes with a tunnel between any two: the client of each is at the server of the next."""

    timeout = 60

    async def connect(self, node: Node, number: int, peer: Node) -> None:
        """Have a tunnel: its server may not listen yet."""
        endpoint = Endpoint(f"10.99.{number}.2", 1194, "udp")
        client = None
        while client is None or client.ended.called:
            client = OpenVPNClient(
                node.reactor, node.openvpn(), "vifc0", peer.prefix, [endpoint], lambda: None
            )
            client.start()
            await eventually(lambda: client.up or client.ended.called, "a tunnel")  # noqa: B023
        self.stops.append(lambda: ensureDeferred(client.stop()))

    async def triangle(self) -> tuple[Node, Node, Node]:
        """One and two have a direct way to each other, and keep that over three."""
        # A metric that changes a little is not announced before the next update.
        nodes = one, two, three = tuple(Node(self, number, update_interval=0.5) for number in (1, 2, 3))
        self.stops: list[Callable[[], Deferred[None]]] = []
        self.addCleanup(lambda: gatherResults([stop() for stop in self.stops]))
        for number, node in enumerate(nodes):
            node.namespace.connect(nodes[(number + 1) % 3].namespace, number)
            await node.start()
            server = OpenVPNServer(
                node.reactor, random.Random(), node.openvpn(), "vifs0", 1194, "udp", lambda: None
            )
            server.startService()
            self.stops.append(server.stopService)
        for number, node in enumerate(nodes):
            await self.connect(node, number, nodes[(number + 1) % 3])
        return one, two, three

    async def test_cut(self) -> None:
        """Each end of a tunnel has the way over the third node before it needs it. When the tunnel is
        silently cut, packets take it as soon as babel has missed three hellos, whatever babel knows then."""
        one, two, _ = await self.triangle()

        def ready(here: Node, there: Node, direct: str, other: str) -> bool:
            return f"dev {direct} proto babel" in here.way(there) and other in kept_ways(here, there)

        await eventually(
            lambda: ready(one, two, "vifc0", "vifs0") and ready(two, one, "vifs0", "vifc0"),
            "alternates beside the direct way",
            logs=lambda: "\n".join(map(str, [*one.babeld.routes, *two.babeld.routes])),
        )
        self.assertIn("ttl=64", one.ping(two.address))
        pings = one.pings(two.address)
        await eventually(lambda: "ttl=64" in one.ping(two.address), "an answer")
        one.namespace.ip("link", "set", "eth0", "down")
        await eventually(lambda: "dev vifs0" in one.way(two), "the other way", timeout=3)
        await eventually(lambda: "ttl=63" in one.ping(two.address), "an answer", timeout=3)
        self.assertIn("dev vifc0", two.way(one))
        await deferLater(reactor, 1)
        print(f"{pings.lost()} of 100 pings a second lost", end=" ")


class LanTests(TestCase):
    """Two nodes on one cable, which babeld uses without any tunnel."""

    timeout = 30

    async def test_lan(self) -> None:
        """Nodes on a LAN find each other; a babeld that is killed comes back, and the other one's routes."""
        one, two = Node(self, 1, lan=("eth0",)), Node(self, 2, lan=("eth0",), wireless=True)
        one.namespace.connect(two.namespace, 0)
        await one.start()
        self.assertEqual((one.babeld.neighbours, one.babeld.routes), ((), ()))
        await two.start()
        await eventually(lambda: one.routes() == {two.subnet} and two.routes() == {one.subnet}, "routes")
        self.assertIn("bytes from", one.ping(two.address))
        (pid,) = two.namespace.processes("babeld")
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: not two.babeld.routes and not two.babeld.interfaces, "nothing known")
        await eventually(lambda: two.routes() == {one.subnet}, "the route again")
        self.assertEqual(two.babeld.supervisor.history.restarts, 1)
        await within(1, two.babeld.stopService())
        # It has said goodbye: no timeout is needed.
        await eventually(lambda: not one.routes(), "no route", timeout=3)

    def monitor(self, node: Node) -> Callable[[], bytes]:
        """Listen to a babeld; what it returns tells all that was said until then."""
        told: list[bytes] = []
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.connect(str(node.settings.socket))
        listener.sendall(b"monitor\n")
        listener.setblocking(False)

        def listen() -> bytes:
            with contextlib.suppress(BlockingIOError):
                told.append(listener.recv(1 << 20))
            return b"".join(told)

        return listen

    async def test_introduced(self) -> None:
        """Who has sent a hello between its regular ones before it was introduced is not forgotten before the
        hellos of its introduction run out."""
        one, cable = Node(self, 1, lan=("eth0",)), Namespace()
        self.addCleanup(cable.destroy)
        one.namespace.connect(cable, 0)
        await one.start()
        await eventually(lambda: any(each.address for each in one.babeld.interfaces), "an address")
        (own,) = (each.address for each in one.babeld.interfaces if each.address)
        listen, stranger = self.monitor(one), IPv6Address("fe80::77")
        with one.namespace.entered():
            prompter = Prompter(IPv6Address(own))
            self.addCleanup(prompter.close)
            # What makes babeld forget one that it knows makes one known that it does not.
            prompter.forget("eth0", stranger)
            await eventually(lambda: b"add neighbour" in listen(), "a neighbour")
            prompter.introduce("eth0", stranger, 96, one.settings.hello)
        await eventually(lambda: b"flush neighbour" in listen(), "hellos have run out")
        before = listen().partition(b"flush neighbour")[0]
        self.assertIn(b"rxcost 96 txcost 96 cost 96", before)
        self.assertIn(b"rxcost 65535 txcost 96 cost 65535", before)

    async def test_quiet(self) -> None:
        """babeld tells the routes of a neighbour without unicast hellos anew all the time, until it is told
        that none are to be expected; the neighbour's own hellos count as before."""
        one, two = (Node(self, number, lan=("eth0",), update_interval=60) for number in (1, 2))
        one.namespace.connect(two.namespace, 0)
        await one.start()
        await two.start()
        await eventually(lambda: one.routes() == {two.subnet}, "a route")
        listen = self.monitor(one)

        def count(kind: bytes) -> int:
            return listen().count(b"change " + kind)

        self.assertEqual(count(b"route"), 0)
        await eventually(lambda: count(b"route") > 5, "the same route again and again")
        (peer,) = one.babeld.neighbours
        (own,) = (each.address for each in one.babeld.interfaces if each.name == peer.interface)
        assert own is not None
        await eventually(lambda: one.babeld.neighbours[0].reach & ENOUGH == ENOUGH, "two hellos")
        with one.namespace.entered():
            prompter = Prompter(IPv6Address(own))
            prompter.quieten(peer.interface, IPv6Address(peer.address))
            prompter.close()
        # The word itself changes what babeld knows, once; hellos change what it knows of the neighbour.
        await eventually(lambda: count(b"neighbour") > 20, "hellos")
        before, hellos = count(b"route"), count(b"neighbour")
        await eventually(lambda: count(b"neighbour") > hellos + 50, "more hellos")
        self.assertEqual(count(b"route"), before)
        two.namespace.ip("link", "set", "eth0", "down")
        one.namespace.ip("link", "set", "eth0", "up")
        await eventually(lambda: not one.routes(), "no route without hellos", timeout=5)

    async def test_two_networks(self) -> None:
        """Nodes of two networks on a LAN believe nothing that the other says."""
        one = Node(self, 1, lan=("eth0",), verbose=2)
        two = Node(self, 2, Network.parse("2001:db8:43::/48"), lan=("eth0",), verbose=2)
        one.namespace.connect(two.namespace, 0)
        for node in (one, two):
            await node.start()

        def heard(node: Node, other: Node) -> int:
            log = (node.state / "vifibnet-babeld.log").read_text()
            return log.count(f"Received update/prefix for {other.subnet}")

        # Whatever follows from the first announcement has happened when the second one comes.
        await eventually(lambda: heard(one, two) > 1 and heard(two, one) > 1, "announcements")
        for node in (one, two):
            self.assertTrue(node.babeld.neighbours)
            self.assertEqual(node.babeld.routes, ())

    async def test_names(self) -> None:
        """Interfaces may be called whatever Linux allows, and be absent."""
        one = Node(self, 1, lan=('a"b\\c#d', "nowhere"))
        two = Node(self, 2, lan=("eth0",))
        one.namespace.connect(two.namespace, 0)
        one.namespace.ip("link", "set", "eth0", "down")
        one.namespace.ip("link", "set", "eth0", "name", 'a"b\\c#d', "up")
        await one.start()
        await two.start()
        await eventually(lambda: one.routes() == {two.subnet}, "a route")


KEY, OTHER = bytes(range(16)), bytes(range(32))


class KeyTests(TestCase):
    """Who has the key is believed, and nobody else."""

    timeout = 60

    async def test_strangers(self) -> None:
        """One without the key, and one with another, stay strangers on a LAN whatever they announce, until
        they have the key."""
        one = Node(self, 1, lan=("eth0",), key=KEY)
        two, three = Node(self, 2, lan=("eth0",)), Node(self, 3, lan=("eth0",), key=OTHER)
        switch(one, two, three)
        for node in (one, two, three):
            await node.start()
        # Both have announced more than once what one would believe, had it the right signature.
        for stranger in (two, three):
            await eventually(lambda node=stranger: sent(node) > 12, "packets")  # type: ignore[misc]
        # One that checks no signature hears the others, and is not heard.
        self.assertEqual((one.babeld.neighbours, three.babeld.neighbours), ((), ()))
        self.assertEqual([node.routes() for node in (one, two, three)], [set(), set(), set()])
        self.assertNotIn("bytes from", one.ping(two.address))
        await three.change(key=KEY)
        await two.change(key=KEY)
        for node in (one, two, three):
            await eventually(lambda node=node: len(node.routes()) == 2, "routes")  # type: ignore[misc]
        self.assertIn("bytes from", one.ping(two.address))

    async def test_impostor(self) -> None:
        """A stranger that announces a subnet that we know is believed without a key; with one it changes
        nothing, and no ping is lost."""
        for key, believed in ((None, 2), (KEY, 1)):
            one, two = Node(self, 1, lan=("eth0",), key=key), Node(self, 2, lan=("eth0",), key=key)
            impostor = Node(self, 2, lan=("eth0",))
            switch(one, two, impostor)
            for node in (one, two):
                await node.start()
            for node in (one, two):
                await eventually(lambda node=node: len(kept(node)) == 1, "a route")  # type: ignore[misc]
            (route,) = one.babeld.routes
            pings = one.pings(two.address)
            await impostor.start()
            # What the two have told each other until now is no news any more.
            changes = one.changes
            await eventually(lambda node=impostor: sent(node) > 20, "packets")  # type: ignore[misc]
            self.assertEqual(len([known for known in one.babeld.routes if known.metric < 65535]), believed)
            lost = pings.lost()
            if key is not None:
                self.assertEqual([known.via for known in one.babeld.routes], [route.via])
                self.assertEqual((one.changes, lost), (changes, 0))

    async def test_secret(self) -> None:
        """The key is on no command line, in no log, and in no file that others may read."""
        one = Node(self, 1, lan=("eth0",), key=KEY, verbose=5)
        await one.start()
        await one.change(key=OTHER)
        (pid,) = one.namespace.processes("babeld")
        seen = Path(f"/proc/{pid}/cmdline").read_text() + Path(f"/proc/{pid}/environ").read_text()
        for path in one.state.rglob("*"):
            if path.is_file() and path.stat().st_mode & 0o077:
                seen += path.read_text(errors="replace")
        self.assertIn("vifibnet-babeld.log", " ".join(path.name for path in one.state.iterdir()))
        for key in (KEY, OTHER):
            self.assertNotIn(key.hex(), seen.lower())
        self.assertEqual(one.babeld.supervisor.history.restarts, 0)


class ChangeTests(TestCase):
    """Other settings and new babelds, in a row of three nodes between which pings go all the time."""

    timeout = 90

    async def row(self, hello: float, key: bytes | None) -> tuple[Node, Node, Node]:
        """Three nodes, each of which knows the others."""
        nodes = one, two, three = tuple(
            Node(self, number, lan=("eth0", "eth1"), hello=hello, key=key) for number in (1, 2, 3)
        )
        one.namespace.connect(two.namespace, 0)
        two.namespace.connect(three.namespace, 1)
        for node in nodes:
            await node.start()
        for node in nodes:
            await eventually(lambda node=node: len(node.routes()) == 2, "routes")  # type: ignore[misc]
        # What is kept beside babel's routes is there a moment later than they are.
        for node in nodes:
            await eventually(lambda node=node: len(kept(node)) == 2, "kept")  # type: ignore[misc]
        return one, two, three

    async def test_key(self) -> None:
        """A key that all replace within a moment costs no ping, and no neighbour."""
        nodes = one, two, three = await self.row(0.5, KEY)
        all_pings = [one.pings(two.address), one.pings(three.address), two.pings(three.address)]
        pids = [node.namespace.processes("babeld") for node in nodes]
        for key in (OTHER, KEY):
            for node in nodes:
                await node.change(key=key)
                await deferLater(reactor, 0.1)
            await deferLater(reactor, 1.5)
            for node in nodes:
                self.assertEqual(len(node.routes()), 2)
        self.assertEqual([pings.lost() for pings in all_pings], [0, 0, 0])
        self.assertEqual([node.namespace.processes("babeld") for node in nodes], pids)

    async def test_crash(self) -> None:
        """A babeld that is killed is back within a second; no ping to, from or through its node is lost."""
        for key in (KEY, None):
            one, two, three = await self.row(0.2, key)
            all_pings = [one.pings(two.address), one.pings(three.address), two.pings(three.address)]
            (pid,) = two.namespace.processes("babeld")
            os.kill(pid, signal.SIGKILL)
            await eventually(lambda node=two: not node.babeld.interfaces, "nothing known")  # type: ignore[misc]
            await eventually(lambda node=two: node.babeld.interfaces, "it is back", timeout=1)  # type: ignore[misc]
            await eventually(lambda node=two: len(node.routes()) == 2, "routes")  # type: ignore[misc]
            await deferLater(reactor, 3)
            self.assertEqual([pings.lost() for pings in all_pings], [0, 0, 0])

    async def test_hang(self) -> None:
        """A babeld that hangs is replaced, also when it does so again before it answers; one that is well is
        not."""
        self.patch(watchdog, "INTERVAL", 0.25)
        node = Node(self, 1)
        await node.start()
        for number in (1, 2):
            await deferLater(reactor, 2 * watchdog.PATIENCE * watchdog.INTERVAL * (2 - number))
            hung = node.babeld.supervisor.child
            assert hung is not None
            os.kill(hung.pid or 0, signal.SIGSTOP)
            await eventually(lambda: node.babeld.supervisor.child not in (None, hung), "another", 5)  # noqa: B023
            status = node.babeld.supervisor.status()
            self.assertEqual(status.restarts, number)
            self.assertIn("hung, and was killed", status.complaint)
        await eventually(lambda: node.babeld.xroutes, "its own route again")
        await within(1, node.stop())

    async def test_restart(self) -> None:
        """Another hello interval, and the first key, need another start on every node: no ping is lost."""
        nodes = one, two, three = await self.row(0.5, None)
        all_pings = [one.pings(two.address), one.pings(three.address), two.pings(three.address)]
        for node in nodes:
            await node.change(hello=0.3, update_interval=3)
        await deferLater(reactor, 3)
        for node in nodes:
            await node.change(key=KEY)
        for node in nodes:
            await eventually(lambda node=node: len(node.routes()) == 2, "routes")  # type: ignore[misc]
        await deferLater(reactor, 1)
        self.assertEqual([pings.lost() for pings in all_pings], [0, 0, 0])
        self.assertEqual([node.babeld.supervisor.history.restarts for node in nodes], [0, 0, 0])

    async def test_stale(self) -> None:
        """What is there no more when babeld comes back goes; what is there stays all the time."""
        one, two, three = await self.row(0.2, KEY)
        pings = two.pings(one.address)
        command(
            "ip", "-n", two.namespace.name, "route", "add", "2001:db8:42:9::/64", "dev", "eth0", "proto", "42"
        )
        (pid,) = two.namespace.processes("babeld")
        three.namespace.ip("link", "set", "eth1", "down")
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: not two.babeld.interfaces, "nothing known")
        await eventually(lambda: one.subnet in two.routes(), "a route again")
        self.assertNotIn("2001:db8:42:9::", two.picture()[2])
        self.assertEqual(kept(two), {str(one.subnet), str(three.subnet)})
        # 3.8 s for each, and 3 s for what was there before.
        await eventually(lambda: kept(two) == {str(one.subnet)}, "nothing else", timeout=9)
        # babeld itself may reject for a while what it has lost.
        self.assertNotIn(f"{three.subnet} via", two.picture()[2])
        self.assertEqual(pings.lost(), 0)

    async def test_interface(self) -> None:
        """An interface is added to a running babeld, with the key."""
        one, two = Node(self, 1, key=KEY), Node(self, 2, lan=("eth0",), key=KEY)
        one.namespace.connect(two.namespace, 0)
        for node in (one, two):
            await node.start()
        await eventually(lambda: sent(two) > 5, "packets")
        self.assertEqual(one.babeld.neighbours, ())
        pid = one.namespace.processes("babeld")
        await one.change(lan=("eth0",))
        await eventually(lambda: one.routes() == {two.subnet} and two.routes() == {one.subnet}, "routes")
        self.assertEqual(one.namespace.processes("babeld"), pid)


def kept(node: Node) -> set[str]:
    """The subnets to which the kernel keeps a way beside babeld's."""
    return {line.split()[0] for line in node.namespace.ip("-6", "route", "show", "proto", "243").splitlines()}


def kept_ways(node: Node, other: Node) -> str:
    """The ways that the kernel keeps to another node."""
    return node.namespace.ip("-6", "route", "show", str(other.subnet), "proto", "243")


def sent(node: Node) -> int:
    """How many babel packets have gone out on the cable: whatever can be multicast there."""
    found = command("ip", "netns", "exec", node.namespace.name, "cat", "/proc/net/snmp6")
    return int(re.search(r"Udp6OutDatagrams\s+(\d+)", found)[1])  # type: ignore[index]


def switch(*nodes: Node) -> None:
    """Put nodes on one cable, their eth0."""
    middle = Namespace()
    middle.ip("link", "add", "lan", "type", "bridge")
    middle.ip("link", "set", "lan", "up")
    for number, node in enumerate(nodes):
        node.namespace.ip(
            "link", "add", "eth0", "type", "veth", "peer", "name", f"port{number}", "netns", middle.name
        )
        with node.namespace.entered():
            Path("/proc/sys/net/ipv6/conf/eth0/accept_dad").write_text("0")
        node.namespace.ip("link", "set", "eth0", "up")
        middle.ip("link", "set", f"port{number}", "master", "lan", "up")
    nodes[0].test.addCleanup(middle.destroy)
