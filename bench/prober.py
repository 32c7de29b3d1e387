"""Somebody else who calls a registry: one process of ``bench.registry_load``, plain and blocking.

Twenty times a second it calls getCa over one connection, and once a second over a new one; what it cannot
reach it tries again. Prints a line of JSON for each answer: when, how long it took, whether the connection
was new.
"""

from __future__ import annotations

import argparse
import http.client
import json
import ssl
import time
import xmlrpc.client
from contextlib import suppress
from pathlib import Path

BODY = xmlrpc.client.dumps((), "getCa").encode()


class Prober:
    """Calls."""

    def __init__(self, home: Path, port: int) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=str(home / "ca.crt"))
        self._kept: http.client.HTTPSConnection | None = None

    def _new(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self._port, timeout=30, context=self._context)

    def call(self, fresh: bool) -> None:
        """Call once and tell how it went; nobody there is no news."""
        connection = self._new() if fresh or self._kept is None else self._kept
        new = connection is not self._kept
        began = time.time()
        try:
            connection.request("POST", "/RPC2", BODY, {"Content-Type": "text/xml"})
            answer = connection.getresponse()
            good = answer.status == 200 and b"BEGIN CERTIFICATE" in answer.read()
        except (OSError, http.client.HTTPException) as error:
            if not isinstance(error, ConnectionRefusedError):
                self._say(began, new, type(error).__name__)
            connection.close()
            if not fresh:
                self._kept = None
            return
        self._say(began, new, None if good else f"status {answer.status}")
        if fresh or answer.will_close:
            connection.close()
        if not fresh:
            self._kept = None if answer.will_close else connection

    def _say(self, began: float, new: bool, error: str | None) -> None:
        took = time.time() - began
        print(json.dumps({"at": began, "took": took, "new": new, "error": error}), flush=True)


def main() -> None:
    """Call until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("port", type=int)
    args = parser.parse_args()
    prober = Prober(args.home, args.port)
    number = 0
    while True:
        prober.call(fresh=number % 20 == 0)
        number += 1
        time.sleep(0.05)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt, BrokenPipeError):
        main()
