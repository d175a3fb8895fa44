"""Stops accepting connections, and loses none that was accepted."""

import asyncio
from collections.abc import Iterable


async def stop_accepting(listeners: Iterable[asyncio.Server]) -> None:
    """Close them once whoever has been accepted is being served.

    asyncio accepts in one turn of its loop and makes the transport in the next. If the listener is closed in between,
    it drops the connection without closing it, and the client waits for an answer until this process ends. uvloop does
    both in one turn.
    """
    listeners = list(listeners)
    loop = asyncio.get_running_loop()
    if isinstance(loop, asyncio.SelectorEventLoop):
        for each in listeners:
            for bound in each.sockets:
                loop.remove_reader(bound.fileno())
        await asyncio.sleep(0)
    for each in listeners:
        each.close()
