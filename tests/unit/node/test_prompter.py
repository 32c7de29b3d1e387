"""What is said to babeld in a neighbour's name goes out byte for byte, to our own address."""

from __future__ import annotations

import socket
from ipaddress import IPv6Address, IPv6Network
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.node.prompter import HOLDS, KNOWN, Prompter
from vifibnet.wire.babelpacket import FAR, datagram, errand, ihu, introduction, patience, questions, silence

OWN, PEER = IPv6Address("fe80::1"), IPv6Address("fe80::2")


class Raw:
    """A socket."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, tuple[Any, ...]]] = []
        self.closed = False

    def sendto(self, data: bytes, address: tuple[Any, ...]) -> None:
        """Keep it."""
        self.sent.append((data, address))

    def close(self) -> None:
        """No more."""
        self.closed = True


class PrompterTests(SynchronousTestCase):
    """On the loopback interface, which is everywhere."""

    def setUp(self) -> None:
        """Nothing is said yet."""
        self.raw = Raw()
        self.prompter = Prompter(OWN, lambda: self.raw)  # type: ignore[arg-type,return-value]
        self.where = (str(OWN), 0, 0, socket.if_nametoindex("lo"))

    def test_says(self) -> None:
        """A cost."""
        self.prompter.say("lo", PEER, 300)
        self.assertEqual(self.raw.sent, [(datagram(PEER, OWN, ihu(300, HOLDS)), self.where)])

    def test_introduces(self) -> None:
        """The hellos are counted on: babeld takes a number that it had for a late one."""
        for number in (0, 2):
            self.prompter.introduce("lo", PEER, 96, 1.0)
            packet = datagram(PEER, OWN, introduction(96, HOLDS, 1.0, number))
            self.assertEqual(self.raw.sent.pop(), (packet, self.where))

    def test_many(self) -> None:
        """Of those who were not spoken for while thousands of others were, nothing is remembered."""
        others = iter(range(3, 9 * KNOWN))
        for between, number in ((0, 0), (KNOWN - 1, 2), (KNOWN, 0), (1, 2)):
            for _ in range(between):
                self.prompter.introduce("lo", IPv6Address(next(others)), 96, 1.0)
            self.prompter.introduce("lo", PEER, 96, 1.0)
            packet = datagram(PEER, OWN, introduction(96, HOLDS, 1.0, number))
            self.assertEqual(self.raw.sent.pop(), (packet, self.where))

    def test_asks(self) -> None:
        """For more routes than one packet has room for."""
        prefixes = [IPv6Network((number << 64, 64)) for number in range(100)]
        self.prompter.ask("lo", PEER, prefixes)
        sent = [datagram(PEER, OWN, each) for each in questions(prefixes)]
        self.assertEqual(self.raw.sent, [(each, self.where) for each in sent])
        self.assertGreater(len(sent), 1)

    def test_asks_often(self) -> None:
        """So often that babeld has no room for the answers: a sixteenth of an MTU, or its destinations and
        some more; not where these are too many."""
        prefixes = [IPv6Network((number << 64, 64)) for number in range(5)]
        for among, room in ((3, 90), (300, 305)):
            self.raw.sent = []
            self.prompter.ask("lo", PEER, prefixes, among=among)
            size = len(next(questions(prefixes[:1]))) - 4
            self.assertGreater(sum(len(packet) - 52 for packet, _ in self.raw.sent) // size, room)
        self.raw.sent = []
        self.prompter.ask("lo", PEER, prefixes, among=9999)
        self.prompter.ask("lo", PEER, [], among=3)
        self.assertEqual(len(self.raw.sent), 1)

    def test_inquires(self) -> None:
        """That goes to the neighbour itself, from us."""
        prefixes = [IPv6Network("2001:db8:42:1::/64")]
        self.prompter.inquire("lo", PEER, prefixes)
        (packet,) = questions(prefixes)
        where = (str(PEER), *self.where[1:])
        self.assertEqual(self.raw.sent, [(datagram(OWN, PEER, packet), where)])

    def test_hurries(self) -> None:
        """It is asked for an answer."""
        self.prompter.hurry("lo", PEER)
        self.assertEqual(self.raw.sent, [(datagram(PEER, OWN, errand()), self.where)])

    def test_forgets(self) -> None:
        """The hellos that follow are counted on from there."""
        self.prompter.introduce("lo", PEER, 96, 1.0)
        self.prompter.forget("lo", PEER)
        self.prompter.introduce("lo", PEER, 96, 1.0)
        packets = [silence(2), introduction(96, HOLDS, 1.0, FAR + 3)]
        self.assertEqual(self.raw.sent[1:], [(datagram(PEER, OWN, each), self.where) for each in packets])

    def test_quietens(self) -> None:
        """These hellos count, too."""
        self.prompter.introduce("lo", PEER, 96, 1.0)
        self.prompter.quieten("lo", PEER)
        self.prompter.quieten("lo", PEER)
        packets = [patience(2), patience(FAR + 3)]
        self.assertEqual(self.raw.sent[1:], [(datagram(PEER, OWN, each), self.where) for each in packets])

    def test_no_interface(self) -> None:
        """One that is gone costs nothing."""
        self.prompter.say("vif-gone", PEER, 300)
        self.assertEqual(self.raw.sent, [])
        self.prompter.close()
        self.assertTrue(self.raw.closed)
