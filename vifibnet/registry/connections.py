"""Which nodes are connected over AMP at this moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol as Shape

from vifibnet.model.addresses import Prefix


class Connection(Shape):
    """One node's connection."""

    def abort(self) -> None:
        """End it now."""


class Connections:
    """The connections of each node; there are several for a moment when a node dials again."""

    def __init__(self) -> None:
        self._by_node: dict[Prefix, set[Connection]] = {}

    def add(self, node: Prefix, connection: Connection) -> None:
        """A node connected."""
        self._by_node.setdefault(node, set()).add(connection)

    def remove(self, node: Prefix, connection: Connection) -> None:
        """A connection ended; one that was never added is no error."""
        connections = self._by_node.get(node, set())
        connections.discard(connection)
        if not connections:
            self._by_node.pop(node, None)

    def of(self, node: Prefix) -> tuple[Connection, ...]:
        """A node's connections."""
        return tuple(self._by_node.get(node, ()))

    def __contains__(self, node: object) -> bool:
        """Whether a node is connected."""
        return node in self._by_node

    def __iter__(self) -> Iterator[Prefix]:
        """The nodes that are connected."""
        return iter(tuple(self._by_node))

    def __len__(self) -> int:
        """How many nodes are connected."""
        return len(self._by_node)
