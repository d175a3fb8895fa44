"""Asks again what may succeed a little later."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from cosyserve import errors
from cosyserve.client.call import Call, RefusedError
from cosyserve.errors import CosyError

Result = TypeVar("Result")

_PAUSES = (2, 4, 8, 16, 32)  # seconds before each new try: a server that restarts takes about as long
_WORTH_WAITING = 60  # seconds in Retry-After; a limit of a day takes longer, and says so


Told = Callable[[CosyError, int], None]


def patiently(call: Call, ask: Callable[[], Result], told: Told = lambda error, seconds: None) -> Result:
    """What `ask` returns. A server that is busy is asked again after as long as it says, however often; one that cannot
    be reached, breaks off or fails a few times. `told` hears why and how long it waits."""
    pauses = iter(_PAUSES)
    while True:
        try:
            return ask()
        except CosyError as error:
            pause = _pause(error, pauses)
            if pause is None:
                raise
            told(error, pause)
            if not call.wait(pause):
                raise


def _pause(error: CosyError, pauses: Iterator[int]) -> int | None:
    """Seconds until it is worth asking again; None if it is not."""
    status = error.status if isinstance(error, RefusedError) else error.fault.status
    if status == 429:
        return error.retry_after if 0 < (error.retry_after or 0) <= _WORTH_WAITING else None
    if error.fault is errors.SERVER_FOREIGN or status < 500:
        return None
    pause = next(pauses, None)
    return None if pause is None else max(pause, min(error.retry_after or 0, _WORTH_WAITING))
