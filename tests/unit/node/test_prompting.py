"""What babeld is told of those who come back, and how often."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address, IPv6Network

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.liveness import LINK, first
from vifibnet.node.otherend import End
from vifibnet.node.prompting import ASKED, AT_ONCE, PACE, QUIET, Prompting
from vifibnet.wire.babeld import Neighbour

PEER, TAP = IPv6Address("fe80::2"), "vifs0"


class Words:
    """A prompter that counts which routes all behind a tap are told."""

    def __init__(self) -> None:
        self.told: list[int] = []
        self.quietened = self.introduced = 0

    def introduce(self, *_: object) -> None:
        """Somebody is there."""
        self.introduced += 1

    def ask(self, interface: str, neighbour: IPv6Address, prefixes: Iterable[IPv6Network]) -> None:
        """All hear of these."""
        assert (interface, neighbour) == (TAP, PEER)
        self.told.append(len(list(prefixes)))

    def quieten(self, interface: str, neighbour: IPv6Address) -> None:
        """No more unicast hellos are expected."""
        assert (interface, neighbour) == (TAP, PEER)
        self.quietened += 1


class NewcomerTests(SynchronousTestCase):
    """Somebody who comes back all the time, and whom babeld never knows."""

    def count(self, routes: int, seconds: float) -> list[int]:
        """How many routes all are told each time."""
        words = Words()
        prefixes = [IPv6Network((number << 64, 64)) for number in range(routes)]
        prompting = Prompting(words, list, lambda: prefixes, lambda *_: {}, lambda *_: False)  # type: ignore[arg-type]
        for turn in range(round(seconds / 0.05)):
            now = 100 + turn * 0.05
            end = End(TAP, PEER, first(0, 0.25, now), mutual=True, alive=now)
            self.assertFalse(prompting.prompt({(TAP, PEER.packed): end}, now, 0.0, 1.0))
        return words.told

    def test_few(self) -> None:
        """A small network is told some times a second."""
        self.assertEqual(self.count(3, 4.5 * ASKED), [3] * 5)

    def test_many(self) -> None:
        """A large one is told more rarely, and not more than so many."""
        self.assertEqual(self.count(10 * PACE, 29.0), [10 * PACE] * 3)
        self.assertEqual(self.count(2 * AT_ONCE, 1.0), [AT_ONCE])


class QuietTests(SynchronousTestCase):
    """Somebody with whom all is well."""

    def setUp(self) -> None:
        """It has been there for long, and babeld hears it."""
        self.words = Words()
        self.reach = 0xFFFF
        self.end = End(TAP, PEER, first(0, 0.25, 0.0), mutual=True, alive=-100.0)
        self.prompting = Prompting(self.words, self.neighbours, list, lambda *_: {}, lambda *_: False)  # type: ignore[arg-type]

    def neighbours(self) -> list[Neighbour]:
        """babeld's, of whom one has no heart."""
        others = [str(PEER), "fe80::3"]
        return [Neighbour("1", address, TAP, self.reach, LINK, LINK, LINK) for address in others]

    def turn(self, now: float) -> int:
        """How often babeld has been told by then."""
        self.end.pulse = first(0, 0.25, now)
        self.prompting.prompt({(TAP, PEER.packed): self.end}, now, 0.0, 1.0)
        return self.words.quietened

    def test_now_and_then(self) -> None:
        """babeld is told once, and once more after a while."""
        self.assertEqual(
            [self.turn(now) for now in (1.0, 1.05, QUIET, 1.0 + QUIET, 2 * QUIET)], [1, 1, 1, 2, 2]
        )

    def test_not_heard_by_itself(self) -> None:
        """As long as unicast hellos are all that babeld has of it, they count."""
        self.reach = 0x8000
        self.assertEqual(self.turn(1.0), 0)
        self.reach = 0xC000
        self.assertEqual(self.turn(1.05), 1)

    def test_trouble(self) -> None:
        """It waits for better times."""
        self.end.mutual = False
        self.assertEqual(self.turn(1.0), 0)

    def test_introduced(self) -> None:
        """Who has been introduced has sent unicast hellos, the next of which would be missed soon."""
        self.assertEqual(self.turn(1.0), 1)
        self.end.alive, self.reach = 2.0, 0
        self.prompting = Prompting(self.words, list, list, lambda *_: {}, lambda *_: False)  # type: ignore[arg-type]
        self.assertEqual(self.turn(2.0), 1)
        self.assertEqual(self.words.introduced, 1)
        self.prompting = Prompting(self.words, self.neighbours, list, lambda *_: {}, lambda *_: False)  # type: ignore[arg-type]
        self.reach = 0xFFFF
        self.assertEqual(self.turn(10.0), 2)
