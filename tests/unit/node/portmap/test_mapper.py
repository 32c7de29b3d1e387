"""Keeping ports mapped: what happens when, on a clock of the test's own."""

from ipaddress import IPv4Address
from typing import Any

from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from tests.unit.node.portmap.case import ME, SOMEBODY, TCP, UDP, MapperTest
from tests.unit.node.portmap.contract import GatewayContract
from tests.unit.node.portmap.fakes import FakeGateway, FakeRouter
from vifibnet.interfaces import IPortMapper
from vifibnet.model.endpoints import Endpoint
from vifibnet.node.portmap.gateway import Granted, IGateway, MappingRefused, PortTaken
from vifibnet.node.portmap.mapper import (
    LEASE,
    PORT_TRIES,
    RETRY,
    RETRY_MAX,
    reachable,
)


class ContractTests(TestCase, GatewayContract):
    """The fake does what every gateway must do."""

    def setUp(self) -> None:
        """Have one."""
        self.gateway = FakeGateway(FakeRouter())


class MapTests(MapperTest):
    """Mapping."""

    def test_interface(self) -> None:
        """It is a port mapper."""
        verifyObject(IPortMapper, self.mapper)

    def test_endpoints(self) -> None:
        """UDP is dialled by UDP, a TCP server by a TCP client; one search serves both."""
        self.assertEqual(self.mapped(), UDP)
        self.assertEqual(self.mapped(1194, "tcp-server"), TCP)
        self.assertEqual(self.mapper.endpoints, (UDP, TCP))
        self.assertEqual(self.router.table, {("udp", 1194): ME, ("tcp", 1194): ME})
        self.assertEqual(self.router.leases, [LEASE, LEASE])
        self.assertEqual(len(self.searches), 1)
        self.assertEqual(self.changes, [])

    def test_bad_protocol(self) -> None:
        """A protocol that no server of ours speaks is a mistake of the caller."""
        self.failureResultOf(self.map(1194, "tcp-client"), ValueError)

    def test_taken(self) -> None:
        """When the port is somebody else's, another one is used, and kept."""
        self.router.table["udp", 1194] = SOMEBODY
        endpoint = self.mapped()
        assert endpoint is not None
        self.assertNotEqual(endpoint.port, 1194)
        self.assertEqual(self.router.table["udp", endpoint.port], ME)
        self.advance(LEASE)
        self.assertEqual(self.mapper.endpoints, (endpoint,))
        self.assertEqual(self.router.table["udp", 1194], SOMEBODY)

    def test_all_taken(self) -> None:
        """A gateway that says so of every port is asked a bounded number of times, and again much later."""
        self.router.refuses = PortTaken(718, "ConflictInMappingEntry")
        self.assertIsNone(self.mapped())
        assert self.gateway is not None
        self.assertEqual(
            len([call for call in self.gateway.calls if call.startswith("add ")]), 1 + PORT_TRIES
        )
        calls = len(self.gateway.calls)
        self.advance(60)
        self.assertEqual(len(self.gateway.calls), calls)
        self.router.refuses = None
        self.advance(LEASE)
        self.assertEqual(self.changes[0].proto if self.changes[0] else None, "udp")

    def test_refused(self) -> None:
        """A refusal is a normal answer, said once, and not the end."""
        self.router.refuses = MappingRefused(606, "Action not authorized")
        self.assertIsNone(self.mapped())
        self.advance(3 * LEASE)
        self.assertEqual(len([line for line in self.said if "606" in line]), 1)
        self.router.refuses = None
        self.advance(LEASE)
        self.assertEqual(self.changes, [UDP])

    def test_again(self) -> None:
        """Asking for the same port again gives the same answer without asking the gateway."""
        self.mapped()
        assert self.gateway is not None
        calls = list(self.gateway.calls)
        self.assertEqual(self.mapped(), UDP)
        self.assertEqual(self.gateway.calls, calls)


class ReachableTests(MapperTest):
    """Addresses that nobody outside reaches."""

    def test_addresses(self) -> None:
        """Private, shared, missing and multicast addresses are not reachable."""
        for text in (
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "169.254.1.1",
            "224.0.0.1",
        ):
            self.assertFalse(reachable(IPv4Address(text)), text)
        for text in ("44.128.0.2", "100.63.255.255", "100.128.0.0", "172.32.0.1", "8.8.8.8"):
            self.assertTrue(reachable(IPv4Address(text)), text)

    def test_double_nat(self) -> None:
        """Behind one more NAT there is no endpoint, which is said once for all ports; it may change."""
        self.router.address = IPv4Address("100.64.0.7")
        self.assertIsNone(self.mapped())
        self.assertIsNone(self.mapped(1194, "tcp-server"))
        self.advance(3 * LEASE)
        self.assertEqual(len([line for line in self.said if "100.64.0.7" in line]), 1)
        self.assertEqual(self.router.table, {})
        self.router.address = IPv4Address("44.128.0.2")
        self.advance(LEASE)
        self.assertCountEqual(self.changes, [UDP, TCP])


class RenewalTests(MapperTest):
    """Time going by."""

    def test_renewed(self) -> None:
        """Every lease is renewed well before it ends, not in step, and nothing is reported."""
        self.mapped()
        times: list[float] = []
        assert self.gateway is not None
        self.gateway.before = lambda: times.append(self.clock.seconds())
        self.advance(10 * LEASE)
        renewals = times[::2]
        gaps = [after - before for before, after in zip([0.0, *renewals], renewals, strict=False)]
        self.assertGreaterEqual(len(gaps), 30)
        self.assertLessEqual(max(gaps), LEASE / 3 + LEASE / 60)
        self.assertGreaterEqual(min(gaps), LEASE / 3 * 0.8)
        self.assertGreater(len({round(gap) for gap in gaps}), 3)
        self.assertEqual(self.changes, [])
        self.assertEqual(self.said, ["found the gateway fake", "port 1194 is 44.128.0.2,1194,udp outside"])

    def test_shorter_lease(self) -> None:
        """A gateway that grants less than asked is asked more often."""

        class Stingy(FakeGateway):
            """Grants two minutes."""

            async def add(self, port: int, transport: Any, external: int, lease: int) -> Granted:
                return Granted((await super().add(port, transport, external, lease)).external, 120)

        self.gateway = Stingy(self.router)
        self.mapped()
        self.advance(600)
        self.assertGreaterEqual(len(self.router.leases), 1 + 600 // 120 * 2)

    def test_permanent(self) -> None:
        """A mapping without a lease is asserted all the same: the router may forget it."""

        class Permanent(FakeGateway):
            """Knows no leases."""

            async def add(self, port: int, transport: Any, external: int, lease: int) -> Granted:
                return Granted((await super().add(port, transport, external, 0)).external, 0)

        self.gateway = Permanent(self.router)
        self.assertEqual(self.mapped(), UDP)
        self.router.table.clear()
        self.advance(LEASE / 2)
        self.assertEqual(self.router.table, {("udp", 1194): ME})

    def test_address_changes(self) -> None:
        """A new outer address is reported; so is that there is none, and that it is back."""
        self.mapped()
        self.router.address = IPv4Address("44.128.0.3")
        self.advance(LEASE / 2)
        other = Endpoint("44.128.0.3", 1194, "udp")
        self.assertEqual(self.changes, [other])
        self.router.address = IPv4Address("0.0.0.0")
        self.advance(LEASE / 2)
        self.assertEqual(self.changes, [other, None])
        self.assertEqual(self.mapper.endpoints, ())
        self.router.address = IPv4Address("44.128.0.3")
        self.advance(LEASE / 2)
        self.assertEqual(self.changes, [other, None, other])

    def test_restarted(self) -> None:
        """A gateway that is found at another place has the mapping again, and nobody notices."""
        self.mapped()
        assert self.gateway is not None
        self.gateway.before = self.trouble
        gone = self.gateway
        self.router.table.clear()
        self.gateway = FakeGateway(self.router)
        while len(gone.calls) < 3:
            self.advance(1)
        self.assertEqual(self.searches, [0, self.clock.seconds()])
        self.assertEqual(self.router.table, {("udp", 1194): ME})
        self.assertEqual(self.changes, [])

    def test_gone(self) -> None:
        """A gateway that is gone takes the endpoint with it only when the lease has ended."""
        self.mapped()
        assert self.gateway is not None
        self.gateway.before = self.trouble
        self.gateway = None
        self.advance(LEASE - 1)
        self.assertEqual(self.changes, [])
        self.assertGreater(len(self.searches), 3)
        self.advance(LEASE / 60 + 1)
        self.assertEqual(self.changes, [None])
        self.gateway = FakeGateway(self.router)
        self.advance(RETRY_MAX + LEASE / 60)
        self.assertEqual(self.changes, [None, UDP])

    def test_never_well(self) -> None:
        """A gateway that is found and then does nothing right is asked ever more rarely."""
        assert self.gateway is not None
        self.gateway.before = self.trouble
        self.assertIsNone(self.mapped())
        self.advance(3600)
        self.assertLess(len(self.searches), 50)

    def test_error_of_ours(self) -> None:
        """An unforeseen error does not end the renewals."""
        self.mapped()
        assert self.gateway is not None

        def broken() -> None:
            raise ZeroDivisionError

        self.gateway.before = broken
        self.advance(LEASE / 2)
        self.assertGreaterEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.gateway.before = lambda: None
        self.router.leases.clear()
        self.advance(LEASE / 2)
        self.assertGreater(len(self.router.leases), 0)


class NoGatewayTests(MapperTest):
    """Nobody answers."""

    def setUp(self) -> None:
        """Have no gateway."""
        super().setUp()
        self.gateway = None

    def test_none(self) -> None:
        """It is a normal answer, and the second port does not wait for a second search."""
        self.assertIsNone(self.mapped())
        self.assertIsNone(self.mapped(1194, "tcp-server"))
        self.assertEqual(len(self.searches), 1)
        self.assertEqual(len([line for line in self.said if "no gateway" in line]), 1)

    def test_later(self) -> None:
        """It is searched for again, ever more rarely, and reported when it is there."""
        self.mapped()
        self.mapped(1194, "tcp-server")
        self.advance(3600)
        gaps = [after - before for before, after in zip(self.searches, self.searches[1:], strict=False)]
        self.assertLessEqual(gaps[0], RETRY + LEASE / 60)
        self.assertGreaterEqual(gaps[0], RETRY * 0.8)
        self.assertGreater(gaps[-1], RETRY_MAX * 0.8 - 1)
        self.assertLessEqual(max(gaps), RETRY_MAX + LEASE / 60)
        self.assertEqual(self.changes, [])
        self.gateway = FakeGateway(self.router)
        self.advance(RETRY_MAX + LEASE / 60)
        self.assertEqual(self.changes, [UDP, TCP])
        self.assertEqual(self.mapper.endpoints, (UDP, TCP))

    def test_search_fails(self) -> None:
        """A search that ends in an error is the caller's at first, and logged later; then it goes on."""
        self.mapped()

        async def broken() -> IGateway | None:
            raise ZeroDivisionError

        self.patch(self.mapper, "_find", broken)
        self.advance(60)
        self.assertGreaterEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.gateway = FakeGateway(self.router)
        self.patch(self.mapper, "_find", self.find)
        self.advance(LEASE)
        self.assertEqual(self.changes, [UDP])
