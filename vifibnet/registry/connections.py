"""Which nodes are connected over AMP at this moment."""

from __future__ import annotations

from collections.abc import Iterator, MutableSet
from typing import Protocol as Shape

from vifibnet.model.addresses import Prefix
from vifibnet.wire.document import Kind


class Connection(Shape):
    """One connection of a node, by the serial number of the certificate that it showed."""

    serial: int
    node: Prefix | None

    def document_changed(self, kind: Kind, number: int) -> None:
        """Tell the node that there is a new document."""

    def abort(self) -> None:
        """Hang up."""


class Connections(MutableSet[Connection]):
    """All connections; a node has several for a moment when it dials again."""

    def __init__(self) -> None:
        # In a dict, for its order.
        self._by_node: dict[Prefix | None, dict[Connection, None]] = {}

    def add(self, value: Connection) -> None:
        """A node connected."""
        self._by_node.setdefault(value.node, {})[value] = None

    def discard(self, value: Connection) -> None:
        """A connection ended; one that was never added is no error."""
        connections = self._by_node.get(value.node, {})
        connections.pop(value, None)
        if not connections:
            self._by_node.pop(value.node, None)

    def has(self, node: Prefix) -> bool:
        """Whether a node is connected."""
        return node in self._by_node

    def like(self, connection: Connection) -> list[Connection]:
        """All with the same certificate, the oldest first."""
        return [other for other in self._by_node[connection.node] if other.serial == connection.serial]

    def __contains__(self, connection: object) -> bool:
        """Whether it has not ended."""
        return connection in self._by_node.get(getattr(connection, "node", None), ())

    def __iter__(self) -> Iterator[Connection]:
        """All connections."""
        return (connection for connections in self._by_node.values() for connection in connections)

    def __len__(self) -> int:
        """How many connections there are."""
        return sum(map(len, self._by_node.values()))
