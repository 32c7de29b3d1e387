"""Two nodes' daemons together: taps, tunnels, babeld and the kernel's routes between namespaces."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.trial.unittest import TestCase

from tests.integration.namespaces import Namespace, ReactorInside, command, eventually, within
from tests.unit.pki.making import identity, write_identity
from vifibnet.model.addresses import Network, Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.node.babeld import Babeld, BabeldSettings, Interface
from vifibnet.node.kernel import Kernel
from vifibnet.node.openvpn import OpenVPNClient, OpenVPNServer, OpenVPNSettings

NETWORK = Network.parse("2001:db8:42::/48")
HELLO = 0.2


class Node:
    """A node's daemons in a namespace."""

    def __init__(self, test: TestCase, value: int, network: Network = NETWORK, **more: Any) -> None:
        self.namespace = Namespace()
        test.addCleanup(self.namespace.destroy)
        self.prefix, self.network = Prefix(value, 16), network
        self.address, self.subnet = network.address(self.prefix), network.subnet(self.prefix)
        self.state = Path(tempfile.mkdtemp(prefix="vifibnet test "))
        test.addCleanup(shutil.rmtree, self.state)
        self.reactor = ReactorInside(self.namespace)
        self.kernel = Kernel(self.reactor, self.state)
        self.changes = 0
        settings = BabeldSettings(
            network, self.prefix, ("vifc0", "vifs0"), self.state, self.state, hello=HELLO
        )
        settings = replace(settings, **more)
        self.babeld = Babeld(
            self.reactor,
            random.Random(value),
            settings,
            self.changed,
            before=self.kernel.flush_routes,
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

    def openvpn(self) -> OpenVPNSettings:
        """Settings with a certificate."""
        ca, cert, key = write_identity(self.state, identity(prefix=str(self.prefix)))
        return OpenVPNSettings(ca, cert, key, self.state, self.state, HELLO)

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

    def routes(self) -> set[object]:
        """The prefixes that babeld has a way to."""
        return {route.prefix for route in self.babeld.routes if route.reachable}

    def picture(self) -> list[str]:
        """The namespace's links, addresses and routes."""
        with self.namespace.entered():
            return [command("ip", "link"), command("ip", "-6", "addr"), command("ip", "-6", "route")]


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
        self.assertEqual(two.babeld.supervisor.restarts, 1)
        await within(1, two.babeld.stopService())
        # It has said goodbye: no timeout is needed.
        await eventually(lambda: not one.routes(), "no route", timeout=3)

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
