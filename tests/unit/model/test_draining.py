"""Who reaches what through us."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Network

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.draining import passing
from vifibnet.model.liveness import DRAINED, INFINITY

FAR, OTHER = IPv6Network("2001:db8:42:9::/64"), IPv6Network("2001:db8:42:8::/64")


@dataclass
class Route:
    """What a neighbour announces."""

    prefix: IPv6Network
    interface: str
    via: str
    refmetric: int
    installed: bool = False
    link: int = DRAINED

    @property
    def metric(self) -> int:
        """Ours."""
        return min(INFINITY, self.refmetric + self.link)


@dataclass
class Neighbour:
    """At the other end of something."""

    interface: str
    address: str
    cost: int = DRAINED


ONE, TWO = Neighbour("vifs0", "fe80::1"), Neighbour("vifs0", "fe80::2")
WAY = Route(FAR, "vifs0", "fe80::2", 96, installed=True)
"""To FAR over TWO."""


class PassingTests(SynchronousTestCase):
    """A node with two neighbours on one server's tap."""

    def passes(self, refmetric: int | None) -> bool:
        """Whether ONE, which is so far from FAR, gets there over us."""
        theirs = [] if refmetric is None else [Route(FAR, "vifs0", "fe80::1", refmetric)]
        return passing(ONE, [WAY, *theirs]) == {FAR}

    def test_distance(self) -> None:
        """As far as over us, or not announced, is over us; a little less may be a round-trip time's."""
        over_us = WAY.metric + DRAINED
        self.assertEqual(
            [self.passes(each) for each in (None, INFINITY, over_us, over_us - 20, over_us - 97, 192)],
            [True, True, True, True, False, False],
        )

    def test_not_ours(self) -> None:
        """Who is our next hop does not come back; what we do not use, or reaches nobody, neither."""
        self.assertEqual(passing(TWO, [WAY]), frozenset())
        self.assertEqual(passing(ONE, [Route(FAR, "vifs0", "fe80::2", 96)]), frozenset())
        gone = Route(FAR, "vifs0", "fe80::2", INFINITY, installed=True)
        self.assertEqual(passing(ONE, [gone]), frozenset())
        self.assertEqual(passing(Neighbour("vifs0", "fe80::1", INFINITY), [WAY]), frozenset())

    def test_lan(self) -> None:
        """Those of one LAN need us for nobody there, but for whom is behind a tunnel."""
        there = Route(OTHER, "lan0", "fe80::4", 0, installed=True, link=96)
        self.assertEqual(passing(Neighbour("lan0", "fe80::3", 96), [WAY, there], ("lan0",)), {FAR})
        self.assertEqual(passing(Neighbour("lan1", "fe80::5", 96), [there], ("lan0", "lan1")), {OTHER})
