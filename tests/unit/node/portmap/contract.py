"""What every gateway must do, whether it is a fake, an imitation on loopback or the real thing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address

from twisted.trial.unittest import FailTest

from vifibnet.node.portmap.gateway import Granted, IGateway, PortTaken, Transport

LEASE = 600


def check(truth: bool, problem: object) -> None:
    """Fail with ``problem`` unless it is so."""
    if not truth:
        raise FailTest(str(problem))


async def add(gateway: IGateway, port: int, transport: Transport, external: int) -> Granted:
    """Map and check what was granted."""
    granted = await gateway.add(port, transport, external, LEASE)
    check(0 < granted.external < 65536, granted)
    check(0 <= granted.lease <= LEASE, granted)
    return granted


async def tells_its_address(gateway: IGateway) -> None:
    """The outer address is one that the internet could reach."""
    address = await gateway.external_address()
    check(isinstance(address, IPv4Address) and address.is_global, address)


async def maps_and_renews(gateway: IGateway) -> None:
    """A free port is granted as asked; asking again renews it."""
    first = await add(gateway, 2001, "udp", 2001)
    second = await add(gateway, 2001, "udp", 2001)
    check(first.external == second.external == 2001, (first, second))
    await gateway.remove(2001, "udp", 2001)


async def keeps_transports_apart(gateway: IGateway) -> None:
    """UDP and TCP each have ports of their own."""
    udp = await add(gateway, 2002, "udp", 2002)
    tcp = await add(gateway, 2002, "tcp", 2002)
    check(udp.external == tcp.external == 2002, (udp, tcp))
    await gateway.remove(2002, "udp", 2002)
    await gateway.remove(2002, "tcp", 2002)


async def removes(gateway: IGateway) -> None:
    """What was removed is free again, also for another port of ours; removing nothing is fine."""
    await add(gateway, 2003, "tcp", 2003)
    await gateway.remove(2003, "tcp", 2003)
    await gateway.remove(2003, "tcp", 2003)
    granted = await add(gateway, 2004, "tcp", 2003)
    check(granted.external == 2003, granted)
    await gateway.remove(2004, "tcp", 2003)


async def never_gives_a_port_twice(gateway: IGateway) -> None:
    """An external port that leads elsewhere is refused, or another one is granted."""
    await add(gateway, 2005, "udp", 2005)
    try:
        granted = await add(gateway, 2006, "udp", 2005)
    except PortTaken:
        pass
    else:
        check(granted.external != 2005, granted)
        await gateway.remove(2006, "udp", granted.external)
    await gateway.remove(2005, "udp", 2005)


CHECKS: tuple[Callable[[IGateway], Awaitable[None]], ...] = (
    tells_its_address,
    maps_and_renews,
    keeps_transports_apart,
    removes,
    never_gives_a_port_twice,
)


class GatewayContract:
    """Mix into a TestCase that has ``gateway``."""

    gateway: IGateway

    async def test_tells_its_address(self) -> None:
        """See the check of this name."""
        await tells_its_address(self.gateway)

    async def test_maps_and_renews(self) -> None:
        """See the check of this name."""
        await maps_and_renews(self.gateway)

    async def test_keeps_transports_apart(self) -> None:
        """See the check of this name."""
        await keeps_transports_apart(self.gateway)

    async def test_removes(self) -> None:
        """See the check of this name."""
        await removes(self.gateway)

    async def test_never_gives_a_port_twice(self) -> None:
        """See the check of this name."""
        await never_gives_a_port_twice(self.gateway)
