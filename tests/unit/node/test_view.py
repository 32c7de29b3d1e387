"""Who is at the other ends, asked often."""

from __future__ import annotations

from types import SimpleNamespace

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.addresses import Prefix
from vifibnet.node.view import View

ONE, TWO, LONG = Prefix(1, 16), Prefix(2, 16), Prefix(1, 64)


class PartnerTests(SynchronousTestCase):
    """Those served and those connected to."""

    def setUp(self) -> None:
        """Nobody yet."""
        self.server = SimpleNamespace(served={}, leaving=False)
        nothing = SimpleNamespace(interfaces=())
        self.view = View(nothing, None, None, None, {"vifs0": self.server})  # type: ignore[arg-type,dict-item]

    def test_same(self) -> None:
        """While they are the same, so is the object, also when more bytes have gone to them."""
        self.server.served = {ONE: 1, TWO: 1}
        first = self.view.partners({"vifc0": ONE})
        self.server.served = {ONE: 2, TWO: 3}
        self.assertIs(self.view.partners({"vifc0": ONE}), first)
        served = frozenset({ONE.link_local, TWO.link_local})
        self.assertEqual(first, {"vifs0": served, "vifc0": frozenset({ONE.link_local})})

    def test_others(self) -> None:
        """Who comes or goes, at either end or over another tap, makes another answer."""
        seen = [self.view.partners({})]
        for served, tunnels in (
            ({ONE}, {}),
            ({TWO}, {}),
            (set(), {"vifc0": TWO}),
            (set(), {"vifc1": TWO}),
            (set(), {"vifc1": ONE}),
            (set(), {}),
        ):
            self.server.served = dict.fromkeys(served)
            seen.append(self.view.partners(tunnels))
            self.assertIsNot(seen[-1], seen[-2])
            expected = {"vifs0": served, **{tap: {peer} for tap, peer in tunnels.items()}}
            self.assertEqual(
                seen[-1],
                {
                    tap: frozenset(peer.link_local for peer in peers)
                    for tap, peers in expected.items()
                    if peers
                },
            )

    def test_no_address(self) -> None:
        """Who has no link-local address cannot be heard."""
        self.assertEqual(self.view.partners({"vifc0": LONG}), {})

    def test_leaving(self) -> None:
        """Whom a server is about to lose may be connected to, and is still there."""
        babeld = SimpleNamespace(routes=(), neighbours=(), destinations=frozenset, learning=False)
        trust = SimpleNamespace(files=SimpleNamespace(nodes=frozenset), outcast=False)
        nothing = SimpleNamespace(interfaces=())
        other = SimpleNamespace(served={TWO: 1}, leaving=False)
        servers = {"vifs0": self.server, "vifs1": other}
        view = View(nothing, None, trust, babeld, servers)  # type: ignore[arg-type]
        self.server.served = {ONE: 1}
        self.assertEqual(view.surroundings().served, {ONE, TWO})
        self.server.leaving = True
        self.assertEqual((view.surroundings().served, view.beside()), ({TWO}, {ONE, TWO}))
