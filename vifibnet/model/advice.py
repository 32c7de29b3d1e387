"""What speaks against parameters that are good each by itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from vifibnet.model.parameters import PARAMETERS, Values


def contradiction(values: Values) -> tuple[str, str] | None:
    """The parameter that does not go with another, and why; None if all go together."""
    hello, default = values.get("hello"), ""
    if hello is None:
        hello, default = PARAMETERS["hello"].default, ", the default"
    update = values.get("update-interval")
    if isinstance(hello, float) and isinstance(update, float) and update < hello:
        problem = f"babel cannot announce its routes more often than it says hello (hello={hello:g}{default})"
        return "update-interval", problem
    return None


_WARNINGS: Sequence[tuple[str, Callable[[Any], bool], str]] = (
    (
        "hello",
        lambda value: value is not None and value < 0.2,
        "A hello below 0.2 s costs traffic on every tunnel, idle or not: a big network pays for it.",
    ),
    (
        "hello",
        lambda value: value is not None and value > 60,
        "It takes three hellos until the others notice that a node is gone.",
    ),
    (
        "update-interval",
        lambda value: value is not None and value < 2,
        "Every node announces all routes that often on every tunnel: a big network pays for it.",
    ),
    (
        "mtu",
        lambda value: value is not None and value > 1420,
        "Most underlays take packets of 1500 bytes, and cut in two what a tunnel makes of more than 1420.",
    ),
    (
        "connection-count",
        lambda value: value == 0,
        "With no tunnels opened no two nodes are connected, unless by their own command lines.",
    ),
    (
        "babel-key",
        lambda value: value is None,
        "Without a key whoever is on a node's LAN interface can announce routes into the network.",
    ),
)
"""About which parameter, when (its value is None where none is set), and what there is to say."""


def warnings(values: Values, changed: Collection[str]) -> list[str]:
    """What the operator should know of a change that is allowed."""
    return [
        sentence for name, concerns, sentence in _WARNINGS if name in changed and concerns(values.get(name))
    ]
