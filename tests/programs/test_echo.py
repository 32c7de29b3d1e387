"""Asking the kernel at the other end of a real cable."""

from __future__ import annotations

import json
from ipaddress import IPv6Address

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from tests.integration.namespaces import Namespace, eventually
from vifibnet.node.echo import Echo


class Asker(Echo):
    """Asks and hears inside a namespace, where the interfaces are."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.answers: list[tuple[str, IPv6Address]] = []
        with namespace.entered():
            super().__init__(reactor, lambda tap, address: self.answers.append((tap, address)))

    def ask(self, tap: str, address: IPv6Address) -> None:
        """Whoever has this address there."""
        with self.namespace.entered():
            super().ask(tap, address)

    def doRead(self) -> None:
        """Read what there is."""
        with self.namespace.entered():
            super().doRead()


class EchoTests(TestCase):
    """Two namespaces with a cable between them; two programs in the first one ask."""

    def setUp(self) -> None:
        """Nobody has answered yet."""
        here, other = Namespace(), Namespace()
        self.addCleanup(other.destroy)
        self.addCleanup(here.destroy)
        here.connect(other, 0)
        [link] = json.loads(other.ip("-json", "-6", "address", "show", "dev", "eth0", "scope", "link"))
        [address] = [each["local"] for each in link["addr_info"] if each]
        self.there = IPv6Address(address)
        self.one, self.another = Asker(here), Asker(here)
        self.addCleanup(self.one.close)
        self.addCleanup(self.another.close)

    async def test_answers(self) -> None:
        """Whoever is there answers the one that asked, though no program runs there."""
        # Nobody has this address, and there is no such interface.
        self.one.ask("eth0", IPv6Address("fe80::dead"))
        self.one.ask("eth9", self.there)
        self.another.ask("eth0", self.there)
        await eventually(lambda: self.another.answers, "an answer")
        self.assertEqual((self.one.answers, self.another.answers), ([], [("eth0", self.there)]))
        self.one.ask("eth0", self.there)
        await eventually(lambda: self.one.answers, "an answer")
        self.assertEqual((self.one.answers, self.another.answers), ([("eth0", self.there)],) * 2)
