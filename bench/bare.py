"""What any Twisted server over TLS could reach at most: it answers whatever it reads with ready-made bytes.

Nothing is taken apart, looked up or put together, and nothing is bounded; TLS is the registry's own.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.amp import AmpBox
from twisted.protocols.tls import TLSMemoryBIOFactory

from bench.registry import ENDPOINTS, load_authority
from vifibnet.guard.records import PromptTLS
from vifibnet.pki.tls import server_options

ANSWER = AmpBox(_answer=b"1", prefix=b"65535/17", endpoints=ENDPOINTS.encode(), seen=b"127.0.0.1").serialize()


class Bare(Protocol):
    """One connection."""

    transport: Any

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Answer."""
        self.transport.write(ANSWER)


def main() -> None:
    """Serve until killed."""
    from twisted.internet import reactor as global_reactor

    reactor: Any = global_reactor
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("port", type=int)
    args = parser.parse_args()
    options = server_options(load_authority(args.home), ["127.0.0.1"], datetime.now(UTC))
    factory = TLSMemoryBIOFactory(options, False, Factory.forProtocol(Bare), reactor)
    factory.protocol = PromptTLS
    reactor.listenTCP(args.port, factory, 511, "127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main()
