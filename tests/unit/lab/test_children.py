"""Children of the lab: real small processes."""

from collections.abc import Coroutine
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, succeed
from twisted.trial.unittest import TestCase

from vifibnet.errors import CommandFailed
from vifibnet.lab.children import Child, run, sleep, together


class RunTests(TestCase):
    """Running to the end."""

    timeout = 20

    async def test_output(self) -> None:
        """What a program reads and says."""
        ended = await run(reactor, ["sh", "-c", "cat; echo oh >&2"], stdin="hello")
        self.assertEqual((ended.status, ended.output, ended.errors), (0, "hello", "oh\n"))

    async def test_failure(self) -> None:
        """Another status than 0 is an error that says what the program said, unless it was expected."""
        command = ["sh", "-c", "echo sorry >&2; exit 3"]
        error = await self.assertFailure(ensureDeferred(run(reactor, command)), CommandFailed)
        self.assertIn("sorry", str(error))
        self.assertEqual((await run(reactor, command, check=False)).status, 3)

    async def test_signal(self) -> None:
        """One that a signal ended has a negative status."""
        self.assertEqual((await run(reactor, ["sh", "-c", "kill -9 $$"], check=False)).status, -9)

    async def test_too_slow(self) -> None:
        """One that does not end is ended."""
        work = run(reactor, ["sleep", "60"], timeout=0.1)
        await self.assertFailure(ensureDeferred(work), CommandFailed)

    async def test_cancelled(self) -> None:
        """Cancelling waits until the program is gone."""
        task = ensureDeferred(run(reactor, ["sleep", "60"]))
        task.cancel()
        await self.assertFailure(task, CancelledError)

    async def test_stubborn(self) -> None:
        """Whoever ignores TERM gets KILL."""
        lines: list[str] = []
        ready: Deferred[None] = Deferred()

        def line(text: str) -> None:
            lines.append(text)
            if text == "b":
                ready.callback(None)

        script = "trap '' TERM; echo a; echo b; while :; do sleep 0.05; done"
        child = Child(reactor, ["sh", "-c", script], line)
        child.start()
        await ready
        await child.stop(grace=0.2)
        self.assertEqual((lines, child.status), (["a", "b"], -9))
        await child.stop()


class TogetherTests(TestCase):
    """Several at once, and none left behind."""

    timeout = 20

    async def test_results(self) -> None:
        """The results are in order."""

        async def after(seconds: float, value: str) -> str:
            await sleep(reactor, seconds)
            return value

        self.assertEqual(await together([after(0.02, "a"), after(0, "b")]), ["a", "b"])
        self.assertEqual(await together(self.none()), [])

    @staticmethod
    def none() -> list[Coroutine[Deferred[Any], Any, None]]:
        """Nothing to do."""
        return []

    async def test_failure(self) -> None:
        """One fails: the others are cancelled, clean up, and only then is the failure raised."""
        events: list[str] = []

        async def patient() -> None:
            try:
                await Deferred()
            except CancelledError:
                await sleep(reactor, 0.02)
                events.append("cleaned up")
                raise

        async def failing() -> None:
            await succeed(None)
            raise ZeroDivisionError

        await self.assertFailure(ensureDeferred(together([patient(), failing()])), ZeroDivisionError)
        self.assertEqual(events, ["cleaned up"])

    async def test_cancelled(self) -> None:
        """Cancelling the whole cancels all of it."""
        events: list[str] = []

        async def patient() -> None:
            try:
                await Deferred()
            except CancelledError:
                events.append("cleaned up")
                raise

        task = ensureDeferred(together([patient(), patient()]))
        task.cancel()
        await self.assertFailure(task, CancelledError)
        self.assertEqual(events, ["cleaned up"] * 2)
