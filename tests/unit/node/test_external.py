"""What a node declares."""

from twisted.trial.unittest import SynchronousTestCase

from vifibnet.model.addresses import Network
from vifibnet.model.endpoints import Endpoint
from vifibnet.node.external import endpoints_to_declare

NETWORK = Network.parse("2001:db8:42::/48")
SERVERS = ((1194, "udp"), (443, "tcp-server"))
GIVEN = (Endpoint("192.0.2.1", 1, "udp"),)
MAPPED = (Endpoint("192.0.2.2", 2, "udp"),)


def declared(
    given: tuple[Endpoint, ...] = (),
    mapped: tuple[Endpoint, ...] = (),
    seen: str | None = None,
    told: str | None = None,
) -> list[str]:
    """What is declared, in short."""
    found = endpoints_to_declare(
        given=given, mapped=mapped, seen=(seen, told), servers=SERVERS, network=NETWORK
    )
    return [f"{e.address} {e.port} {e.proto}" for e in found]


class EndpointTests(SynchronousTestCase):
    """Given, mapped, seen: the first of them that there is."""

    def test_order(self) -> None:
        """The operator knows best, then the gateway."""
        self.assertEqual(declared(GIVEN, MAPPED, "192.0.2.3"), ["192.0.2.1 1 udp"])
        self.assertEqual(declared((), MAPPED, "192.0.2.3"), ["192.0.2.2 2 udp"])
        self.assertEqual(declared(seen="192.0.2.3"), ["192.0.2.3 1194 udp", "192.0.2.3 443 tcp-client"])
        self.assertEqual(declared(), [])

    def test_ipv6(self) -> None:
        """IPv6 is dialled as such; IPv4 seen by a dual-stack socket is IPv4."""
        self.assertEqual(
            declared(seen="2001:db8::1"), ["2001:db8::1 1194 udp6", "2001:db8::1 443 tcp6-client"]
        )
        self.assertEqual(declared(seen="::ffff:192.0.2.3")[0], "192.0.2.3 1194 udp")

    def test_useless(self) -> None:
        """An address inside the VPN, of this machine alone or of one link is no way to reach us."""
        for seen in ("2001:db8:42:5::1", "127.0.0.1", "::1", "fe80::1", "::", "nonsense", "ff02::1"):
            self.assertEqual(declared(seen=seen), [], seen)

    def test_several(self) -> None:
        """The first that is of use, but a public one before all others."""
        self.assertEqual(declared(seen="192.0.2.3", told="192.0.2.4")[0], "192.0.2.3 1194 udp")
        self.assertEqual(declared(seen="2001:db8:42:5::1", told="192.0.2.4")[0], "192.0.2.4 1194 udp")
        self.assertEqual(declared(seen="192.168.1.7", told="9.9.9.9")[0], "9.9.9.9 1194 udp")
