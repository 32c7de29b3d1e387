"""What a babeld has told, by kind: there are many routes, and few of what is asked for most often."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TypeVar, cast

from vifibnet.wire.babeld import Interface, Neighbour, Route, Xroute

Item = Interface | Neighbour | Xroute | Route
T = TypeVar("T", Interface, Neighbour, Xroute, Route)


class Told:
    """The last that was said of each thing."""

    def __init__(self) -> None:
        """Nothing yet."""
        kinds: tuple[type[Item], ...] = (Interface, Neighbour, Xroute, Route)
        self._kinds: dict[type[Item], dict[str, Item]] = {kind: {} for kind in kinds}

    def __iter__(self) -> Iterator[Item]:
        return chain.from_iterable(kind.values() for kind in self._kinds.values())

    def all(self, kind: type[T]) -> tuple[T, ...]:
        """All of a kind."""
        return tuple(cast(Iterable[T], self._kinds[kind].values()))

    def get(self, item: Item) -> Item | None:
        """The same thing, as it was told last."""
        return self._kinds[type(item)].get(_name(item))

    def put(self, item: Item) -> None:
        """So it is now."""
        self._kinds[type(item)][_name(item)] = item

    def pop(self, item: Item) -> None:
        """It is gone."""
        self._kinds[type(item)].pop(_name(item), None)


def _name(item: Item) -> str:
    return item.name if isinstance(item, Interface) else item.id
