"""The client at the other end of a connection: whether it takes what it is sent, and what is done where it does not."""

from collections.abc import Awaitable

import anyio
from starlette.types import Scope

from cosyserve.server.connections import ABORT


class ClientGoneError(Exception):
    """The client closed its connection, or takes nothing any more."""

    def __init__(self, outcome: str) -> None:
        self.outcome = outcome


async def taken(sending: Awaitable[None], stall_seconds: float) -> None:
    """Send, but raise ClientGoneError once the client has taken nothing for so long."""
    with anyio.move_on_after(stall_seconds) as patience:
        await sending
    if patience.cancelled_caught:
        raise ClientGoneError("stalled")


def abort(scope: Scope) -> bool:
    """Break the connection, where the server lets us: closing it would wait for a client that takes nothing."""
    break_off = (scope.get("extensions") or {}).get(ABORT)
    if break_off is not None:
        break_off()
    return break_off is not None
