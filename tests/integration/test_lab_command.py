"""``vifibnet lab`` as typed: two labs side by side, the demonstration, and Ctrl-C at any moment."""

from __future__ import annotations

import json
import os
import signal
import sys

from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.trial.unittest import TestCase

from tests.directories import short_directory
from vifibnet.lab.children import Child, Ended, run, sleep, together
from vifibnet.lab.settings import RUN
from vifibnet.lab.teardown import down
from vifibnet.lab.underlay import Underlay

LAB = [sys.executable, "-m", "vifibnet", "lab"]


class CommandCase(TestCase):
    """Runs the command; whatever it leaves is removed."""

    timeout = 170

    def setUp(self) -> None:
        """Names of our own."""
        self.names = [f"t{os.getpid()}-{letter}" for letter in "ab"]
        for name in self.names:
            self.addCleanup(self._down, name)

    def _down(self, name: str) -> Deferred[bool]:
        return ensureDeferred(down(reactor, name))

    async def lab(self, action: str, name: str, *words: str, check: bool = True) -> Ended:
        """Run one subcommand to its end."""
        return await run(reactor, [*LAB, action, "--name", name, *words], timeout=120, check=check)

    def gone(self, name: str) -> None:
        """Nothing of a lab is there."""
        underlay = Underlay(reactor, name)
        self.assertEqual(underlay.existing(), [])
        self.assertFalse(os.path.lexists(RUN / name))


class SideBySideTests(CommandCase):
    """Two labs at once."""

    async def test_two_labs(self) -> None:
        """Each has its own nodes and its own end."""
        one, other = self.names
        directory = short_directory(self)
        options = ("--nodes", "3", "--hello", "0.5", "--detach")
        first, second = await together(
            [
                self.lab("up", one, *options, "--json", "--dir", str(directory)),
                self.lab("up", other, *options),
            ]
        )
        self.check_json(first.output)
        self.assertIn("2001:db8:42", second.output)

        said = await self.lab("exec", one, "h1", "--", "ip", "-brief", "address", "show", "eth0")
        self.assertIn("192.0.2.2/24", said.output)
        failed = await self.lab("exec", one, "h1", "--", "sh", "-c", "exit 7", check=False)
        self.assertEqual(failed.status, 7)
        await self.lab("cut", one, "h1", "h2")
        self.assertEqual(json.loads((await self.lab("status", one, "--json")).output)["cuts"], [["h1", "h2"]])
        self.assertEqual(json.loads((await self.lab("status", other, "--json")).output)["cuts"], [])
        await self.lab("heal", one, "h2", "h1")

        await self.lab("kill", other, "h2")
        status = json.loads((await self.lab("status", other, "--json")).output)
        self.assertEqual([node["running"] for node in status["nodes"]], [True, True, False])
        self.assertFalse(status["all_reached"])
        again = await self.lab("kill", other, "h2", check=False)
        self.assertEqual((again.status, again.errors.count("\n")), (1, 1))
        await self.lab("start", other, "h2")
        await self.lab("stop", other, "h1")

        await self.lab("down", one)
        self.gone(one)
        self.assertEqual(list(directory.iterdir()) if directory.exists() else [], [])
        self.assertEqual(len(Underlay(reactor, other).existing()), 4)
        await self.lab("down", other)
        self.gone(other)

    def check_json(self, text: str) -> None:
        """The document that was promised."""
        document = json.loads(text)
        self.assertIs(document["all_reached"], True)
        self.assertGreater(document["seconds"], 0)
        self.assertEqual([node["name"] for node in document["nodes"]], ["h0", "h1", "h2"])
        for node in document["nodes"]:
            self.assertTrue(node["subnet"].startswith("2001:db8:42:"))
            self.assertEqual(len(node["routes"]), 2)
            self.assertGreaterEqual(len(node["tunnels"]) + len(node["served"]), 1)
            self.assertGreaterEqual(len(node["neighbours"]), 1)
            self.assertGreater(node["seconds_to_all"], 0)


class InterruptTests(CommandCase):
    """Ctrl-C."""

    async def test_while_coming_up(self) -> None:
        """At any moment of coming up: status 130, and nothing is left."""
        for word in ("wiring", "mail server", "enrolled", "starting the nodes", "pairs"):
            status = await self.interrupted_at(word, signal.SIGINT)
            self.assertEqual(status, 130, word)
            self.gone(self.names[0])

    async def test_while_up(self) -> None:
        """A lab that is up goes down, also when its terminal is closed."""
        for number in (signal.SIGINT, signal.SIGHUP):
            self.assertEqual(await self.interrupted_at("stays until", number), 130)
            self.gone(self.names[0])

    async def interrupted_at(self, word: str, number: signal.Signals) -> int:
        """Start a lab and send a signal when it says a word; return its exit status."""
        seen: Deferred[None] = Deferred()
        said: list[str] = []

        def line(text: str) -> None:
            said.append(text)
            if word in text and not seen.called:
                seen.callback(None)

        options = ["--name", self.names[0], "--nodes", "2", "--hello", "0.5"]
        child = Child(reactor, [*LAB, "up", *options], line)
        child.start()
        try:
            await seen.addTimeout(60, reactor)
            # The signal comes when that has just begun, or is half-way through.
            await sleep(reactor, 0.05)
            child.signal(number.name.removeprefix("SIG"))
            return await child.ended().addTimeout(30, reactor)
        except Exception as error:
            raise self.failureException(f"{error!r} at {word}: {said} {child.errors!r}") from error
        finally:
            await child.stop()


class DemoTests(CommandCase):
    """The demonstration."""

    async def test_demo(self) -> None:
        """All of it happens, in under three minutes, and nothing is left."""
        began = reactor.seconds()
        ended = await run(reactor, [*LAB, "demo", "--name", self.names[0]], timeout=160, check=False)
        said = ended.output + ended.errors
        self.assertEqual(ended.status, 0, said)
        self.assertLess(reactor.seconds() - began, 180)
        for words in ("neighbours", "Cutting the underlay", "no answer for", "SIGKILL", "survivors answer"):
            self.assertIn(words, said)
        self.gone(self.names[0])
