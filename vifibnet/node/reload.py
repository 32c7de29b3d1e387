"""What becomes of a node's options when its operator has changed them while it runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from types import MappingProxyType

from vifibnet.model.following import Step, steps
from vifibnet.model.parameters import PARAMETERS
from vifibnet.node.config import NodeConfig


class Takes(StrEnum):
    """What it takes to follow a change of an option."""

    NOTHING = "nothing: it holds at once"
    BABELD = "babeld is told, or started anew"
    OPENVPN = "each openvpn is started anew, one after another"
    BOTH = "babeld and each openvpn are started anew"
    NODE = "a restart of the node"


TAKES: Mapping[str, Takes] = MappingProxyType(
    {
        "ca": Takes.NODE,
        "cert": Takes.NODE,
        "key": Takes.NODE,
        "ip": Takes.NOTHING,
        "interfaces": Takes.BABELD,
        "peers_db_refresh": Takes.NOTHING,
        "log": Takes.NODE,
        "state": Takes.NODE,
        "verbose": Takes.BOTH,
        "server": Takes.NOTHING,
        "server_port": Takes.NOTHING,
        "wireless": Takes.BABELD,
        "pp": Takes.NODE,
        "peer_port": Takes.NODE,
        "dh": Takes.NOTHING,
        "openvpn_args": Takes.OPENVPN,
        "main_interface": Takes.NODE,
        "fresh_key": Takes.NOTHING,
    }
)
"""By the fields of NodeConfig; those that are parameters of the network say it themselves."""

_SPELT = {"interfaces": "--interface", "openvpn_args": "-- ARGUMENTS"}


@dataclass(frozen=True)
class Reload:
    """The ``config`` to be obeyed now; the options ``changed`` in it, as the operator spells them; and
    those that were ``refused``: they stay what they were until the node is started anew."""

    config: NodeConfig
    changed: tuple[str, ...]
    refused: tuple[str, ...]


def reload(old: NodeConfig, new: NodeConfig) -> Reload:
    """What the command line says now, as far as that can be followed, after what it said before."""
    names = [each.name for each in fields(NodeConfig) if getattr(old, each.name) != getattr(new, each.name)]
    refused = [name for name in names if TAKES.get(name) is Takes.NODE]
    if None in (old.server, new.server):
        # What a node makes only if there is a registry.
        refused += [name for name in names if name in ("server", "server_port")]
    taken = {name: getattr(new, name) for name in names if name not in refused}
    said = (set(taken) - {"given"}) | {PARAMETERS[name].field for name in old.given ^ new.given}
    order = [each.name for each in fields(NodeConfig) if each.name in said]
    return Reload(replace(old, **taken), tuple(map(_option, order)), tuple(map(_option, refused)))


def todo(old: NodeConfig, new: NodeConfig) -> tuple[Step, ...]:
    """What has to be done when the ``new`` config holds, in this order."""
    differ = {TAKES[name] for name in TAKES if getattr(old, name) != getattr(new, name)}
    wanted = set(steps(old.values, new.values))
    if differ & {Takes.BABELD, Takes.BOTH}:
        wanted.add(Step.TELL_BABELD)
    if differ & {Takes.OPENVPN, Takes.BOTH}:
        wanted.add(Step.REPLACE)
    return tuple(step for step in Step if step in wanted)


def _option(field: str) -> str:
    return _SPELT.get(field, f"--{field.replace('_', '-')}")
