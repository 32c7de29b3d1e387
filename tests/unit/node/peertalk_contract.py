"""What every way of calling a peer has to do: mixed into a test case that makes one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.unit.node.fakes import NETWORK, clock, endpoint, node
from vifibnet.errors import PeerUnreachable
from vifibnet.interfaces import IPeerCaller
from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.model.news import News
from vifibnet.model.visits import Visit
from vifibnet.node.knowledge import Knowledge
from vifibnet.store.peers import PeerStore

FIVE, SEVEN, NOBODY = node(5), node(7), node(9)


def make_knowledge(
    case: SynchronousTestCase,
    own: Prefix,
    now: Clock,
    here: Sequence[Endpoint],
    revoked: frozenset[Prefix] = frozenset(),
) -> tuple[Knowledge, PeerStore]:
    """A node's knowledge, without any peers."""
    store = PeerStore.create(Path(case.mktemp()), NETWORK)
    case.addCleanup(store.close)
    made = Knowledge(now, Random(1), store, own, lambda: here, frozenset, lambda: revoked, lambda: None)
    return made, store


class CallerContract:
    """5/16 calls 7/16, which knows 1/16 and 2/16; 9/16 does not answer."""

    case: Any

    def make(self, knowledge: Knowledge) -> IPeerCaller:
        """A caller of 5/16 for whom 7/16 answers out of this."""
        raise NotImplementedError

    def setUp(self) -> None:
        """Two nodes."""
        self.case = self
        self.now = clock()
        self.theirs, self.store = make_knowledge(self.case, SEVEN, self.now, [endpoint(7)])
        self.store.update([(node(n), (endpoint(n),)) for n in (1, 2)], self.now.seconds())
        self.store.succeeded(node(1), self.now.seconds())
        self.caller = self.make(self.theirs)

    async def visit(
        self, *, count: int = 0, wanted: Sequence[int] = ()
    ) -> dict[Prefix, tuple[Endpoint, ...]]:
        """What 7/16 says, being told that we are at 192.0.2.5."""
        asked = Visit(SEVEN, count, tuple(map(node, wanted)))
        news = await self.caller.visit(asked, [endpoint(5)])
        return {each.peer: each.endpoints for each in news}

    async def test_meet(self) -> None:
        """Both know afterwards where the other is, at first hand."""
        self.case.assertEqual(await self.visit(), {SEVEN: (endpoint(7),)})
        known = self.store.get(FIVE)
        assert known is not None
        self.case.assertEqual((known.endpoints, known.told), ((endpoint(5),), self.now.seconds()))

    async def test_peers(self) -> None:
        """As many as are wanted, if there are so many; neither of the two."""
        self.case.assertEqual(set(await self.visit(count=50)), {SEVEN, node(1), node(2)})
        self.case.assertEqual(len(await self.visit(count=1)), 2)

    async def test_endpoints(self) -> None:
        """Of those who are wanted, as far as they are known, with the age of what is known."""
        found = await self.caller.visit(Visit(SEVEN, 0, (node(1), node(3))), [])
        self.case.assertEqual([each.peer for each in found], [SEVEN, node(1)])
        self.case.assertEqual(found[1].endpoints, (endpoint(1),))
        self.case.assertTrue(0 <= found[1].age <= 1, found)
        self.case.assertIsNone(self.store.get(FIVE))

    async def test_all_at_once(self) -> None:
        """Who is there is told, and both questions are answered."""
        found: list[News] = await self.caller.visit(Visit(SEVEN, 50, (node(2),)), [endpoint(5)])
        self.case.assertEqual(
            sorted(each.peer.value for each in found if each.peer != SEVEN), sorted([1, 2, 2])
        )

    async def test_nobody(self) -> None:
        """One sentence about whom it is."""
        with self.case.assertRaises(PeerUnreachable) as caught:
            await self.caller.visit(Visit(NOBODY), [])
        self.case.assertIn("9/16 does not answer over the network itself: ", str(caught.exception))
