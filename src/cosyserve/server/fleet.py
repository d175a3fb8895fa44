"""How many replicas this server has, and how busy all servers of these replicas are."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Load:
    """Requests that are served and that wait, and the number that can be served at once, which depends on the replicas
    that all servers share."""

    active: int
    waiting: int
    streams: int

    def __add__(self, other: "Load") -> "Load":
        return Load(self.active + other.active, self.waiting + other.waiting, max(self.streams, other.streams))


class Fleet(Protocol):
    """The replicas of a server. None of these calls waits for them."""

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

    async def metrics_by_key(self, own: bytes) -> bytes:
        """The same of what is for the owner alone."""
        ...


class Alone:
    """A server without replicas."""

    wanted = 1
    ready = 1

    async def load(self, own: Load) -> Load:
        return own

    async def metrics(self, own: bytes) -> bytes:
        return own

    async def metrics_by_key(self, own: bytes) -> bytes:
        return own


ALONE = Alone()
