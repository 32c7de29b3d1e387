"""What is lost when the registry is killed again and again while many nodes join: nothing.

A real registry on loopback is sent SIGKILL at random moments while many clients enrol at the same time, and
is started again each time. Then every certificate, token and prefix is looked at. Prints a JSON document;
exits 1 when something was lost or given twice.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.task import deferLater

from bench.registry import free_port
from vifibnet.cli import adminclient
from vifibnet.cli.main import finish
from vifibnet.errors import NotOurRegistry, RegistryUnreachable, UnknownToken, VifibnetError
from vifibnet.node.xmlrpcclient import XMLRPCRegistry
from vifibnet.pki.certificates import CA, load_ca, prefix_of
from vifibnet.pki.requests import make_key, make_request
from vifibnet.pki.tls import client_options
from vifibnet.store.space import is_whole
from vifibnet.wire.admin import MAX_INVITATIONS, Invite
from vifibnet.wire.invitation import Invitation

CLIENTS = 20
"""How many enrol at the same time."""

PATIENCE = 120.0
"""Seconds in which each must get its certificate."""


@dataclass
class Outcome:
    """What was counted; the last four must be 0."""

    enrolments: int
    kills: int
    seconds: float
    asked_again: int
    prefixes_twice: int = 0
    unknown_to_database: int = 0
    spent_in_vain: int = 0
    space_lost: int = 0

    @property
    def good(self) -> bool:
        """Whether nothing was lost."""
        return not (self.prefixes_twice or self.unknown_to_database or self.spent_in_vain or self.space_lost)


@dataclass(frozen=True)
class Joined:
    """Who joined, with what it needs to ask again."""

    token: str
    request: str
    pem: str


class Crash:
    """One run in an empty directory."""

    def __init__(self, reactor: Any, directory: Path, rng: random.Random) -> None:
        self._reactor = reactor
        self._directory = directory
        self._rng = rng
        self._database = directory / "registry.db"
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._joined: list[Joined] = []
        self._again = 0

    async def run(self, enrolments: int, kills: int) -> Outcome:
        """Enrol, kill, and look at what is there."""
        self._vifibnet("ca", "--network", "2001:db8:42::/48", "--dir", str(self._directory))
        self._ca = load_ca(self._directory / "ca.crt", "--ca")
        began = self._reactor.seconds()
        try:
            self._start()
            tokens = await self._invite(enrolments)
            waiting = iter(tokens)
            clients = [Deferred.fromCoroutine(self._client(waiting)) for _ in range(CLIENTS)]
            killing = Deferred.fromCoroutine(self._kill_again_and_again(enrolments, kills))
            await gatherResults([*clients, killing], consumeErrors=True)
            outcome = Outcome(enrolments, kills, self._reactor.seconds() - began, self._again)
            await self._ask_again(outcome)
        finally:
            self._kill()
        self._look(outcome, tokens)
        return outcome

    # -- the registry -----------------------------------------------------------------------------------

    def _vifibnet(self, *words: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "vifibnet", *words], check=True, capture_output=True, timeout=30
        )

    def _start(self) -> None:
        command = [
            str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "vifibnet-registry",
            str(self._port), "--db", str(self._database), "--interface", "127.0.0.1",
            "--ca", str(self._directory / "ca.crt"), "--key", str(self._directory / "ca.key"),
            "--mailhost", "localhost",
        ]  # fmt: skip
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def _kill_again_and_again(self, enrolments: int, kills: int) -> None:
        for number in range(1, kills + 1):
            while len(self._joined) < enrolments * number // (kills + 1):
                await deferLater(self._reactor, 0.005)
            await deferLater(self._reactor, self._rng.uniform(0, 0.05))
            self._kill()
            self._start()

    # -- those who join ---------------------------------------------------------------------------------

    async def _invite(self, count: int) -> list[str]:
        where = argparse.Namespace(registry=self._database, socket=None)
        tokens: list[str] = []
        deadline = self._reactor.seconds() + PATIENCE
        while len(tokens) < count:
            try:
                async with adminclient.running_registry(self._reactor, where) as registry:
                    some = min(count - len(tokens), MAX_INVITATIONS)
                    answer = await registry.call(Invite, count=some, valid=3600)
                    tokens += [Invitation.parse(line).token for line in answer["invitations"]]
            except VifibnetError:
                if self._reactor.seconds() > deadline:
                    raise
                await deferLater(self._reactor, 0.05)
        return tokens

    async def _client(self, tokens: Any) -> None:
        for token in tokens:
            key = make_key()
            request = make_request(key, []).public_bytes(Encoding.PEM).decode()
            self._joined.append(Joined(token, request, await self._enrol(self._ca, token, request)))

    async def _enrol(self, ca: CA, token: str, request: str) -> str:
        endpoint = HostnameEndpoint(self._reactor, "127.0.0.1", self._port, timeout=5)
        registry = XMLRPCRegistry(self._reactor, endpoint, client_options([ca], None), "the registry", 10)
        deadline = self._reactor.seconds() + PATIENCE
        while True:
            try:
                return await registry.request_certificate(token, request)
            except (RegistryUnreachable, NotOurRegistry):
                # Killed: it does not answer, or stops in the middle of the handshake.
                if self._reactor.seconds() > deadline:
                    raise
                self._again += 1
                await deferLater(self._reactor, self._rng.uniform(0.05, 0.2))

    async def _ask_again(self, outcome: Outcome) -> None:
        """Everybody can get the same certificate again; a tenth tries."""
        for one in self._rng.sample(self._joined, max(1, len(self._joined) // 10)):
            try:
                again = await self._enrol(self._ca, one.token, one.request)
            except UnknownToken:
                again = ""
            outcome.spent_in_vain += again != one.pem

    # -- what is there ----------------------------------------------------------------------------------

    def _look(self, outcome: Outcome, tokens: Sequence[str]) -> None:
        prefixes = {prefix_of(x509.load_pem_x509_certificate(one.pem.encode())) for one in self._joined}
        outcome.prefixes_twice = len(self._joined) - len(prefixes)
        with closing(sqlite3.connect(self._database)) as db:
            kept = {pem for (pem,) in db.execute("SELECT pem FROM certificate")}
            outcome.unknown_to_database = sum(one.pem not in kept for one in self._joined)
            (spent,) = db.execute("SELECT count(*) FROM token WHERE serial IS NOT NULL").fetchone()
            # One for each who has its certificate, and no certificate that nobody has.
            outcome.spent_in_vain += abs(spent - len(self._joined)) + abs(len(kept) - len(tokens))
            outcome.space_lost = int(not is_whole(db))


async def main(reactor: Any, args: argparse.Namespace) -> int:
    """Run once and print what came of it."""
    seed = args.seed if args.seed is not None else int(time.time())
    with tempfile.TemporaryDirectory(prefix="vifibnet-crash-") as directory:
        crash = Crash(reactor, Path(directory), random.Random(seed))
        outcome = await crash.run(args.enrolments, args.kills)
    result = {"bench": "crash", "seed": seed, **asdict(outcome), "seconds": round(outcome.seconds, 1)}
    print(json.dumps({**result, "met": outcome.good}, indent=1))
    return 0 if outcome.good else 1


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, prog="bench.crash")
    parser.add_argument("--enrolments", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--kills", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--seed", type=int, help="for the moments of the kills")
    return parser.parse_args(argv)


if __name__ == "__main__":
    options = parse()
    os.umask(0o077)
    finish("bench.crash", lambda reactor: main(reactor, options))
