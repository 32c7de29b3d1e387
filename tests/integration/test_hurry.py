"""A real babeld that is asked for what only another one knows."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from tests.integration.namespaces import Namespace, eventually
from tests.integration.test_routing import Node
from tests.unit.wire.test_babelpacket import packet, plain, request
from vifibnet.lab.children import sleep
from vifibnet.node.hurry import Hurry, open_socket
from vifibnet.node.packetfilter import attach
from vifibnet.node.prompter import Prompter, open_raw
from vifibnet.wire.babelpacket import Wanted, asked, asking, datagram

WINDOW, LARGEST = 100, 1 << 16
"""babeld answers who wants a sequence number that is at most so much greater than the last one."""

UPDATE = 8
"""The type of a TLV that tells of a route."""

TLVS = 12
"""Where the first TLV of a datagram, with its UDP header, begins."""

HEADER = 40
"""Bytes of an IPv6 header."""


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


async def quiet(hear: Callable[[], object], heard: list[str]) -> None:
    """Wait until nothing more is to be heard."""
    said = -1
    while said != len(heard):
        said = len(heard)
        await sleep(reactor, 0.5)
        hear()
    heard.clear()


class FilterTests(TestCase):
    """Two namespaces with a cable between them, without any babeld."""

    async def test_filter(self) -> None:
        """Of all that may come to a babeld's port, what asks for something is heard, and nothing else."""
        one, other = Namespace(), Namespace()
        self.addCleanup(other.destroy)
        self.addCleanup(one.destroy)
        one.connect(other, 0)
        with other.entered():
            babeld = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            group = IPv6Address("ff02::1:6").packed + struct.pack("=I", socket.if_nametoindex("eth0"))
            babeld.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
            ear = open_socket()
        self.addCleanup(babeld.close)
        self.addCleanup(ear.close)
        attach(ear, asking(64))
        near, far = IPv6Network("2001:db8:42:1::/64"), IPv6Network("2001:db8:43::/48")
        hello, router_id = bytes.fromhex("0406000000010064"), bytes.fromhex("060a0000") + bytes(8)
        said = [
            (packet(request(near)), True),
            (packet(request(far), router_id), True),
            (packet(hello, router_id, request(far), request(near)), True),
            (packet(hello, router_id, plain(far), plain(near)), True),
            (packet(plain(near)), True),
            (packet(bytes.fromhex("09020000")), False),
            (packet(hello, plain(near), router_id), False),
            (packet(request(near, hops=1)), False),
            (packet(hello), False),
            (packet(router_id, hello), False),
            (packet(hello, request(near), router_id), False),
            (packet(), False),
        ]
        source, target = IPv6Address("fe80::1"), IPv6Address("ff02::1:6")
        packets = [(datagram(source, target, payload), heard) for payload, heard in said]
        to_others = bytearray(packets[0][0])
        to_others[42:44] = bytes.fromhex("1a29")
        packets += [(bytes(to_others), False), (datagram(source, target, packet(request(near, 7))), True)]
        with one.entered():
            raw, where = open_raw(), (str(target), 0, 0, socket.if_nametoindex("eth0"))
        self.addCleanup(raw.close)
        probe = datagram(source, target, packet(request(near, 9)))
        found: list[bytes] = []

        def hear() -> bool:
            with contextlib.suppress(BlockingIOError):
                found.append(ear.recv(2048))
            return packets[-1][0][HEADER:] in found

        def hear_probe() -> bool:
            raw.sendto(probe, where)
            hear()
            return bool(found)

        # A cable takes a moment.
        await eventually(hear_probe, "a probe")
        for data, _ in packets:
            raw.sendto(data, where)
        await eventually(hear, "the last one")
        expected = [data[HEADER:] for data, heard in packets if heard]
        self.assertEqual([data for data in found if data != probe[HEADER:]], expected)


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
            return Wanted(self.far, newer=True) in asked(found[-1])

        await eventually(hear, "a request for the last one's subnet")
        return kinds(found[-1])

    async def test_slow(self) -> None:
        """What babeld is to ask, it keeps for a while; a hello of its own may go with it."""
        await self.start()
        self.ask()
        self.assertNotIn(3, await self.heard())

    async def test_at_once(self) -> None:
        """Where babeld has no room for the answers, it does not keep them: that neighbour hears them before
        the one that has asked first."""
        await self.start()
        one, two, three = self.nodes
        ears: dict[str, socket.socket] = {}
        for node, name in ((one, "eth0"), (three, "eth1")):
            with node.namespace.entered():
                ears[name] = open_socket()
            self.addCleanup(ears[name].close)
        heard: list[str] = []

        def hear() -> bool:
            for name, ear in ears.items():
                with contextlib.suppress(BlockingIOError):
                    while True:
                        heard.extend([name] * (UPDATE in kinds(ear.recv(2048))))
            return len(set(heard)) == len(ears)

        for _ in range(5):
            await quiet(hear, heard)
            with two.namespace.entered():
                for (name, node), among in zip({"eth0": one, "eth1": three}.items(), (None, 3), strict=True):
                    prompter = Prompter(self.address(two, name))
                    prompter.ask(name, self.address(node, name), [two.subnet], among)
                    prompter.close()
            await eventually(hear, "both answers")
            self.assertEqual(heard[0], "eth1")

    async def test_hurried(self) -> None:
        """It sends that at once, together with an answer that nobody has asked for."""
        await self.start()
        two = self.nodes[1]
        own = self.address(two, "eth1")
        # Interfaces are looked up when something is sent.
        with two.namespace.entered():
            hurry = Hurry(two.reactor, own, 64, two.babeld)
            hurry.startService()
            self.addCleanup(hurry.stopService)
            self.ask()
            self.assertEqual((await self.heard())[:2], [10, 3])
