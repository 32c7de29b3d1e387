"""What a node does when the values of the network's parameters change: a pure function of both."""

from __future__ import annotations

from enum import Enum, auto

from vifibnet.model.parameters import PARAMETERS, Applies, Values, changed


class Step(Enum):
    """One thing to do, in the order in which they are done."""

    TELL_BABELD = auto()
    """babeld is told the new key or the new taps, at once: neighbours do so at the same time."""
    SHRINK = auto()
    """The taps get a smaller MTU at once: whatever runs with the greater one can carry that."""
    TAPS = auto()
    """More taps are made."""
    PLAN = auto()
    """The tunnels are planned with the new numbers."""
    RESTART_BABELD = auto()
    """babeld gets its new intervals at a random moment of the roll."""
    REPLACE = auto()
    """Each openvpn process is replaced within the roll; a greater MTU comes with it."""


def steps(old: Values, new: Values) -> tuple[Step, ...]:
    """What has to be done when the ``new`` values hold instead of the ``old`` ones."""
    names = changed(old, new)
    applies = {PARAMETERS[name].applies for name in names}
    more = "connection-count" in names and _number(new, "connection-count") > _number(old, "connection-count")
    wanted = {
        Step.TELL_BABELD: "babel-key" in names or more,
        Step.SHRINK: "mtu" in names and _number(new, "mtu") < _number(old, "mtu"),
        Step.TAPS: more,
        Step.PLAN: bool(names & {"connection-count", "heartbeat", "tunnel-refresh", "refresh-rate"}),
        Step.RESTART_BABELD: Applies.BABELD in applies,
        Step.REPLACE: Applies.TUNNELS in applies,
    }
    return tuple(step for step in Step if wanted[step])


def _number(values: Values, name: str) -> float:
    """A value that is a number; the manual's default where it is not there."""
    value = values.get(name, PARAMETERS[name].default)
    return value if isinstance(value, float | int) else 0
