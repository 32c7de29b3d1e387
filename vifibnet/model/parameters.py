"""What the operator sets for the whole network at once, and what each of it takes to apply.

A node's own command line wins over the network's parameters; the manual's default holds where neither says
anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

Value = float | int | bytes
"""Seconds and ratios are float, counts and bytes of a packet int, a key bytes."""

Values = Mapping[str, Value]
"""Values by the names of their parameters; one that is not set is not there."""

NOTHING: Values = MappingProxyType({})
"""No parameter is set."""


class Applies(StrEnum):
    """When a node follows a change."""

    LIVE = "at once"
    BABELD = "when babeld is started anew, within the roll"
    TUNNELS = "when each openvpn is started anew, one after another within the roll"


@dataclass(frozen=True)
class Parameter:
    """One parameter: its ``default`` is the manual's, None where there is none; ``low`` and ``high`` (both
    included) bound a number, or the length of a key in bytes."""

    name: str
    kind: type[float] | type[int] | type[bytes]
    low: float
    high: float
    unit: str
    default: Value | None
    applies: Applies
    meaning: str

    @property
    def field(self) -> str:
        """The name of the field that it fills."""
        return self.name.replace("-", "_")

    def read(self, text: str) -> Value:
        """The value that a text says. Raises ValueError with what would be right."""
        value = self._convert(text)
        size = len(value) if isinstance(value, bytes) else value
        if value is None or size is None or not self.low <= size <= self.high:
            raise ValueError(f"{self.unit} from {self.low:g} to {self.high:g}")
        return value

    def _convert(self, text: str) -> Value | None:
        if self.kind is bytes:
            return bytes.fromhex(text) if re.fullmatch(r"([0-9a-f]{2})+", text) else b""
        if self.kind is int:
            return int(text) if re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) else None
        return float(text) if re.fullmatch(r"[0-9]{0,18}\.?[0-9]{1,18}", text, re.ASCII) else None


def write(value: Value) -> str:
    """The one text that ``read`` makes this value of."""
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, int) else _decimal(value)


def _decimal(value: float) -> str:
    """Without an exponent, and as short as it goes."""
    short = repr(value)
    return (f"{value:.18f}".rstrip("0") if "e" in short else short).removesuffix(".0").rstrip(".")


PARAMETERS: Mapping[str, Parameter] = {
    each.name: each
    for each in (
        Parameter("hello", float, 0.05, 600, "seconds", 15.0, Applies.BABELD, "babel's hello interval"),
        Parameter(
            "update-interval", float, 0.2, 3600, "seconds", None, Applies.BABELD,
            "between two announcements of all routes; four hellos, but 2 to 20 s, unless set",
        ),
        Parameter(
            "heartbeat", float, 0.05, 60, "seconds", 0.3, Applies.LIVE,
            "between two signs of life over each tunnel; it is dead when two are missing",
        ),
        Parameter("mtu", int, 1280, 9000, "bytes", 1400, Applies.TUNNELS, "largest packet in the tunnels"),
        Parameter("connection-count", int, 0, 200, "tunnels", 20, Applies.LIVE, "tunnels that a node opens"),
        Parameter("max-clients", int, 1, 10_000, "peers", 256, Applies.TUNNELS, "peers that a server takes"),
        Parameter(
            "tunnel-refresh", float, 0.1, 10_000_000, "seconds", 300.0, Applies.LIVE,
            "between two replacements of the worst tunnels",
        ),
        Parameter(
            "refresh-rate", float, 0, 1, "a ratio", 0.05, Applies.LIVE, "part of the tunnels that it replaces"
        ),
        Parameter(
            "roll", float, 0, 86400, "seconds", 60.0, Applies.LIVE,
            "over which the nodes spread the restarts that a change needs",
        ),
        Parameter(
            "babel-key", bytes, 16, 32, "bytes in hexadecimal", None, Applies.LIVE,
            "what babel's packets are authenticated with (BLAKE2s-128, RFC 8967)",
        ),
    )
}  # fmt: skip
"""All of them, by name."""

SECRET = frozenset({"babel-key"})
"""What is shown to nobody."""


def changed(old: Values, new: Values) -> frozenset[str]:
    """The names of the parameters that differ."""
    return frozenset(name for name in {*old, *new} if old.get(name) != new.get(name))
