"""SIGHUP: read again, obey, refuse."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.cli import node
from vifibnet.cli.hangup import Hangup
from vifibnet.errors import BadInput, VifibnetError
from vifibnet.node.config import NodeConfig


class ThreadReactor(MemoryReactorClock):
    """Does what it is called with from a thread only when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Callable[[], object]] = []

    def callFromThread(self, callable: Any, *arguments: Any) -> None:
        """Keep it."""
        self.waiting.append(lambda: callable(*arguments))


class HangupTests(SynchronousTestCase):
    """The signal."""

    def setUp(self) -> None:
        """Nothing has been caught."""
        self.addCleanup(signal.signal, signal.SIGHUP, signal.getsignal(signal.SIGHUP))
        self.reactor = ThreadReactor()
        self.answers: list[Deferred[None]] = []
        self.hangup = Hangup(self.reactor, self.reread)
        self.hangup.startService()

    async def reread(self) -> None:
        """As long as the test wants."""
        self.answers.append(Deferred())
        await self.answers[-1]

    def test_signal(self) -> None:
        """It does nothing by itself; the reactor does, one after another; TERM and INT are not touched."""
        others = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        self.assertEqual((len(self.reactor.waiting), self.answers), (2, []))
        for call in self.reactor.waiting:
            call()
        self.assertEqual(len(self.answers), 1)
        self.answers[0].callback(None)
        self.assertEqual(len(self.answers), 2)
        self.assertEqual([signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)], others)

    def test_problems(self) -> None:
        """What is wrong with the options is one line; a mistake of ours ends nothing either."""
        self.hangup.act()
        with capturedLogs() as events:
            self.answers[0].errback(BadInput("--hello", "bad", "give a good one"))
        (said,) = [formatEvent(event) for event in events]
        self.assertRegex(said, r"^SIGHUP: --hello: bad; give a good one\. Everything stays as it is\.$")
        self.hangup.act()
        self.answers[1].errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_stop(self) -> None:
        """While all stops it means nothing."""
        self.hangup.stopService()
        os.kill(os.getpid(), signal.SIGHUP)
        self.assertEqual(self.reactor.waiting, [])
        self.hangup.act()
        self.assertEqual(self.answers, [])


@dataclass
class FakeNode:
    """Keeps what it is told."""

    told: list[NodeConfig] = field(default_factory=list)

    def obey(self, config: NodeConfig) -> None:
        """Keep it."""
        self.told.append(config)


class NodeTests(SynchronousTestCase):
    """A node's options in a file."""

    def setUp(self) -> None:
        """A file, and options as twistd has read them."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.write("hello 1")
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(self.directory)
        self.patch(node, "check", lambda config: None)
        self.options = node.Options()
        self.options.parseOptions(["@options", "--", "--verb", "4"])
        os.chdir(here)
        self.node = FakeNode()
        self.refusal: str | None = None

    def write(self, *lines: str) -> None:
        """Another content."""
        text = "\n".join(["ca ca.pem", "cert cert.crt", "key cert.key", *lines])
        (self.directory / "options").write_text(text)

    async def in_thread(self, *_: object) -> str | None:
        """What openvpn says."""
        return self.refusal

    def reread(self) -> list[str]:
        """Have it read again; what the log says of it at warn or above."""
        with capturedLogs() as events:
            work = node.reread(self.options, self.node, self.in_thread)  # type: ignore[arg-type]
            self.successResultOf(ensureDeferred(work))
        return [formatEvent(event) for event in events if event["log_level"] >= LogLevel.warn]

    def refused(self) -> str:
        """The same, for a file that is wrong."""
        work = ensureDeferred(node.reread(self.options, self.node, self.in_thread))  # type: ignore[arg-type]
        return str(self.failureResultOf(work, VifibnetError).value)

    def test_obeyed(self) -> None:
        """The file as it is now, with paths relative to where twistd was started."""
        self.write("hello 2", "interface eth0")
        self.assertEqual(self.reread(), [])
        [told] = self.node.told
        self.assertEqual((told.hello, told.interfaces), (2.0, ("eth0",)))
        self.assertEqual((told.ca, told.openvpn_args), (self.directory / "ca.pem", ("--verb", "4")))
        self.assertIs(self.options.config, told)

    def test_refused_options(self) -> None:
        """What takes a restart is told in one line each time, and stays."""
        self.write("hello 2", "state /elsewhere", "pp 1 udp")
        said = "SIGHUP: --state, --pp stay as before: the node has to be started anew for that"
        self.assertEqual([self.reread(), self.reread()], [[said], [said]])
        self.assertEqual(
            (self.node.told[-1].hello, self.node.told[-1].state), (2.0, Path("/var/lib/vifibnet"))
        )

    def test_bad_files(self) -> None:
        """Nothing is obeyed, and the reason has its place."""
        for line, words in (
            ("hello x", "options, line 4: --hello"),
            ("nonsense", "--nonsense: unknown option"),
            ("help", "--help"),
            ("@absent", "absent"),
            ("-- --key /other", "--key: both"),
        ):
            self.write(line)
            self.assertIn(words, self.refused())
        (self.directory / "options").unlink()
        self.assertIn("cannot be read", self.refused())
        self.assertEqual((self.node.told, self.options.config.hello), ([], 1.0))

    def test_openvpn_refuses(self) -> None:
        """Its arguments are tried before they are believed."""
        self.refusal = "no such thing"
        self.write("-- --nonsense")
        self.assertIn("openvpn refuses them (no such thing)", self.refused())
        self.assertEqual(self.node.told, [])
