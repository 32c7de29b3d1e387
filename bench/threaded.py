"""What re6stnet's registry is: the standard library's ``http.server``, one thread per connection.

A call is ``GET /getBootstrapPeer``, answered with the peer as plain text: nothing is parsed or checked beyond
that. re6stnet leaves the protocol at HTTP/1.0, its client closes after each call, and there is no TLS: each
call takes a connection and a thread. Beyond that it checks and makes an HMAC, encrypts the answer for the key
of its node, and has one lock around its database, all of which is left out here in its favour. The query is
the very same: the registry's own store makes it.

On further ports the same with what it lacks: HTTP/1.1 keep-alive, mutual TLS, and XML-RPC (read and written
by the standard library).
"""

from __future__ import annotations

import argparse
import sqlite3
import ssl
import threading
import time
import xmlrpc.client
from collections import deque
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.registry import load_authority
from vifibnet.store.registry import RegistryStore

_STORES: deque[RegistryStore] = deque()
"""Those that no thread uses at the moment."""


class Handler(BaseHTTPRequestHandler):
    """One connection, and one call."""

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
        try:
            store = _STORES.pop()
        except IndexError:
            db = sqlite3.connect(self.db, isolation_level=None, check_same_thread=False)
            store = RegistryStore(db, time.time, Random())
        peer = store.bootstrap(())
        _STORES.append(store)
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


class Keeping(Handler):
    """One connection, and as many calls as its client likes."""

    protocol_version = "HTTP/1.1"


class Server(ThreadingHTTPServer):
    """Many may come at once."""

    request_queue_size = 511

    def handle_error(self, request: object, client_address: object) -> None:
        """A client hung up: nothing to say."""


def tls(home: Path) -> ssl.SSLContext:
    """TLS as nodes have it with the registry: both sides show a certificate."""
    authority = load_authority(home)
    key, certificate = authority.server_certificate(["127.0.0.1"], datetime.now(UTC))
    private: Any = key
    (home / "threaded.key").write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (home / "threaded.crt").write_bytes(certificate.public_bytes(Encoding.PEM) + authority.ca_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(home / "threaded.crt", home / "threaded.key")
    context.load_verify_locations(home / "ca.crt")
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("port", type=int, help="a connection per call, no TLS")
    parser.add_argument("--kept", type=int, required=True, help="keep-alive")
    parser.add_argument("--tls", type=int, required=True, help="keep-alive over TLS")
    args = parser.parse_args()
    Handler.db = str(args.home / "registry.db")
    for port in (args.port, args.kept):
        plain = Server(("127.0.0.1", port), Keeping if port == args.kept else Handler)
        threading.Thread(target=plain.serve_forever, daemon=True).start()
    secure = Server(("127.0.0.1", args.tls), Keeping)
    # The handshake belongs into the connection's thread.
    secure.socket = tls(args.home).wrap_socket(secure.socket, server_side=True, do_handshake_on_connect=False)
    secure.serve_forever()


if __name__ == "__main__":
    main()
