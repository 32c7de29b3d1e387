"""What the tests that bring up a lab have in common."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from itertools import count

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.trial.unittest import TestCase

from vifibnet.lab.children import run, sleep, together
from vifibnet.lab.network import Lab, NotReached, Reach
from vifibnet.lab.pulse import Pulse
from vifibnet.lab.report import NodeReport
from vifibnet.lab.settings import LabSettings

_numbers = count()

LOOK = """
ip -6 rule; ip -4 route show table all; ip -6 route show table all; ip -brief link; ip -brief address
nft list ruleset; cat /proc/sys/net/ipv6/conf/*/forwarding /proc/sys/net/ipv6/conf/*/accept_ra
"""
"""A shell script that says what a host's network is like."""


class LabCase(TestCase):
    """A test with labs of its own, which are taken down whatever happens."""

    timeout = 150

    async def up(self, *, start: bool = True, **settings: object) -> Lab:
        """Bring up a lab with a small hello interval."""
        name = f"t{os.getpid()}-{next(_numbers)}"
        wanted = LabSettings(**{"name": name, "nodes": 4, "hello": 0.5, **settings})  # type: ignore[arg-type]
        lab = await Lab.up(reactor, wanted, start=start)
        self.addCleanup(self._down, lab)
        return lab

    def _down(self, lab: Lab) -> Deferred[None]:
        return ensureDeferred(lab.down())

    async def all_reached(self, lab: Lab, *names: str, timeout: float = 40) -> Reach:
        """All (or the named) nodes answer each other, also in full packets; else the logs are shown."""
        try:
            return await lab.all_reached(names or None, timeout=timeout)
        except NotReached as error:
            graph = [await lab.report(name) for name in lab.hosts]
            raise self.failureException("\n".join([str(error), *map(str, graph), logs(lab)])) from None

    async def none_reached(self, lab: Lab, *names: str) -> None:
        """None of the named answers another."""
        reach = await lab.reach(names, names, timeout=1.0)
        self.assertEqual(reach.seconds, {})
        self.assertEqual(len(reach.missing), len(names) * (len(names) - 1))

    def pulse(self, lab: Lab, source: str, target: str) -> Pulse:
        """A hundred pings a second."""
        pulse = Pulse.start(reactor, partial(lab.inside, source), lab.host(target).address)
        self.addCleanup(lambda: Deferred.fromCoroutine(pulse.child.stop()))
        return pulse

    async def look(self, lab: Lab, name: str) -> str:
        """What a host's network is like."""
        return (await run(reactor, lab.inside(name, ["sh", "-c", LOOK]))).output

    async def eventually(
        self, lab: Lab, name: str, fulfilled: Callable[[NodeReport], bool], timeout: float = 20
    ) -> NodeReport:
        """Wait until a node's report is as wanted; fail with the report."""
        deadline = reactor.seconds() + timeout
        while True:
            report = await lab.report(name)
            if fulfilled(report):
                return report
            if reactor.seconds() > deadline:
                raise self.failureException(f"{name} did not become what it should: {report}\n{logs(lab)}")
            await sleep(reactor, 0.1)

    @staticmethod
    async def start(lab: Lab, *names: str) -> None:
        """Start nodes at once."""
        await together(lab.start(name) for name in names)


def logs(lab: Lab, lines: int = 15) -> str:
    """The ends of all logs of a lab."""
    said = []
    for path in sorted(lab.home.glob("**/*.log")):
        end = path.read_text(errors="replace").splitlines()[-lines:]
        said.append("\n".join([f"--- {path.relative_to(lab.home)}", *end]))
    return "\n".join(said)
