"""Datagrams that anybody at the other end of a tunnel may send."""

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.addresses import Prefix
from vifibnet.wire.hearsay import MAX_LENGTH, format_seen, parse_seen

PEER = Prefix.parse("5/16")


class SeenTests(SynchronousTestCase):
    """Telling and understanding."""

    @given(st.ip_addresses().map(str).filter(lambda text: "%" not in text))
    def test_round_trip(self, address: str) -> None:
        """What is told is understood."""
        self.assertEqual(parse_seen(format_seen(PEER, address)), (PEER, ip_address(address)))

    @given(st.binary(max_size=2 * MAX_LENGTH))
    def test_anything(self, datagram: bytes) -> None:
        """Other datagrams are ignored."""
        self.assertIsNone(parse_seen(datagram))

    def test_almost(self) -> None:
        """So are those that are nearly right."""
        for text in (
            "vifibnet-seen 5/16",
            "vifibnet-seen 5/16 192.0.2.1 ",
            "vifibnet-seen 5/16 192.0.2",
            "vifibnet-seen 5 192.0.2.1",
            "vifibnet-seen 5/16 fe80::1%eth0",
            "Vifibnet-seen 5/16 192.0.2.1",
            "vifibnet-seen 5/16 192.0.2.1" + " " * MAX_LENGTH,
        ):
            self.assertIsNone(parse_seen(text.encode()), text)
