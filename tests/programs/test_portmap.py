"""Port mapping against Debian's miniupnpd, with traffic from outside through what was mapped."""

from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.programs.portmap_lab import OUTER, Home, reactor
from tests.unit.node.portmap.contract import CHECKS

UDP = {"address": OUTER, "port": 1194, "proto": "udp"}
TCP = {"address": OUTER, "port": 1194, "proto": "tcp-client"}
BOTH = ("1194/udp", "1194/tcp-server")


class PortMapTests(TestCase):
    """One home network for each test."""

    timeout = 60

    def setUp(self) -> None:
        """Build it."""
        self.home = Home()
        self.addCleanup(self.home.down)
        self.home.up()

    def answers(self, port: int = 1194) -> tuple[str, str]:
        """Who answers to the host outside, by UDP and by TCP."""
        return self.home.probe("udp", port), self.home.probe("tcp", port)

    async def passes(self, name: str) -> None:
        """Nothing passes, then what is mapped does, then nothing again; a probe is always a new flow."""
        driver = await self.home.driver("lan", *BOTH)
        self.assertEqual(self.answers(), ("", ""))
        self.assertEqual(await driver.map(), [UDP, TCP])
        self.assertIn(name, driver.errors)
        self.assertEqual(self.answers(), ("lan hello", "lan hello"))
        self.assertLess(await driver.close(), 2)
        self.assertEqual(self.answers(), ("", ""))

    async def test_version_2(self) -> None:
        """UPnP, Internet Gateway Device 2: what miniupnpd is by itself."""
        await self.home.miniupnpd(natpmp=False)
        await self.passes("(UPnP)")

    async def test_version_1(self) -> None:
        """UPnP, Internet Gateway Device 1, which is what most home routers are."""
        await self.home.miniupnpd(v1=True)
        await self.passes("(UPnP)")

    async def test_nat_pmp(self) -> None:
        """NAT-PMP alone."""
        await self.home.miniupnpd(upnp=False)
        await self.passes("(NAT-PMP)")

    async def test_contract(self) -> None:
        """The real gateways do what the imitations do."""
        for kind, name in (({}, "UPnP"), ({"v1": True}, "UPnP"), ({"upnp": False}, "NAT-PMP")):
            daemon = await self.home.miniupnpd(**kind)
            driver = self.home.python("lan", "lan", "--contract")
            self.assertIn(name, (await driver.event("gateway"))["name"])
            for check in CHECKS:
                result = await driver.event("check")
                self.assertEqual((result["name"], result["problem"]), (check.__name__, ""))
            daemon.signal("TERM")
            await daemon.ended

    async def test_renewed(self) -> None:
        """A lease lasts while it is renewed, and ends by itself when a driver was killed."""
        await self.home.miniupnpd()
        driver = await self.home.driver("lan", *BOTH, lease=2)
        await driver.map()
        await deferLater(reactor, 4)
        self.assertEqual(self.answers(), ("lan hello", "lan hello"))
        driver.signal("KILL")
        await driver.ended
        # Nobody listens there any more, so the rules are looked at and not the traffic.
        self.assertIn("dnat", self.home.rules())
        await self.home.until(lambda: "dnat" in self.home.rules(), False)

    async def test_conflict(self) -> None:
        """A port that another machine has is left alone; ours is reached at another one."""
        await self.home.miniupnpd()
        theirs = await self.home.driver("lan2", *BOTH)
        self.assertEqual(await theirs.map(), [UDP, TCP])
        ours = await self.home.driver("lan", *BOTH)
        udp, tcp = await ours.map()
        assert udp is not None
        assert tcp is not None
        self.assertNotIn(1194, (udp["port"], tcp["port"]))
        self.assertEqual(self.answers(), ("lan2 hello", "lan2 hello"))
        self.assertEqual(self.home.probe("udp", udp["port"]), "lan hello")
        self.assertEqual(self.home.probe("tcp", tcp["port"]), "lan hello")
        await ours.close()
        self.assertEqual(self.answers(), ("lan2 hello", "lan2 hello"))

    async def test_restarted(self) -> None:
        """A router that restarts, forgets everything and listens elsewhere is found again."""
        daemon = await self.home.miniupnpd(natpmp=False, http_port=5000)
        driver = await self.home.driver("lan", *BOTH, lease=6, retry=0.5)
        self.assertEqual(await driver.map(), [UDP, TCP])
        daemon.signal("KILL")
        await daemon.ended
        self.home.forget_mappings()
        self.assertEqual(self.answers(), ("", ""))
        await self.home.miniupnpd(natpmp=False, http_port=5001)
        await self.home.until(self.answers, ("lan hello", "lan hello"))
        self.assertEqual([line for line in driver.lines if "changed" in line], [])

    async def test_new_address(self) -> None:
        """The router's new address is noticed; an address behind one more NAT is none."""
        await self.home.miniupnpd()
        driver = await self.home.driver("lan", "1194/udp", lease=2)
        self.assertEqual(await driver.map(), [UDP])
        self.home.router_address("44.128.0.3")
        self.assertEqual((await driver.event("changed"))["endpoint"], {**UDP, "address": "44.128.0.3"})
        self.assertEqual(self.home.probe("udp", 1194, "44.128.0.3"), "lan hello")
        self.home.router_address("100.64.0.3")
        self.assertIsNone((await driver.event("changed"))["endpoint"])

    async def test_no_gateway(self) -> None:
        """Without a gateway the answer is None, soon; one that appears later is found."""
        driver = await self.home.driver("lan", "1194/udp", retry=0.5, lease=6)
        self.assertEqual(await driver.map(within=3), [None])
        self.assertEqual(self.home.probe("udp", 1194), "")
        await self.home.miniupnpd()
        self.assertEqual((await driver.event("changed"))["endpoint"], UDP)
        self.assertEqual(self.home.probe("udp", 1194), "lan hello")
        await driver.close()
        self.assertEqual(self.home.probe("udp", 1194), "")

    async def test_no_network(self) -> None:
        """A machine without any route to a gateway has none either."""
        driver = await self.home.driver("wan", *BOTH)
        self.assertEqual(await driver.map(within=3), [None, None])
        self.assertLess(await driver.close(), 1)

    async def test_hung(self) -> None:
        """A router that hangs costs the endpoint when the lease ends, and does not keep us at the end."""
        daemon = await self.home.miniupnpd()
        driver = await self.home.driver("lan", "1194/udp", lease=2, retry=0.5)
        self.assertEqual(await driver.map(), [UDP])
        daemon.signal("STOP")
        self.assertIsNone((await driver.event("changed"))["endpoint"])
        daemon.signal("CONT")
        self.assertEqual((await driver.event("changed"))["endpoint"], UDP)
        daemon.signal("STOP")
        self.assertLess(await driver.close(), 3)
