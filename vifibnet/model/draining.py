"""What still passes through a node that is being drained: a pure function of what babel tells.

A neighbour never says whom it reaches over us. But it announces all that it reaches, with its distance: what
is as far for it as over us, or what it does not announce, it reaches over us, if at all.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv6Network
from typing import Protocol

from vifibnet.model.liveness import INFINITY
from vifibnet.model.ways import SLACK


class Route(Protocol):
    """What a neighbour announces: ``metric`` is our distance over it, ``refmetric`` its own."""

    @property
    def prefix(self) -> IPv6Network:
        """Where it leads."""

    @property
    def interface(self) -> str:
        """Where the neighbour is."""

    @property
    def via(self) -> str:
        """The neighbour's link-local address."""

    @property
    def metric(self) -> int:
        """Our distance."""

    @property
    def refmetric(self) -> int:
        """The neighbour's."""

    @property
    def installed(self) -> bool:
        """Whether our packets take it."""


class Neighbour(Protocol):
    """Somebody on one of our interfaces; ``cost`` is that of the link."""

    @property
    def address(self) -> str:
        """Its link-local address."""

    @property
    def interface(self) -> str:
        """Where it is."""

    @property
    def cost(self) -> int:
        """What it costs to reach it."""


def passing(
    neighbour: Neighbour, routes: Collection[Route], lan: Collection[str] = ()
) -> frozenset[IPv6Network]:
    """The destinations that the neighbour reaches through us. Those behind the same interface of the ``lan``
    reach each other without us, and do not say so."""
    here = (neighbour.interface, neighbour.address)
    theirs = {each.prefix: each.refmetric for each in routes if (each.interface, each.via) == here}
    found = set()
    for each in routes:
        through = each.metric + neighbour.cost
        if not each.installed or through >= INFINITY or (each.interface, each.via) == here:
            continue
        if each.interface == neighbour.interface and each.interface in lan:
            continue
        if theirs.get(each.prefix, INFINITY) >= through - SLACK:
            found.add(each.prefix)
    return frozenset(found)
