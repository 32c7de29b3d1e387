"""Who is joined with whom, and whom the network can do without. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

Edge = frozenset[str]


def connected(names: Collection[str], edges: Iterable[Edge]) -> bool:
    """Whether every name can be reached from every other over the edges among them."""
    unseen = set(names)
    usable = [edge for edge in edges if edge <= unseen]
    frontier = set(sorted(unseen)[:1])
    while frontier:
        unseen -= frontier
        frontier = {name for edge in usable if edge & frontier for name in edge} & unseen
    return not unseen


def spare_edges(names: Collection[str], edges: Collection[Edge]) -> list[tuple[str, str]]:
    """The edges whose loss leaves all connected, in order."""
    found = [edge for edge in edges if connected(names, [other for other in edges if other != edge])]
    return sorted((min(edge), max(edge)) for edge in found)


def spare_names(names: Collection[str], edges: Collection[Edge]) -> list[str]:
    """The names whose loss leaves the others connected, the one with most edges first."""

    def degree(name: str) -> int:
        return sum(name in edge for edge in edges)

    found = [name for name in names if connected(set(names) - {name}, edges)]
    return sorted(found, key=lambda name: (-degree(name), name))
