"""Programs that are run to their end, most of them real ones."""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.unit.node.processes import FakeReactor
from vifibnet.errors import CommandFailed
from vifibnet.node.command import run


class RunTests(TestCase):
    """Programs that are run to their end."""

    async def refusal(self, *command: str, timeout: float = 5.0) -> str:
        """What the error says that running it ends with."""
        try:
            await run(reactor, command, timeout=timeout)
        except CommandFailed as error:
            return str(error)
        raise AssertionError(f"{command} did not fail")

    async def test_output(self) -> None:
        """Its input goes in, its output comes out."""
        self.assertEqual(await run(reactor, ["cat"], b"words\n" * 20000), ("words\n" * 20000).strip())

    async def test_failure(self) -> None:
        """What it said is in the error."""
        said = await self.refusal("ls", "/nowhere")
        self.assertEqual(
            said, "ls /nowhere ended with status 2: ls: cannot access '/nowhere': No such file or directory"
        )

    async def test_timeout(self) -> None:
        """What does not end is killed."""
        said = await self.refusal("sleep", "60", timeout=0.1)
        self.assertEqual(said, "sleep 60 ended with status 9: ")

    async def test_cancelled(self) -> None:
        """What nobody waits for any longer does nothing more, and leaves no call behind."""
        mark = Path(self.mktemp())
        work = Deferred.fromCoroutine(run(reactor, ["sh", "-c", f"trap '' TERM; sleep 0.4; touch {mark}"]))
        await deferLater(reactor, 0.1)
        work.cancel()
        await self.assertFailure(work, CancelledError)
        await deferLater(reactor, 0.5)
        self.assertFalse(mark.exists())

    def test_cancelled_end(self) -> None:
        """That is told when it has ended, not before."""
        fake = FakeReactor()
        fake.obeys = ()
        work = Deferred.fromCoroutine(run(fake, ["program"]))
        work.cancel()
        (process,) = fake.processes
        self.assertEqual(process.signals, ["KILL"])
        self.assertNoResult(work)
        process.end(signal=9)
        self.failureResultOf(work, CancelledError)
        self.assertEqual(fake.getDelayedCalls(), [])

    async def test_not_there(self) -> None:
        """A program that is not installed is an error, too."""
        self.assertIn("No such file", await self.refusal("vifibnet-nothing"))
