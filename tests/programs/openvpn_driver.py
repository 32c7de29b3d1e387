"""A node's process that is to be killed: a server on vifs0 and a client on vifc0, until somebody does."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from twisted.internet import reactor

from vifibnet.model.addresses import Prefix
from vifibnet.model.endpoints import Endpoint
from vifibnet.node.openvpn import OpenVPNClient, OpenVPNSettings
from vifibnet.node.openvpnserver import OpenVPNServer


def main(directory: Path, trusted: Path) -> None:
    """Say ``up`` when the client has reached the server."""
    settings = OpenVPNSettings(
        trusted, directory / "cert.crt", directory / "cert.key", directory, directory, 0.2
    )
    endpoints = [Endpoint("127.0.0.1", 1195, "udp")]

    def connect() -> None:
        client = OpenVPNClient(
            reactor, settings, "vifc0", Prefix.parse("0/16"), endpoints, lambda: up(client)
        )
        # The server may not listen yet.
        client.ended.addCallback(lambda _: connect())
        client.start()

    def up(client: OpenVPNClient) -> None:
        if client.up:
            print("up", flush=True)

    server = OpenVPNServer(reactor, random.Random(), settings, "vifs0", 1195, "udp", lambda: None)
    server.startService()
    connect()
    reactor.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
