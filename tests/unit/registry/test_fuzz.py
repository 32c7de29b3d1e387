"""The registry and strangers' bytes: always the same examples, and those that once found something.

``python -m bench.fuzz`` tries more, and others each time.
"""

from __future__ import annotations

import tracemalloc
from typing import Any, ClassVar

from twisted.logger import Logger
from twisted.protocols.amp import AmpBox
from twisted.trial.unittest import SynchronousTestCase

from bench.fuzz import TARGETS, Target, fuzz

EXAMPLES = 80


def box(**content: bytes) -> bytes:
    """A box whose keys begin with an underscore where Python's do."""
    return AmpBox({key.encode(): value for key, value in content.items()}).serialize()


class FuzzTests(SynchronousTestCase):
    """Nothing is raised, logged as an error, slow, or held."""

    SEEDS: ClassVar[list[tuple[str, tuple[Any, ...]]]] = [
        ("before_tls", (b"GET / HTTP/1.1\r\n\r\n", [400])),
        ("before_tls", (b"\x16\x03\x01\x00\x00", [1])),
        ("within_tls", ([b"vifibnet-amp"], b"\x00", None, [1])),
        ("within_tls", ([], b"GET / HTTP/1.1\r\n\r\n", 7, [3])),
        # Each header beyond the limit was once refused anew.
        ("over_http", (b"POST / HTTP/1.1\r\n" + b"X:\r\n" * 1000, [400])),
        ("over_http", (b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n" * 300, [400])),
        ("over_xmlrpc", (b"<methodCall><methodName>&x;</methodName></methodCall>", [400])),
        # Once wrote tracebacks into the log: an answer to nothing, no arguments, TLS within TLS.
        ("over_amp", (box(_answer=b"1"), [400])),
        ("over_amp", (box(_command=b"Declare", _ask=b"1"), [400])),
        ("over_amp", (box(_command=b"GetPeers", _ask=b"1", count=b"1e9"), [1])),
        ("over_amp", (box(_command=b"GetPeers", count=b"9" * 5000), [400])),
        ("over_amp", (box(_command=b"StartTLS", _ask=b"1"), [400])),
        ("over_amp", (b"\x00\x01k\xff\xff" + b"x" * 0xFFFF + b"\x00\x01l\xff\xff" + b"x" * 10, [400])),
    ]

    def setUp(self) -> None:
        """Watch the memory."""
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)

    def test_seeds(self) -> None:
        """What once found something, or might have."""
        target = Target()
        for name, arguments in self.SEEDS:
            getattr(target, name)(*arguments)
            self.assertEqual(self.flushLoggedErrors(), [], name)

    def test_before_tls(self) -> None:
        """Instead of a TLS handshake."""
        fuzz("before_tls", EXAMPLES, same=True)

    def test_within_tls(self) -> None:
        """After a handshake without a certificate."""
        fuzz("within_tls", EXAMPLES, same=True)

    def test_over_http(self) -> None:
        """Instead of HTTP."""
        fuzz("over_http", EXAMPLES, same=True)

    def test_over_xmlrpc(self) -> None:
        """Instead of an XML-RPC call."""
        fuzz("over_xmlrpc", EXAMPLES, same=True)

    def test_over_amp(self) -> None:
        """Instead of AMP boxes, from a node."""
        fuzz("over_amp", EXAMPLES, same=True)

    def test_finds(self) -> None:
        """What would be wrong is found: raised, logged, or held."""
        self.assertEqual(len(TARGETS), 5)
        held = []

        class Raising(Target):
            def over_amp(self, data: bytes, sizes: list[int]) -> None:
                raise ValueError

        class Logging(Target):
            def over_amp(self, data: bytes, sizes: list[int]) -> None:
                try:
                    raise ValueError
                except ValueError:
                    Logger().failure("x")

        class Holding(Target):
            def over_amp(self, data: bytes, sizes: list[int]) -> None:
                held.append(self._connect(self.site.buildProtocol(None), None))
                held[-1].write(bytes(1_000_000))

        for kind, error in ((Raising, ValueError), (Logging, ValueError), (Holding, AssertionError)):
            self.assertRaises(error, fuzz, "over_amp", 20, True, kind())
        self.flushLoggedErrors(ValueError)
