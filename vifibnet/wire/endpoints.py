"""Endpoint strings: ``address,port,proto``, several joined by ``;``, best first."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address

from vifibnet.errors import BadEndpoints
from vifibnet.model.endpoints import MAX_ENDPOINTS, PROTOCOLS, Endpoint

_NAME = re.compile(r"(?=.{1,253}\Z)(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*", re.ASCII)
MAX_LENGTH = 2048


def is_host(text: str) -> bool:
    """Whether this is an IP address (without a zone) or a DNS name (RFC 1123)."""
    try:
        ip_address(text)
    except ValueError:
        # What looks like a dotted quad but is none would be looked up in vain.
        return _NAME.fullmatch(text) is not None and not re.fullmatch(r"[0-9.]+", text)
    return "%" not in text


def parse_endpoint(text: str) -> Endpoint:
    """Read one ``address,port,proto``. Raises BadEndpoints: the words may come from anybody."""
    parts = text.split(",")
    if len(parts) != 3:
        raise BadEndpoints(text=text[:200], problem="each must read address,port,proto")
    address, port, proto = parts
    if not is_host(address):
        raise BadEndpoints(text=text[:200], problem=f"{address[:100]!r} is neither an IP address nor a name")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise BadEndpoints(text=text[:200], problem="the port must be a number from 1 to 65535")
    if proto not in PROTOCOLS:
        raise BadEndpoints(text=text[:200], problem=f"the protocol must be one of {', '.join(PROTOCOLS)}")
    return Endpoint(address, int(port), proto)


def parse_endpoints(text: str) -> tuple[Endpoint, ...]:
    """Read endpoints joined by ``;``, best first; the empty string is none. Raises BadEndpoints."""
    if len(text) > MAX_LENGTH:
        raise BadEndpoints(text=text[:40] + "…", problem=f"longer than {MAX_LENGTH} characters")
    endpoints = tuple(dict.fromkeys(parse_endpoint(part) for part in text.split(";") if part))
    if len(endpoints) > MAX_ENDPOINTS:
        raise BadEndpoints(text=text[:40] + "…", problem=f"more than {MAX_ENDPOINTS}")
    return endpoints


def format_endpoints(endpoints: Iterable[Endpoint]) -> str:
    """Write what parse_endpoints reads."""
    return ";".join(f"{e.address},{e.port},{e.proto}" for e in endpoints)
