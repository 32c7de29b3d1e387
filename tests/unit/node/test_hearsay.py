"""Who believes what about where we come from."""

from __future__ import annotations

import socket
from random import Random
from typing import Any, cast

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.addresses import Prefix
from vifibnet.node.documents import Documents
from vifibnet.node.hearsay import REPEAT, SOON, Hearsay, Telling
from vifibnet.wire.hearsay import PORT, format_seen

OWN, PEER, OTHER = (Prefix(number, 16) for number in (5, 6, 7))
# The one interface that every machine has stands for a tap.
TAP, INDEX = "lo", socket.if_nametoindex("lo")


class FakeSocket:
    """Datagrams that came, with the interface's number; datagrams that were sent."""

    def __init__(self) -> None:
        self.waiting: list[tuple[bytes, int]] = []
        self.sent: list[tuple[bytes, tuple[str, int, int, int]]] = []
        self.closed = False
        self.port = PORT

    def fileno(self) -> int:
        """None that is real."""
        return -1

    def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int, int, int]]:
        """The next one."""
        if not self.waiting:
            raise BlockingIOError
        data, scope = self.waiting.pop(0)
        return data[:size], ("fe80::1", self.port, 0, scope)

    def sendto(self, data: bytes, address: tuple[str, int, int, int]) -> None:
        """Remember it."""
        self.sent.append((data, address))

    def close(self) -> None:
        """Remember that."""
        self.closed = True


class HearsayTests(SynchronousTestCase):
    """One node that serves and is served."""

    def setUp(self) -> None:
        """It has started."""
        self.reactor = cast(Any, MemoryReactorClock())
        self.socket = FakeSocket()
        self.served: list[Telling] = []
        self.tunnels = {TAP: PEER}
        self.changes = 0
        self.documents = Documents(self.reactor, Random(1), [])
        self.hearsay = Hearsay(
            self.reactor,
            OWN,
            lambda: self.served,
            lambda: self.tunnels,
            self.changed,
            self.documents,
            lambda: cast(socket.socket, self.socket),
        )
        self.hearsay.startService()

    def changed(self) -> None:
        """Count."""
        self.changes += 1

    def hear(self, data: bytes, index: int = INDEX) -> str | None:
        """A datagram comes; what is believed then."""
        self.socket.waiting.append((data, index))
        [reader] = self.reactor.getReaders()
        reader.doRead()
        return self.hearsay.address

    def test_believe(self) -> None:
        """What the peer at the other end says of us is believed, and told once."""
        self.assertIsNone(self.hearsay.address)
        self.assertEqual(self.hear(format_seen(OWN, "192.0.2.1")), "192.0.2.1")
        self.assertEqual(self.hear(format_seen(OWN, "192.0.2.1")), "192.0.2.1")
        self.assertEqual(self.changes, 1)
        self.assertEqual(self.hear(format_seen(OWN, "192.0.2.2")), "192.0.2.2")
        self.assertEqual(self.changes, 2)

    def test_do_not_believe(self) -> None:
        """What is said of others, over other interfaces, or is something else, counts for nothing."""
        self.assertIsNone(self.hear(format_seen(OTHER, "192.0.2.1")))
        self.assertIsNone(self.hear(b"rubbish"))
        self.assertIsNone(self.hear(format_seen(OWN, "192.0.2.1"), index=987654))
        self.tunnels = {"vifc7": PEER}
        self.assertIsNone(self.hear(format_seen(OWN, "192.0.2.1")))
        self.assertEqual(self.changes, 0)

    def test_forget(self) -> None:
        """What a peer said is void when its tunnel has ended, also when another took its tap."""
        self.hear(format_seen(OWN, "192.0.2.1"))
        self.tunnels = {TAP: OTHER}
        self.assertIsNone(self.hearsay.address)
        self.tunnels = {}
        self.assertIsNone(self.hearsay.address)

    def test_tell(self) -> None:
        """Whoever comes is told soon, and again later, over its own tap only."""
        self.served = [(TAP, PEER, "192.0.2.6"), ("nosuchtap", OTHER, "192.0.2.7")]
        self.hearsay.served_changed()
        self.hearsay.served_changed()
        self.assertEqual(self.told(), [])
        self.reactor.advance(SOON)
        told = [(b"vifibnet-seen 6/16 192.0.2.6", ("ff02::1", PORT, 0, INDEX))]
        self.assertEqual(self.told(), told)
        self.reactor.advance(REPEAT - SOON)
        self.assertEqual(self.told(), told * 2)

    def told(self) -> list[tuple[bytes, tuple[str, int, int, int]]]:
        """Who is seen where, without the numbers of documents."""
        return [each for each in self.socket.sent if each[0].startswith(b"vifibnet-seen")]

    def test_stop(self) -> None:
        """Nothing is left."""
        self.hearsay.served_changed()
        self.hearsay.stopService()
        self.assertTrue(self.socket.closed)
        self.assertEqual((self.reactor.getReaders(), self.reactor.getDelayedCalls()), ([], []))
        self.hearsay.served_changed()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_documents(self) -> None:
        """Those at the other ends of our tunnels are told their numbers, over each tap once; what comes from
        another port is not looked at, and what cannot be dealt with does not end the listening."""
        self.served = [(TAP, PEER, "192.0.2.6"), (TAP, OTHER, "192.0.2.7")]
        self.hearsay.tell()
        numbers = [each for each in self.socket.sent if each[0].startswith(b"vifibnet-have")]
        self.assertEqual(numbers, [(b"vifibnet-have", ("ff02::1", PORT, 0, INDEX))])
        self.socket.port = PORT + 1
        self.assertIsNone(self.hear(format_seen(OWN, "192.0.2.1")))
        self.socket.port = PORT
        self.changes = cast(Any, None)
        self.assertIsNotNone(self.hear(format_seen(OWN, "192.0.2.1")))
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.assertEqual(self.hear(format_seen(OWN, "192.0.2.1")), "192.0.2.1")

    def test_port_in_use(self) -> None:
        """The node lives without it."""

        def refuse() -> socket.socket:
            raise OSError(98, "Address already in use")

        hearsay = Hearsay(self.reactor, OWN, lambda: [], dict, self.changed, self.documents, refuse)
        hearsay.startService()
        hearsay.served_changed()
        hearsay.stopService()
        self.assertIsNone(hearsay.address)
