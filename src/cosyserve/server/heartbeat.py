"""Sends heartbeats to the supervisor, and checks the server before each."""

import asyncio
import faulthandler
import gc
import logging
import types
from collections.abc import Callable

from cosyserve.launch.heartbeat import Sender
from cosyserve.server.service import ServerState, Service

log = logging.getLogger(__name__)

_SECONDS, _SECONDS_AT_START = 0.5, 0.05


async def send_heartbeats(
    service: Service, supervisor: Sender, on_idle: Callable[[], None], on_orphaned: Callable[[], None]
) -> None:
    """Sends heartbeats from the event loop, so a blocked loop stops sending; calls `on_orphaned` when the supervisor is
    gone."""
    while supervisor.send(service.state.value):
        if service.stalls():
            _write_stacks()
            continue
        if service.breaks():
            continue
        if service.idles():
            on_idle()
        await asyncio.sleep(_SECONDS if service.state is ServerState.READY else _SECONDS_AT_START)
    log.error("The supervisor is gone")
    on_orphaned()


def _write_stacks() -> None:
    """Logs the stack of every thread, coroutine and generator. A task's own stack ends at the first asynchronous
    generator, so each is asked."""
    faulthandler.dump_traceback(all_threads=True)
    for waiting in gc.get_objects():
        frame = None
        if isinstance(waiting, types.CoroutineType):
            frame = waiting.cr_frame
        elif isinstance(waiting, types.AsyncGeneratorType):
            frame = waiting.ag_frame
        if frame is not None:
            log.error("waits at %s:%d in %s", frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
