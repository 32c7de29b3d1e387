"""Frames of ours between two interfaces of the kernel's."""

from __future__ import annotations

import time

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.namespaces import Namespace
from vifibnet.node.beatsocket import EVERYBODY, BeatSocket

LATE = 0.1
"""Seconds after which a frame is read."""


class BeatSocketTests(TestCase):
    """Two namespaces with a cable between them."""

    def setUp(self) -> None:
        """A socket in each."""
        one, other = Namespace(), Namespace()
        self.addCleanup(other.destroy)
        self.addCleanup(one.destroy)
        one.connect(other, 0)
        with one.entered():
            self.here = BeatSocket()
        with other.entered():
            self.there = BeatSocket()
        for opened in (self.here, self.there):
            self.addCleanup(opened.close)

    async def test_age(self) -> None:
        """A frame comes out with where it came in, and how long ago, however late it is read."""
        self.assertEqual(list(self.there.read()), [])
        found: list[tuple[str, bytes, bytes, float]] = []
        deadline = reactor.seconds() + 5.0
        # The kernel needs a moment to begin with its stamps; a frame before that is as old as its reading.
        while not any(age >= LATE for *_, age in found):
            self.assertLess(reactor.seconds(), deadline, found)
            began = time.time()
            self.here.send("eth0", EVERYBODY, b"a frame")
            await deferLater(reactor, LATE)
            found = list(self.there.read())
            for tap, hardware, data, age in found:
                self.assertEqual((tap, len(hardware), data), ("eth0", len(EVERYBODY), b"a frame"))
                self.assertTrue(0.0 <= age <= time.time() - began)

    def test_no_time(self) -> None:
        """What comes while nobody has time to read is still there: of a hundred tunnels in six seconds."""
        for _ in range(2000):
            self.here.send("eth0", EVERYBODY, b"a frame")
        self.assertEqual(len(list(self.there.read())), 2000)

    def test_down(self) -> None:
        """An interface that is not there costs nothing."""
        self.here.send("eth9", EVERYBODY, b"lost")
        self.assertEqual(list(self.there.read()), [])
