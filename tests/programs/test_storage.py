"""A registry whose disk is full or takes no writes: what it says, what it goes on doing, how it recovers."""

from __future__ import annotations

import subprocess
import xmlrpc.client as xmlrpclib
from collections.abc import Callable
from typing import Any

from twisted.internet.threads import deferToThread

from tests.integration.processes import PYTHON, Process
from tests.mailserver import message
from tests.programs.test_registry import ENDPOINTS, LoopbackCase
from tests.unit.registry.parts import request_pem, token_in
from vifibnet.errors import StorageFailed
from vifibnet.pki.requests import make_key
from vifibnet.wire.amp import Declare, GetPeers

SMALL_DISK = ("unshare", "-m", "--propagation", "private", "sh", "-c")
MOUNT = 'mount -t tmpfs -o size=1m disk disk && exec "$0" "$@"'
READ_ONLY = 'mount --bind disk disk && mount -o remount,bind,ro disk && exec "$0" "$@"'

ENTER = 'cd "$0" && exec "$@"'
"""A shell script; a directory that was entered outside would be the one below the disk."""

CHECK = """
import sqlite3
print(sqlite3.connect("file:disk/registry.db?mode=ro", uri=True).execute("PRAGMA integrity_check").fetchall())
"""


class StorageTests(LoopbackCase):
    """The database is on a disk of 1 MiB, in a mount namespace of the registry's own."""

    def inside(self, registry: Process, *command: str) -> str:
        """Run a command where the disk can be seen; what it printed."""
        done = subprocess.run(
            ["nsenter", "-t", str(registry.pid), "-m", "sh", "-c", ENTER, self.directory, *command],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        return done.stdout

    async def refused(self, name: str, *arguments: Any) -> str:
        """The sentence of a Fault of StorageFailed."""
        with self.assertRaises(xmlrpclib.Fault) as caught:
            await self.call(name, *arguments)
        self.assertEqual(caught.exception.faultCode, StorageFailed.code)
        return str(caught.exception.faultString)

    async def goes_wrong(
        self, damage: Callable[[Process], object], repair: Callable[[Process], object]
    ) -> str:
        """Let the disk fail under a registry at work, and mend it; the sentence that it says meanwhile."""
        (self.directory / "disk").mkdir()
        registry = await self.start(*SMALL_DISK, MOUNT, db="disk/registry.db")
        one, two = await self.node(), await self.node()
        amp, other = await self.connect(one), await self.connect(two)
        await amp.callRemote(Declare, endpoints=ENDPOINTS)
        await self.call("requestToken", "new@b.example")
        token, request = token_in(message(self.mail.mails[-1]).get_content()), request_pem(make_key())
        mails = len(self.mail.mails)

        damage(registry)
        sentence = await self.refused("requestCertificate", token, request)
        await self.refused("requestToken", "other@b.example")
        await self.assertFailure(amp.callRemote(Declare, endpoints=""), StorageFailed)
        # What has to be written is refused, what has to be read is not; nobody is cut off.
        self.assertEqual((await other.callRemote(GetPeers, count=5))["peers"][0]["endpoints"], ENDPOINTS)
        self.assertEqual(await self.call("getBootstrapPeer"), ["0" * 16, ENDPOINTS])
        await (await self.connect(one)).callRemote(GetPeers, count=1)
        self.assertEqual(len(self.mail.mails), mails)

        repair(registry)
        pem = await self.call("requestCertificate", token, request)
        self.assertEqual(await self.call("requestCertificate", token, request), pem)
        self.assertEqual(str((await self.node()).prefix), "3/16")
        await amp.callRemote(Declare, endpoints="")
        self.assertEqual((await other.callRemote(GetPeers, count=5))["peers"], [])
        self.assertTrue(registry.running)
        self.assertEqual(self.inside(registry, PYTHON, "-c", CHECK), "[('ok',)]\n")
        await deferToThread(registry.terminate)
        self.assertNotIn("Traceback", registry.output + registry.errors)
        return sentence

    async def test_full(self) -> None:
        """The disk is full, and has room again."""
        said = await self.goes_wrong(
            lambda registry: self.inside(
                registry, "dd", "if=/dev/zero", "of=disk/fill", "bs=512", "count=4096"
            ),
            lambda registry: self.inside(registry, "rm", "disk/fill"),
        )
        problem = "database or disk is full"
        self.assertEqual(said, str(StorageFailed(problem=problem)))

    async def test_writes_refused(self) -> None:
        """The kernel refuses every write to the database, as to a file system that it has made read-only
        because of an error; tmpfs has none, but a limit of file sizes does the same."""

        def limit(registry: Process, size: str) -> None:
            subprocess.run(["prlimit", "--pid", str(registry.pid), f"--fsize={size}:unlimited"], check=True)

        # The log is shorter than that, the end of SQLite's write-ahead log is not.
        said = await self.goes_wrong(lambda it: limit(it, "40000"), lambda it: limit(it, "unlimited"))
        self.assertEqual(said, str(StorageFailed(problem="disk I/O error")))

    async def test_read_only(self) -> None:
        """On a disk that is read-only it does not start, says why in one line, and starts when it is not."""
        (self.directory / "disk").mkdir()
        await deferToThread((await self.start(db="disk/registry.db")).terminate)
        refused = self.process(*SMALL_DISK, READ_ONLY, db="disk/registry.db")
        self.assertEqual(await deferToThread(refused.end), 1)
        (line,) = [
            line for line in refused.errors.splitlines() + refused.output.splitlines() if "--db" in line
        ]
        self.assertIn("--db disk/registry.db", line.replace(f"{self.directory}/", ""))
        self.assertIn("ead-only file system", line)
        self.assertNotIn("Traceback", refused.errors + refused.output)
        await deferToThread((await self.start(db="disk/registry.db")).terminate)
