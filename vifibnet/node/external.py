"""Where the world can reach our openvpn servers: what to declare to the registry."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from vifibnet.model.addresses import Network
from vifibnet.model.endpoints import MAX_ENDPOINTS, Endpoint

_DIALLED = {
    ("udp", 4): "udp",
    ("udp", 6): "udp6",
    ("tcp-server", 4): "tcp-client",
    ("tcp-server", 6): "tcp6-client",
}
"""How a client reaches a server, by the server's protocol and the address family."""


def endpoints_to_declare(
    *,
    given: Sequence[Endpoint],
    mapped: Sequence[Endpoint],
    seen: Sequence[str | None],
    servers: Sequence[tuple[int, str]],
    network: Network,
) -> tuple[Endpoint, ...]:
    """What the operator gave; else what gateways map to us; else our servers at the address we come from.

    ``seen`` are the addresses that others saw us from, those whom we believe most first. One inside the VPN
    says nothing about the underlay, and a loopback one nothing to others; a public one is better than one
    of a local network. With neither of the three there is nothing to declare.
    """
    if given:
        return tuple(given[:MAX_ENDPOINTS])
    if mapped:
        return tuple(mapped[:MAX_ENDPOINTS])
    usable = [address for each in seen if (address := _outside(each, network)) is not None]
    if not usable:
        return ()
    address = next((each for each in usable if each.is_global), usable[0])
    found = [Endpoint(str(address), port, _DIALLED[proto, address.version]) for port, proto in servers]
    return tuple(found[:MAX_ENDPOINTS])


def _outside(seen: str | None, network: Network) -> IPv4Address | IPv6Address | None:
    """The address if others may reach us there; IPv4 in IPv6's clothes is IPv4."""
    if seen is None:
        return None
    try:
        address = ip_address(seen)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback or address.is_unspecified or address.is_link_local or address.is_multicast:
        return None
    if isinstance(address, IPv6Address) and address in network.ip_network:
        return None
    return address
