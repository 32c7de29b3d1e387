"""Reading sockets, whatever the readers do."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.node.ear import AT_ONCE, Ear, interface


class Notes(Ear):
    """Keeps what comes, and stumbles over some of it."""

    def __init__(self, reactor: Any, opened: socket.socket, longest: int) -> None:
        super().__init__(reactor, opened, longest)
        self.found: list[bytes] = []
        self.troubles = 0

    def heard(self, data: bytes, sender: Any) -> None:
        """One more."""
        self.found.append(data)
        if data == b"nonsense":
            raise ValueError(data)

    def missed(self) -> None:
        """Some are lost."""
        self.troubles += 1


class Broken:
    """A socket whose kernel keeps no more than it tells."""

    def __init__(self, opened: socket.socket) -> None:
        self.opened = opened
        self.troubles = 1

    def recvfrom(self, longest: int) -> Any:
        """It tells that first."""
        if self.troubles:
            self.troubles -= 1
            raise OSError(105, "No buffer space available")
        return self.opened.recvfrom(longest)

    def close(self) -> None:
        """The other one."""
        self.opened.close()


class EarTests(SynchronousTestCase):
    """A pair of sockets, one of which an ear reads."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        self.mouth, self.opened = socket.socketpair(socket.AF_UNIX, kind)
        self.addCleanup(self.mouth.close)
        self.ear = Notes(self.reactor, self.opened, 8)
        self.addCleanup(self.ear.close)

    def test_all(self) -> None:
        """All that is there is read, but others get their turn; what is too long is cut off."""
        sent = [b"%d" % number for number in range(AT_ONCE)] + [b"much too long"]
        for data in sent:
            self.mouth.send(data)
        self.ear.doRead()
        self.assertEqual(self.ear.found, sent[:AT_ONCE])
        self.ear.doRead()
        self.ear.doRead()
        self.assertEqual(self.ear.found[AT_ONCE:], [b"much too"])

    def test_stumbles(self) -> None:
        """What cannot be dealt with is logged, and the rest is read."""
        for data in (b"nonsense", b"sense"):
            self.mouth.send(data)
        self.ear.doRead()
        self.assertEqual(self.ear.found, [b"nonsense", b"sense"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_missed(self) -> None:
        """A trouble is reported, and what is there is read all the same."""
        broken = Broken(self.opened)
        ear = Notes(self.reactor, broken, 8)  # type: ignore[arg-type]
        self.mouth.send(b"sense")
        ear.doRead()
        self.assertEqual((ear.troubles, ear.found), (1, []))
        ear.doRead()
        self.assertEqual((ear.troubles, ear.found), (1, [b"sense"]))

    def test_close(self) -> None:
        """It reads from its start to its end, and the socket is gone then."""
        self.ear.startReading()
        self.assertEqual(self.reactor.getReaders(), [self.ear])
        self.ear.close()
        self.assertEqual((self.reactor.getReaders(), self.opened.fileno()), ([], -1))

    def test_interface(self) -> None:
        """Where a datagram came in by: only link-local senders tell, as long as it is there."""
        index = socket.if_nametoindex("lo")
        self.assertEqual(interface(("fe80::1", 1, 0, index)), "lo")
        self.assertIsNone(interface(("2001:db8::1", 1, 0, 0)))
        self.assertIsNone(interface(("fe80::1", 1, 0, 1 << 30)))
