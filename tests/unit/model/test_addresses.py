"""Networks, prefixes and the addresses that follow from them."""

from ipaddress import IPv6Address, IPv6Network

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.errors import BadAddress
from vifibnet.model.addresses import Network, Prefix, normal_address

networks = st.integers(8, 96).flatmap(lambda n: st.builds(Network, st.integers(0, (1 << n) - 1), st.just(n)))
prefixes = st.integers(1, 30).flatmap(lambda n: st.builds(Prefix, st.integers(0, (1 << n) - 1), st.just(n)))


class PrefixTests(SynchronousTestCase):
    """A prefix and its two written forms."""

    @given(prefixes)
    def test_round_trips(self, prefix: Prefix) -> None:
        """Both forms read back as what was written."""
        self.assertEqual(Prefix.parse(str(prefix)), prefix)
        self.assertEqual(Prefix.from_bits(prefix.bits), prefix)

    def test_link_local(self) -> None:
        """On its ends of tunnels each node has an address of its own, or none where that does not fit."""
        for text, address in (
            ("5/16", "fe80::5:0:0:1"),
            ("0/16", "fe80::1"),
            ("0/0", "fe80::1"),
            ("1/63", "fe80::3"),
        ):
            self.assertEqual(str(Prefix.parse(text).link_local), address)
        self.assertIsNone(Prefix(5, 64).link_local)

    @given(prefixes, prefixes)
    def test_link_locals_differ(self, one: Prefix, other: Prefix) -> None:
        """Two nodes never have the same."""
        if one.bits.startswith(other.bits) or other.bits.startswith(one.bits):
            return
        self.assertTrue(one.link_local is None or one.link_local != other.link_local)

    def test_refuses_what_is_no_prefix(self) -> None:
        """Nothing but <value>/<length> with a value that fits is read."""
        for text in (
            "",
            "5",
            "5/",
            "/16",
            "65536/16",
            "05/16",
            "5/16 ",
            "5/16\n",
            "-1/16",
            "5/121",
            "a/b",
            "٥/16",
        ):
            with self.assertRaises(BadAddress, msg=text):
                Prefix.parse(text)
        for bits in ("2", "01 ", "0" * 121):
            with self.assertRaises(BadAddress, msg=bits):
                Prefix.from_bits(bits)


class NetworkTests(SynchronousTestCase):
    """The network, the serial number that carries it, and the nodes' addresses in it."""

    def test_the_manuals_example(self) -> None:
        """The manual's serial number is the manual's network."""
        network = Network.from_serial(0x120010DB80042)
        self.assertEqual(network, Network.parse("2001:db8:42::/48"))
        self.assertEqual(network.serial, 0x120010DB80042)
        self.assertEqual(network.subnet(Prefix.parse("5/16")), IPv6Network("2001:db8:42:5::/64"))
        self.assertEqual(network.address(Prefix.parse("5/16")), IPv6Address("2001:db8:42:5::1"))

    @given(networks, prefixes)
    def test_round_trips(self, network: Network, prefix: Prefix) -> None:
        """Serial, text and subnet lead back to what they came from."""
        self.assertEqual(Network.from_serial(network.serial), network)
        self.assertEqual(Network.parse(str(network)), network)
        self.assertEqual(network.prefix_of(network.subnet(prefix)), prefix)
        bits = network.host_bits(network.address(prefix))
        assert bits is not None
        self.assertTrue(bits.startswith(prefix.bits))

    def test_refuses_what_is_no_network(self) -> None:
        """A serial number without a network, host bits, IPv4 and odd lengths are refused."""
        for serial in (-5, 0, 1, 0x7F, 1 << 97):
            with self.assertRaises(BadAddress, msg=hex(serial)):
                Network.from_serial(serial)
        for text in (
            "2001:db8:42::1/48",
            "10.0.0.0/8",
            "2001:db8::/7",
            "2001:db8::/97",
            "x",
            "2001:db8:42::",
        ):
            with self.assertRaises(BadAddress, msg=text):
                Network.parse(text)

    def test_outside(self) -> None:
        """What lies outside has no prefix and no host bits here."""
        network = Network.parse("2001:db8:42::/48")
        self.assertIsNone(network.prefix_of(IPv6Network("2001:db8:43:5::/64")))
        self.assertIsNone(network.prefix_of(IPv6Network("2001::/16")))
        self.assertIsNone(network.host_bits(IPv6Address("2001:db8:43::1")))


class NormalTests(SynchronousTestCase):
    """Where connections come from."""

    def test_addresses(self) -> None:
        """IPv4 in IPv6's clothes is IPv4, a zone is no part of an address, and not everything is one."""
        self.assertEqual(str(normal_address("::ffff:192.0.2.1")), "192.0.2.1")
        self.assertEqual(str(normal_address("fe80::1%eth0")), "fe80::1")
        self.assertEqual(str(normal_address("2001:DB8:42:0::1")), "2001:db8:42::1")
        for text in ("", "x", "/run/socket", "1.2.3"):
            self.assertIsNone(normal_address(text))
