"""Whether answers might come from another address than was asked."""

from __future__ import annotations

from ipaddress import IPv6Network, ip_address

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.homes import several

NETWORK = IPv6Network("2001:db8:42::/48")
OWN = "2001:db8:42:5::1"


class SeveralTests(SynchronousTestCase):
    """One of each family, or more."""

    def check(self, wanted: bool, *interfaces: str) -> None:
        """What is found for interfaces with these addresses."""
        given = [[ip_address(word) for word in words.split()] for words in interfaces]
        self.assertIs(several(given, NETWORK), wanted, interfaces)

    def test_one_of_each(self) -> None:
        """None, one, or one of each family, wherever they are."""
        self.check(False)
        self.check(False, "", "192.0.2.1")
        self.check(False, "192.0.2.1", "2001:db8::1")
        self.check(False, "192.0.2.1 2001:db8::1")

    def test_more(self) -> None:
        """Two of a family, on one interface or two."""
        self.check(True, "192.0.2.1 192.0.2.2")
        self.check(True, "192.0.2.1", "172.17.0.1")
        self.check(True, "2001:db8::1 2001:db8::2", "192.0.2.1")

    def test_own(self) -> None:
        """Addresses in our own network count only where something might be sent from them."""
        self.check(False, OWN, "2001:db8::1")
        self.check(False, OWN, "2001:db8:42:ff::1 2001:db8:42:ff::2", "2001:db8::1")
        self.check(True, f"{OWN} 2001:db8::1")
        self.check(False, f"{OWN} 192.0.2.1")
