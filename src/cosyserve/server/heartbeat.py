"""What a server tells its supervisor, and how it looks at itself before it does."""

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
    """Tell how it is, from the event loop, so that a loop that stands still falls silent; `on_orphaned` is called once
    there is no supervisor any more."""
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
    """Where every thread, coroutine and generator is, into the log.

    A task's own stack ends at the first asynchronous generator, so they are asked one by one.
    """
    faulthandler.dump_traceback(all_threads=True)
    for waiting in gc.get_objects():
        frame = None
        if isinstance(waiting, types.CoroutineType):
            frame = waiting.cr_frame
        elif isinstance(waiting, types.AsyncGeneratorType):
            frame = waiting.ag_frame
        if frame is not None:
            log.error("waits at %s:%d in %s", frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
