"""A real babeld that is asked for what only another one knows."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv6Address, IPv6Network

from twisted.trial.unittest import TestCase

from tests.integration.namespaces import eventually
from tests.integration.test_routing import Node
from tests.unit.wire.test_babelpacket import packet, request
from vifibnet.node.hurry import Hurry, open_socket
from vifibnet.node.packetfilter import attach
from vifibnet.node.prompter import open_raw
from vifibnet.wire.babelpacket import asked, asking, datagram

WINDOW, LARGEST = 100, 1 << 16
"""babeld answers who wants a sequence number that is at most so much greater than the last one."""

TLVS = 52
"""Where the first TLV of a datagram begins."""


def kinds(data: bytes) -> list[int]:
    """The types of the TLVs of a datagram (no padding)."""
    found, at = [], TLVS
    while at + 1 < len(data):
        found.append(data[at])
        at += 2 + data[at + 1]
    return found


def router(node: Node, prefix: IPv6Network) -> bytes:
    """The router id of whoever announces a prefix, which a node's babeld says but nodes need not know."""
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(5)
        control.connect(str(node.settings.socket))
        control.sendall(b"dump\n")
        told = b""
        while told.count(b"\nok") < 2:
            told += control.recv(1 << 16)
    (found,) = set(re.findall(rf"prefix {prefix} .* id ([0-9a-f:]+)", told.decode()))
    return bytes.fromhex(found.replace(":", ""))


class HurryTests(TestCase):
    """Three in a row. Their hellos are so rare that a request would have to wait."""

    async def start(self) -> None:
        """All know each other."""
        names = ("eth0", "eth1")
        self.nodes = [Node(self, number, hello=2, tunnels=names, update_interval=60) for number in (1, 2, 3)]
        one, two, three = self.nodes
        one.namespace.connect(two.namespace, 0)
        two.namespace.connect(three.namespace, 1)
        for node in self.nodes:
            await node.start()
        await eventually(lambda: three.subnet in one.routes(), "the way to the far end", timeout=20)
        (route,) = (each for each in one.babeld.routes if each.prefix == three.subnet)
        self.far, self.via, self.router = three.subnet, route.via, router(one, three.subnet)
        with three.namespace.entered():
            self.ear = open_socket()
        self.addCleanup(self.ear.close)
        attach(self.ear, asking(64))

    def address(self, node: Node, interface: str) -> IPv6Address:
        """Its link-local address there."""
        (found,) = (each.address for each in node.babeld.interfaces if each.name == interface)
        assert found is not None
        return IPv6Address(found)

    def ask(self) -> None:
        """The first one wants to hear of the last one, with any number that there can be: one is right."""
        one = self.nodes[0]
        wanted = [request(self.far, seqno, 5, self.router) for seqno in range(0, LARGEST, WINDOW)]
        source, target = self.address(one, "eth0"), IPv6Address(self.via)
        with one.namespace.entered(), open_raw() as raw:
            where = (self.via, 0, 0, socket.if_nametoindex("eth0"))
            for start in range(0, len(wanted), 30):
                raw.sendto(datagram(source, target, packet(*wanted[start : start + 30])), where)

    async def heard(self) -> list[int]:
        """What the last one hears together with that."""
        found: list[bytes] = []

        def hear() -> bool:
            try:
                found.append(self.ear.recv(2048))
            except BlockingIOError:
                return False
            return self.far in asked(found[-1])

        await eventually(hear, "a request for the last one's subnet")
        return kinds(found[-1])

    async def test_slow(self) -> None:
        """What babeld is to ask, it keeps for a while."""
        await self.start()
        self.ask()
        self.assertEqual(await self.heard(), [10])

    async def test_hurried(self) -> None:
        """It sends that at once, together with an answer that nobody has asked for."""
        await self.start()
        two = self.nodes[1]
        own = self.address(two, "eth1")
        # Interfaces are looked up when something is sent.
        with two.namespace.entered():
            hurry = Hurry(two.reactor, own, 64, two.babeld.offers, two.babeld.is_tunnel)
            hurry.startService()
            self.addCleanup(hurry.stopService)
            self.ask()
            self.assertEqual(await self.heard(), [10, 3])
