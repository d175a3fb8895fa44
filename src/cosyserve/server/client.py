"""The client at the other end of a connection: whether it still reads, and what to do if it does not."""

from collections.abc import Awaitable

import anyio
from starlette.types import Scope

from cosyserve.server.connections import ABORT


class ClientGoneError(Exception):
    """The client closed its connection or stopped reading."""

    def __init__(self, outcome: str) -> None:
        self.outcome = outcome


async def taken(sending: Awaitable[None], stall_seconds: float) -> None:
    """Send, but raise ClientGoneError if the client reads nothing for that long."""
    with anyio.move_on_after(stall_seconds) as patience:
        await sending
    if patience.cancelled_caught:
        raise ClientGoneError("stalled")


def abort(scope: Scope) -> bool:
    """Break the connection if the server allows it; to close it would mean waiting for a client that does not read."""
    break_off = (scope.get("extensions") or {}).get(ABORT)
    if break_off is not None:
        break_off()
    return break_off is not None
