"""The sockets of the port."""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from tests.ports import free_port
from vifibnet.errors import BadInput
from vifibnet.registry.listen import open_sockets


class ListenTests(SynchronousTestCase):
    """Opening them, and what is wrong with others."""

    def opened(self, *interfaces: str, port: int | None = None) -> list[socket.socket]:
        """Open, and close at the end."""
        sockets = open_sockets(port or free_port(), interfaces)
        for each in sockets:
            self.addCleanup(each.close)
        return sockets

    def test_everywhere(self) -> None:
        """Both IP versions, each as itself."""
        port = free_port()
        self.opened(port=port)
        for address in ("127.0.0.1", "::1"):
            with socket.create_connection((address, port), 5):
                pass
            self.assertIn("is in use", str(self.assertRaises(BadInput, open_sockets, port, [address])))

    def test_some(self) -> None:
        """Only the addresses that were given."""
        port = free_port()
        (only,) = self.opened("::1", port=port)
        self.assertEqual(only.getsockname()[:2], ("::1", port))
        self.assertRaises(OSError, socket.create_connection, ("127.0.0.1", port), 5)
        self.opened("127.0.0.1", port=port)

    def test_refusals(self) -> None:
        """One sentence; nothing stays open."""
        port = free_port()
        for interface, sentence in (
            ("203.0.113.7", "--interface 203.0.113.7: is no address of this machine; "),
            ("2001:db8:7::7", "--interface 2001:db8:7::7: is no address of this machine; "),
            ("lo", "--interface lo: is no IP address; "),
            ("", "--interface : is no IP address; "),
            ("localhost", "--interface localhost: is no IP address; "),
        ):
            error = self.assertRaises(BadInput, open_sockets, port, ["127.0.0.1", interface])
            self.assertTrue(str(error).startswith(sentence), error)
        self.opened(port=port)
