"""Distances between neighbours, as babel's lines change."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.liveness import INFINITY
from vifibnet.model.ways import Health, Way
from vifibnet.node.around import Around
from vifibnet.wire.babeld import Route

PREFIXES = [IPv6Network(f"2001:db8:42:{number}::/64") for number in range(3)]
WAYS = [Way(f"fe80::{number}", "vifc0") for number in range(3)]

ROUTES = st.builds(
    lambda prefix, way, refmetric, link: Route(
        id=f"{PREFIXES.index(prefix)}-{way.via}",
        prefix=prefix,
        installed=False,
        metric=min(refmetric + link, INFINITY),
        refmetric=refmetric,
        via=way.via,
        interface=way.interface,
    ),
    st.sampled_from(PREFIXES),
    st.sampled_from(WAYS),
    st.sampled_from([0, 96, 200]),
    st.sampled_from([50, 96, 150, INFINITY]),
)


def around() -> Around:
    """Nobody but babel knows anything."""
    return Around(lambda *_: Health.UNKNOWN)


class AroundTests(SynchronousTestCase):
    """What is remembered is what is told."""

    @given(st.lists(st.tuples(ROUTES, st.booleans()), max_size=25))
    def test_back(self, told: list[tuple[Route, bool]]) -> None:
        """After each line, the way back is the shortest of those to the neighbour itself and of its link."""
        known, origins = around(), {}
        for route, gone in told:
            way = Way(route.via, route.interface)
            known.note(route, gone=gone)
            if not gone and route.metric < INFINITY and route.refmetric == 0:
                origins[way] = route.prefix
            for prefix in PREFIXES:
                for offer in known.offers(prefix):
                    self.assertTrue(known.offered(prefix, offer.way))
                    to_it = (
                        [each.metric for each in known.offers(origins[offer.way])]
                        if offer.way in origins
                        else []
                    )
                    self.assertEqual(known.back(offer), min([offer.metric - offer.refmetric, *to_it]))

    def test_learned_anew(self) -> None:
        """What another babeld told counts no more."""
        known = around()
        near = Route("1", PREFIXES[0], True, 50, 0, WAYS[0].via, "vifc0")
        far = Route("1", PREFIXES[0], True, 150, 0, WAYS[0].via, "vifc0")
        other = Route("2", PREFIXES[1], True, 250, 96, WAYS[0].via, "vifc0")
        for first, expected in ((near, 50), (far, 150)):
            known.learn([first, other])
            [offer] = known.offers(PREFIXES[1])
            self.assertEqual(known.back(offer), expected)
        self.assertFalse(known.offered(PREFIXES[0], WAYS[1]))

    def test_elsewhere(self) -> None:
        """The shortest other ways to what is reached there, be it over the same interface; nothing of what is
        not, or of what leads nowhere."""
        one, two, three = PREFIXES
        known = around()

        def way(prefix: IPv6Network, via: str, interface: str, metric: int, installed: bool = False) -> None:
            known.note(Route("1", prefix, installed, metric, metric - 96, via, interface))

        way(one, "fe80::1", "vifs0", 96, True)
        way(one, "fe80::2", "vifs0", 288)
        way(one, "fe80::3", "vifc0", 192)
        way(two, "fe80::1", "vifs0", 192, True)
        way(two, "fe80::2", "vifs0", 288)
        way(two, "fe80::4", "vifc1", 65535)
        way(three, "fe80::1", "vifs0", 192)
        way(three, "fe80::2", "vifs0", 96, True)
        found = {Way("fe80::3", "vifc0"): [one], Way("fe80::2", "vifs0"): [two]}
        self.assertEqual(known.elsewhere(Way("fe80::1", "vifs0")), found)
        self.assertEqual(known.elsewhere(Way("fe80::4", "vifc1")), {})

    def test_spares(self) -> None:
        """What a neighbour announces with our own distance, and that to us, is what it reaches over us."""
        leaf = Route("1", PREFIXES[0], True, 96, 0, "fe80::1", "vifc0")
        near = Route("2", PREFIXES[1], True, 96, 0, "fe80::2", "vifc1")
        back = Route("3", PREFIXES[0], False, 288, 192, "fe80::2", "vifc1")

        def spares(*routes: Route) -> bool:
            known = around()
            known.learn(routes)
            return known.spares("vifc0")

        self.assertTrue(spares())
        self.assertFalse(spares(leaf))
        self.assertFalse(spares(leaf, near, back))
        self.assertTrue(spares(leaf, near, replace(back, metric=240, refmetric=144)))
        self.assertTrue(spares(replace(leaf, installed=False), near, replace(back, installed=True)))
        self.assertFalse(spares(leaf, replace(back, interface="vifc0", metric=192, refmetric=96)))

    def test_unused(self) -> None:
        """A neighbour that is being left is so when nothing of its has a better way, at its new cost."""
        here = Route("1", PREFIXES[0], True, 500, 96, "fe80::1", "vifs0")
        other = replace(here, id="2", installed=False, metric=300, interface="vifc0")

        def left(*routes: Route) -> bool:
            known = around()
            known.learn(routes)
            return known.unused(Way("fe80::1", "vifs0"), 400)

        self.assertTrue(left())
        self.assertFalse(left(here, other))
        self.assertTrue(left(here, replace(other, metric=65535)))
        self.assertTrue(left(here, replace(other, metric=501)))
        self.assertTrue(left(replace(here, installed=False), replace(other, installed=True)))
        self.assertFalse(left(here, replace(other, interface="vifs0", via="fe80::2")))
        # babel has not heard yet that it is to be left.
        self.assertFalse(left(replace(here, metric=96)))
        alone = replace(here, prefix=PREFIXES[1])
        self.assertTrue(left(replace(here, installed=False), other, alone))
