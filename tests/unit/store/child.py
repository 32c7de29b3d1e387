"""A process that issues certificates from a database file, and may die while it does.

``python -m tests.unit.store.child PATH issue LENGTH TOKEN…`` prints a JSON list of [bits, serial].
``python -m tests.unit.store.child PATH die STATEMENT LENGTH TOKEN`` kills itself when the issue begins its
STATEMENTth SQL statement; with STATEMENT 0 while it signs, with "returned" right afterwards.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable

from tests.unit.store import signing
from vifibnet.model.addresses import Prefix
from vifibnet.store.database import open_database
from vifibnet.store.pem import Signed
from vifibnet.store.registry import APPLICATION_ID, RegistryStore


def die() -> None:
    """End as if the machine had been switched off."""
    os.kill(os.getpid(), signal.SIGKILL)


def issue_all(path: str, length: str, *tokens: str) -> None:
    """Issue one certificate per token."""
    store = RegistryStore(open_database(path, "registry", application_id=APPLICATION_ID), time.time)
    issued: list[tuple[str, str]] = []

    def sign(prefix: Prefix, serial: int) -> Signed:
        issued.append((prefix.bits, str(serial)))
        return signing.sign(prefix, serial)

    for token in tokens:
        store.issue(token, os.urandom(32), int(length), sign)
    print(json.dumps(issued))


def issue_and_die(path: str, statement: str, length: str, token: str) -> None:
    """Issue one certificate and die before it is done, or when it has just been."""
    db = open_database(path, "registry", application_id=APPLICATION_ID)
    store = RegistryStore(db, time.time)
    begun = 0

    def trace(_sql: str) -> None:
        nonlocal begun
        begun += 1
        if str(begun) == statement:
            die()

    def sign(prefix: Prefix, serial: int) -> Signed:
        if statement == "0":
            die()
        return signing.sign(prefix, serial)

    db.set_trace_callback(trace)
    store.issue(token, os.urandom(32), int(length), sign)
    if statement == "returned":
        die()


def main(path: str, mode: str, *arguments: str) -> None:
    """Do what the command line says."""
    modes: dict[str, Callable[..., None]] = {"issue": issue_all, "die": issue_and_die}
    modes[mode](path, *arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
