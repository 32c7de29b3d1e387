"""Documents that pass from node to node with no registry anywhere: real tunnels between namespaces."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.test_node import Machine, until, until_wired
from tests.unit.node.fakes import node
from tests.unit.pki.making import authority, revocation_list
from vifibnet.model.endpoints import Endpoint
from vifibnet.wire.hearsay import PORT
from vifibnet.wire.revocation import Revoked

ETH_P_ALL = 3
"""packet(7)"""

BOUND = 2.0
"""Seconds that a busy machine may take; what is promised is one."""


class GossipTests(SynchronousTestCase):
    """Machines on cables; who knows what is in their state directories."""

    def machines(self, count: int) -> list[Machine]:
        """A chain of machines, each with a cable to the next, which it knows how to reach."""
        made = [Machine(self, f"{number}/16") for number in range(1, count + 1)]
        for number, (one, two) in enumerate(zip(made, made[1:], strict=False)):
            one.namespace.connect(two.namespace, number)
        until_wired(*made)
        for number, (one, two) in enumerate(zip(made, made[1:], strict=False)):
            one.know(two, Endpoint(f"10.99.{number}.2", 1194, "udp"))
        return made

    def give(self, machine: Machine, number: int) -> bytes:
        """Let a machine have a document, as if from its last run."""
        data = revocation_list(authority(), number, [Revoked(11, node(9))])
        (machine.directory / "revocations").write_bytes(data)
        return data

    def learns(self, machine: Machine, data: bytes, since: float) -> float:
        """Wait until a machine has the document; how many seconds that was after ``since``."""
        path = machine.directory / "revocations"
        until(lambda: path.exists() and path.read_bytes() == data, f"{machine.prefix} has the document")
        return time.monotonic() - since

    def start(self, machine: Machine) -> None:
        """Start a node and wait for its server."""
        machine.start("--pp", "1194", "udp")
        until(lambda: machine.namespace.processes("--mode"), "the server")

    def listen(self, machine: Machine) -> socket.socket:
        """Note from now on what goes over a machine's cable."""
        with machine.namespace.entered():
            sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.addCleanup(sniffer.close)
        sniffer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sniffer.bind(("eth0", ETH_P_ALL))
        return sniffer

    @staticmethod
    def ports(sniffer: socket.socket) -> Counter[int]:
        """How many datagrams were sent to or from each UDP port."""
        found: Counter[int] = Counter()
        with contextlib.suppress(BlockingIOError):
            while packet := sniffer.recv(2048):
                start = 40 if packet[0] >> 4 == 6 else 4 * (packet[0] & 15)
                if packet[6 if start == 40 else 9] == socket.IPPROTO_UDP:
                    found.update(struct.unpack_from("!HH", packet, start))
        return found

    def test_first_tunnel(self) -> None:
        """Whichever end has the newer document: the other has it as soon as there is a tunnel, and on the
        cable itself nothing of it is heard."""
        client, server = self.machines(2)
        sniffer = self.listen(server)
        for number, (knows, learns) in enumerate(((client, server), (server, client)), start=5):
            data = self.give(knows, number)
            self.start(server)
            client.start("--pp", "1194", "udp")
            until(lambda: client.linked(server), "the tunnel")
            took = self.learns(learns, data, time.monotonic())
            print(f"a newer document {took:.2f} s after the tunnel was seen to be up")
            self.assertLess(took, BOUND)
            for machine in (client, server):
                machine.end()
        ports = self.ports(sniffer)
        self.assertGreater(ports[1194], 0)
        self.assertEqual(ports[PORT], 0, ports)

    def test_through_the_network(self) -> None:
        """What the last in a chain brings, the first has at once, over two nodes that were content."""
        chain = self.machines(4)
        *others, last = chain
        data = self.give(last, 7)
        for machine in reversed(others):
            self.start(machine)
        until(lambda: all(map(Machine.linked, others, others[1:])), "the tunnels")
        self.start(last)
        began = self.learns(others[2], data, 0.0)
        took = self.learns(others[0], data, began)
        print(f"a new document over two hops {took:.3f} s after the third node had it")
        self.assertLess(took, BOUND)
