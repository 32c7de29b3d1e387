"""Hosts of a lab behind links that carry smaller packets than the others', and a router that says nothing.

The lab's bridge becomes that router: it answers in the hosts' place, fragments what may be fragmented, and
drops what may not without telling anybody, as many a firewall does. For IPv4 underlays: over IPv6 nobody but
the sender fragments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vifibnet.errors import BadInput
from vifibnet.lab.children import run
from vifibnet.lab.underlay import ADDRESSES, INTERFACE, Underlay

_RULES = """
table inet vifibnet_narrow {{
  set apart {{ type ipv4_addr . ipv4_addr; {elements} }}
  chain silent {{
    type filter hook output priority 0;
    icmp type destination-unreachable drop
  }}
  chain forward {{
    type filter hook forward priority 0;
    meta l4proto udp ip saddr . ip daddr @apart drop
  }}
}}
"""


async def narrow(underlay: Underlay, mtus: Mapping[int, int], apart: Iterable[tuple[int, int]] = ()) -> None:
    """From now on the links to these hosts carry so many bytes at most.

    The pairs that are ``apart`` cannot send each other UDP any more, so that tunnels take other ways; each
    has one of these hosts. What was cut for them is not cut any more. Raises BadInput for IPv6.
    """
    if underlay.version != 4:
        raise BadInput("--underlay", "only over IPv4 do routers fragment", "give 4")
    bridge = ["ip", "-n", underlay.bridge]
    inside = ["ip", "netns", "exec", underlay.bridge]
    settings = ["net.ipv4.ip_forward=1", "net.ipv4.conf.all.proxy_arp=1", "net.ipv4.neigh.br0.proxy_delay=0"]
    commands = [
        [*bridge, "address", "replace", f"{ADDRESSES[4][254]}/{ADDRESSES[4].prefixlen}", "dev", "br0"]
    ]
    for host, mtu in mtus.items():
        port = f"h{host}"
        commands += [
            [*bridge, "link", "set", port, "nomaster", "mtu", str(mtu)],
            ["ip", "-n", underlay.namespace(host), "link", "set", INTERFACE, "mtu", str(mtu)],
            [*bridge, "route", "replace", f"{underlay.address(host)}/32", "dev", port],
        ]
        settings.append(f"net.ipv4.neigh.{port}.proxy_delay=0")
    commands.append([*inside, "sysctl", "-q", "-w", *settings])
    # Whoever has asked before who has an address shall ask again.
    flush = ["neigh", "flush", "dev", INTERFACE]
    commands += [["ip", "-n", name, *flush] for name in underlay.existing() if name != underlay.bridge]
    for command in commands:
        await run(underlay.reactor, command)
    pairs = [pair for a, b in apart for pair in ((a, b), (b, a))]
    elements = ", ".join(f"{underlay.address(a)} . {underlay.address(b)}" for a, b in pairs)
    rules = _RULES.format(elements=f"elements = {{ {elements} }}" if elements else "")
    await run(underlay.reactor, [*inside, "nft", "-f", "-"], stdin=rules)
