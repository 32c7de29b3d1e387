"""At how many addresses a machine can be asked, and whether an answer might come from another one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network


def several(interfaces: Iterable[Sequence[IPv4Address | IPv6Address]], network: IPv6Network) -> bool:
    """Whether there is more than one address of a family, given the global ones of each interface.

    With one, whatever the machine sends to somebody outside comes from that. No tunnel is asked for at an
    address in our own network; but what has one beside another may send from either (RFC 6724).
    """
    count: Counter[int] = Counter()
    for addresses in interfaces:
        count[4] += sum(address.version == 4 for address in addresses)
        six = [address for address in addresses if address.version == 6]
        if any(address not in network for address in six):
            count[6] += len(six)
    return any(number > 1 for number in count.values())
