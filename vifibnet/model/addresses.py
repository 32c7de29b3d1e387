"""The network, a node's prefix, and the addresses that follow from the two. Bits in, values out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv6Address,
    IPv6Network,
    NetmaskValueError,
    ip_address,
)

from vifibnet.errors import BadAddress

NETWORK_BITS = range(8, 97)
"""How many bits a network may have, so that both it and its nodes have room."""


@dataclass(frozen=True, order=True)
class Prefix:
    """A node's bits behind the network: ``length`` bits with the value ``value`` (``5/16``).

    Prefixes of one allocation are prefix-free, so their ``bits`` order them totally.
    """

    value: int
    length: int

    def __post_init__(self) -> None:
        if not (0 <= self.length <= 120 and 0 <= self.value < 1 << self.length):
            raise BadAddress(text=f"{self.value}/{self.length}", wanted="a node's prefix such as 5/16")

    @classmethod
    def parse(cls, text: str) -> Prefix:
        """Read ``<value>/<length>``, the form in a certificate's CN. Raises BadAddress."""
        match = re.fullmatch(r"(0|[1-9][0-9]{0,36})/(0|[1-9][0-9]{0,2})", text, re.ASCII)
        if match is None:
            raise BadAddress(text=text, wanted="a node's prefix such as 5/16")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def from_bits(cls, bits: str) -> Prefix:
        """Read a string of 0 and 1, the form in databases and in XML-RPC. Raises BadAddress."""
        if re.fullmatch(r"[01]{0,120}", bits) is None:
            raise BadAddress(text=bits, wanted="a prefix of binary digits")
        return cls(int(bits or "0", 2), len(bits))

    @property
    def bits(self) -> str:
        """The prefix as binary digits, ``length`` of them."""
        return f"{self.value:0{self.length}b}" if self.length else ""

    @cached_property
    def link_local(self) -> IPv6Address | None:
        """The node's address on its own end of every tunnel, or None when the prefix is too long for one."""
        if self.length > 63:
            return None
        return IPv6Address(0xFE80 << 112 | self.value << (64 - self.length) | 1)

    def __str__(self) -> str:
        return f"{self.value}/{self.length}"


@dataclass(frozen=True)
class Network:
    """The VPN's IPv6 prefix, carried by the CA certificate's serial number behind a leading 1 bit."""

    value: int
    length: int

    def __post_init__(self) -> None:
        if self.length not in NETWORK_BITS or not 0 <= self.value < 1 << self.length:
            raise BadAddress(text=f"{self.value:#x}/{self.length}", wanted="a network of 8 to 96 bits")

    @classmethod
    def parse(cls, text: str) -> Network:
        """Read ``2001:db8:42::/48``. Raises BadAddress, also when bits behind the length are set."""
        wanted = "an IPv6 network of 8 to 96 bits such as 2001:db8:42::/48"
        try:
            network = IPv6Network(text)
        except (AddressValueError, NetmaskValueError, ValueError):
            raise BadAddress(text=text, wanted=wanted) from None
        if network.prefixlen not in NETWORK_BITS:
            raise BadAddress(text=text, wanted=wanted)
        return cls(int(network.network_address) >> (128 - network.prefixlen), network.prefixlen)

    @classmethod
    def from_serial(cls, serial: int) -> Network:
        """Read a CA's serial number, e.g. 0x120010db80042. Raises BadAddress where it holds no network."""
        length = serial.bit_length() - 1
        if serial < 1 or length not in NETWORK_BITS:
            raise BadAddress(
                text=f"{serial:#x}",
                wanted="a serial number that holds a network; vifibnet ca --network makes such a CA",
            )
        return cls(serial ^ 1 << length, length)

    @property
    def serial(self) -> int:
        """The CA certificate's serial number: the network's bits behind a leading 1."""
        return 1 << self.length | self.value

    @property
    def ip_network(self) -> IPv6Network:
        """The network as the standard library's value."""
        return IPv6Network((self.value << (128 - self.length), self.length))

    def subnet(self, prefix: Prefix) -> IPv6Network:
        """The node's subnet: network and prefix. Raises BadAddress where no address would be left."""
        length = self.length + prefix.length
        if length > 127:
            raise BadAddress(text=str(prefix), wanted=f"a prefix that fits into {self}")
        bits = self.value << prefix.length | prefix.value
        return IPv6Network((bits << (128 - length), length))

    def address(self, prefix: Prefix) -> IPv6Address:
        """The node's own address: its subnet's ``::1``."""
        return self.subnet(prefix).network_address + 1

    def prefix_of(self, subnet: IPv6Network) -> Prefix | None:
        """The prefix whose subnet this is, or None when it lies outside the network."""
        length = subnet.prefixlen - self.length
        if length < 0 or not subnet.subnet_of(self.ip_network):
            return None
        return Prefix(int(subnet.network_address) >> (128 - subnet.prefixlen) & (1 << length) - 1, length)

    def host_bits(self, address: IPv6Address) -> str | None:
        """The binary digits of an address behind the network's, or None when it lies outside."""
        if address not in self.ip_network:
            return None
        return f"{int(address):0128b}"[self.length :]

    def __str__(self) -> str:
        return str(self.ip_network)


@lru_cache(maxsize=4096)
def normal_address(text: str) -> IPv4Address | IPv6Address | None:
    """The IP address that a connection comes from: no zone, no IPv4 in IPv6's clothes; None if it is none."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address
