"""A small cache whose oldest entry goes when it is full."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Lru(Generic[K, V]):
    """At most `most` entries by the identity of their keys, which it keeps alive: else an id might become another's."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._kept = OrderedDict[int, tuple[K, V]]()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K) -> V | None:
        if id(key) not in self._kept:
            return None
        self._kept.move_to_end(id(key))
        return self._kept[id(key)][1]

    def values(self) -> list[V]:
        """The one that was used longest ago first."""
        return [value for _, value in self._kept.values()]

    def keep(self, key: K, value: V) -> None:
        """As the newest. To be called where there is room, see `drop`."""
        self._kept[id(key)] = key, value

    @property
    def full(self) -> bool:
        return len(self._kept) >= self.most

    def drop(self, which: Callable[[V], bool] = lambda value: True) -> V | None:
        """Of those that `which` allows, what was used longest ago is forgotten; None where there is none."""
        for number, (_, value) in self._kept.items():
            if which(value):
                del self._kept[number]
                return value
        return None
