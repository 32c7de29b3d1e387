"""The names of our tap interfaces: a fixed pool, so that babeld knows every one from its command line."""

from __future__ import annotations

import re

_NAME = re.compile(r"vif[cs](0|[1-9][0-9]{0,3})", re.ASCII)


def client_taps(count: int) -> tuple[str, ...]:
    """The taps of ``count`` OpenVPN clients: ``vifc0``, ``vifc1`` …"""
    return tuple(f"vifc{number}" for number in range(count))


def server_taps(count: int) -> tuple[str, ...]:
    """The taps of ``count`` OpenVPN servers: ``vifs0``, ``vifs1`` …"""
    return tuple(f"vifs{number}" for number in range(count))


def is_ours(name: str) -> bool:
    """Whether an interface's name is one of ours (at most 15 bytes, as Linux wants)."""
    return _NAME.fullmatch(name) is not None
