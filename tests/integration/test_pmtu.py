"""Full-size TCP where a link carries less than a tunnel's packets, and nobody says so."""

from __future__ import annotations

from functools import partial
from itertools import permutations

from twisted.internet import reactor

from tests.integration.labs import LabCase, logs
from vifibnet.lab.children import run, together
from vifibnet.lab.narrow import narrow
from vifibnet.lab.network import Lab
from vifibnet.lab.stream import End, NoStream, copy

ALMOST, LEAST = 1400, 1300
"""MTUs of the links to h2 and to h3; a tunnel's full packets need 1466."""

CONTENT = 4 << 20
"""Bytes for each pair of hosts."""


class SmallPathTests(LabCase):
    """h1 is in the middle: client of h0, behind no small link, and of h3; server of h2.

    So full packets come to both small links from far, once from a client and once from a server.
    """

    async def test_tcp(self) -> None:
        """Between every two hosts, over one hop or two, in both directions, everything arrives."""
        lab = await self.up(connection_count=0, start=False)
        await narrow(lab.underlay, {2: ALMOST, 3: LEAST}, apart=[(2, 0), (2, 3)])
        await self.check_silence(lab)
        await self.wire(lab)
        for source, target in permutations(lab.hosts, 2):
            self.assertIn(await lab.way(source, target), ([source, target], [source, "h1", target]))
            await self.check_copy(lab, source, target)

    async def check_silence(self, lab: Lab) -> None:
        """What must not be fragmented and is too big is lost, and nobody says so; all else passes."""

        async def ping(target: str, size: int, fragment: str) -> tuple[str, int, str, bool]:
            command = ["ping", "-c", "1", "-W", "1", "-M", fragment, "-s", str(size - 28)]
            command.append(lab.host(target).underlay)
            said = (await run(reactor, lab.inside("h1", command), check=False)).output
            self.assertNotIn("Frag needed", said)
            self.assertNotIn("errors", said)
            return target, size, fragment, " 0% packet loss" in said

        found = await together(
            ping(target, size, fragment)
            for target, mtu in (("h2", ALMOST), ("h3", LEAST))
            for size, fragment in ((mtu, "do"), (mtu + 1, "do"), (1500, "do"), (1500, "dont"))
        )
        expected = [True, False, False, True]
        self.assertEqual([each[-1] for each in found], expected * 2, found)

    async def wire(self, lab: Lab) -> None:
        """Let tunnels come up as the class says, and routes over them."""
        await lab.node("h3").start(lab.node_command("h3"))
        await lab.node("h1").start(lab.node_command("h1", "--connection-count", "2"))
        await self.eventually(lab, "h1", lambda node: set(node.tunnels) == {"h0", "h3"})
        await lab.node("h2").start(lab.node_command("h2", "--connection-count", "1"))
        await self.eventually(lab, "h2", lambda node: node.tunnels == ("h1",))
        await self.all_reached(lab)

    async def check_copy(self, lab: Lab, source: str, target: str) -> None:
        """Several megabytes arrive unchanged, and soon."""
        one, other = (End(partial(lab.inside, name), lab.host(name).address) for name in (source, target))
        try:
            stream = await copy(reactor, one, other, CONTENT, timeout=20)
        except NoStream as error:
            raise self.failureException(f"{source} to {target}: {error}\n{logs(lab)}") from None
        self.assertEqual(stream.bytes, CONTENT)
