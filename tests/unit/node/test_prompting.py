"""What babeld is told of those who come back, and how often."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address, IPv6Network

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.liveness import first
from vifibnet.node.otherend import End
from vifibnet.node.prompting import ASKED, AT_ONCE, PACE, Prompting

PEER, TAP = IPv6Address("fe80::2"), "vifs0"


class Words:
    """A prompter that counts which routes all behind a tap are told."""

    def __init__(self) -> None:
        self.told: list[int] = []

    def introduce(self, *_: object, **how: object) -> None:
        """Somebody is there."""

    def ask(self, interface: str, neighbour: IPv6Address, prefixes: Iterable[IPv6Network]) -> None:
        """All hear of these."""
        assert (interface, neighbour) == (TAP, PEER)
        self.told.append(len(list(prefixes)))


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
        """A small network is told once a second."""
        self.assertEqual(self.count(3, 4.5 * ASKED), [3] * 5)

    def test_many(self) -> None:
        """A large one is told more rarely, and not more than so many."""
        self.assertEqual(self.count(10 * PACE, 29.0), [10 * PACE] * 3)
        self.assertEqual(self.count(2 * AT_ONCE, 1.0), [AT_ONCE])
