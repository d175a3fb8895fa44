"""How many replicas speak for this server, and how much all servers before them have to do."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Load:
    """Requests that are served, that wait, and that can be served at once, which is up to the same replicas for all."""

    active: int
    waiting: int
    streams: int

    def __add__(self, other: "Load") -> "Load":
        return Load(self.active + other.active, self.waiting + other.waiting, max(self.streams, other.streams))


class Fleet(Protocol):
    """The replicas of a server. None of this waits for them."""

    @property
    def wanted(self) -> int: ...

    @property
    def ready(self) -> int: ...

    async def load(self, own: Load) -> Load:
        """Of all servers together, of which this one has `own`."""
        ...

    async def metrics(self, own: bytes) -> bytes:
        """Prometheus text of all servers together, of which this one has `own`."""
        ...


class Alone:
    """A server that speaks itself."""

    wanted = 1
    ready = 1

    async def load(self, own: Load) -> Load:
        return own

    async def metrics(self, own: bytes) -> bytes:
        return own


ALONE = Alone()
