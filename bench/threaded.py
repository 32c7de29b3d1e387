"""What a threaded registry is: the standard library's ``http.server``, one thread per connection.

A call is ``GET /getBootstrapPeer``, answered with the peer as plain text over HTTP/1.1 keep-alive: nothing is
parsed or checked beyond that. Or it is the same call over XML-RPC, read and written by the standard library.
Each thread has its own connection to the same database, so none waits for
another's lock. The query is the very same: the registry's own store makes it.
"""

from __future__ import annotations

import argparse
import ssl
import threading
import time
import xmlrpc.client
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.registry import NETWORK, load_authority
from vifibnet.store.registry import RegistryStore

_LOCAL = threading.local()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    # Otherwise Nagle's algorithm would cost 40 ms a call.
    disable_nagle_algorithm = True
    db = ""

    def do_GET(self) -> None:
        """Answer one call with plain text."""
        self._answer(" ".join(self._peer()).encode(), "text/plain")

    def do_POST(self) -> None:
        """Answer one call with XML."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        _, name = xmlrpc.client.loads(body)
        assert name == "getBootstrapPeer"
        answer = xmlrpc.client.dumps((self._peer(),), methodresponse=True)
        self._answer(answer.encode(), "text/xml")

    def _peer(self) -> list[str]:
        store: RegistryStore | None = getattr(_LOCAL, "store", None)
        if store is None:
            store = _LOCAL.store = RegistryStore.open(self.db, NETWORK, time.time, Random())
        peer = store.bootstrap(())
        assert peer is not None
        return [peer[0].bits, peer[1]]

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep no access log."""


class Server(ThreadingHTTPServer):
    """Many may come at once."""

    request_queue_size = 511

    def handle_error(self, request: object, client_address: object) -> None:
        """A client hung up: nothing to say."""


def tls(home: Path) -> ssl.SSLContext:
    """TLS as the registry has it."""
    authority = load_authority(home)
    key, certificate = authority.server_certificate(["127.0.0.1"], datetime.now(UTC))
    private: Any = key
    (home / "threaded.key").write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (home / "threaded.crt").write_bytes(certificate.public_bytes(Encoding.PEM) + authority.ca_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(home / "threaded.crt", home / "threaded.key")
    return context


def main() -> None:
    """Serve until killed, with TLS on one port and without on another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--plain", type=int, required=True)
    args = parser.parse_args()
    Handler.db = str(args.home / "registry.db")
    plain = Server(("127.0.0.1", args.plain), Handler)
    threading.Thread(target=plain.serve_forever, daemon=True).start()
    secure = Server(("127.0.0.1", args.port), Handler)
    # The handshake belongs into the connection's thread.
    secure.socket = tls(args.home).wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
    secure.serve_forever()


if __name__ == "__main__":
    main()
