"""Which sockets of a process may have their packets fragmented."""

from __future__ import annotations

import os
import socket

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.node.fragments import allow_fragments

MTU_DISCOVER, DONT = 10, 0


class FragmentTests(SynchronousTestCase):
    """Our own process will do."""

    def discovery(self, family: socket.AddressFamily, kind: socket.SocketKind) -> int:
        """What a socket is told for IPv4 when fragments are allowed while it is open."""
        with socket.socket(family, kind) as one:
            before = one.getsockopt(socket.IPPROTO_IP, MTU_DISCOVER)
            self.assertNotEqual(before, DONT)
            allow_fragments(os.getpid())
            return one.getsockopt(socket.IPPROTO_IP, MTU_DISCOVER)

    def test_udp(self) -> None:
        """Packets of both families' UDP sockets may, those of TCP discover the path as before."""
        for family in (socket.AF_INET, socket.AF_INET6):
            self.assertEqual(self.discovery(family, socket.SOCK_DGRAM), DONT)
            self.assertNotEqual(self.discovery(family, socket.SOCK_STREAM), DONT)

    def test_no_process(self) -> None:
        """Of a process that is gone, nothing can be told."""
        self.assertRaises(OSError, allow_fragments, 2**22 + 1)
