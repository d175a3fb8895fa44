"""What a failure means for all that comes after it: nothing, that memory ran out, or that the device is lost.

A CUDA error that stays (a failed assertion in a kernel, an illegal address, a card that fell off) is raised by every
later call of the process as well. So after a failure a tiny piece of work on the device tells one kind from the other.
"""

import logging
import threading
import traceback

import torch

from cosyserve import errors
from cosyserve.cosyvoice.runtime.request import EngineBrokenError, NoRoomError, RequestRefusedError
from cosyserve.errors import CosyError

log = logging.getLogger(__name__)

_FAILURES = 5  # without a success between them, after which it is no single request that is at fault
_REFUSALS = (NoRoomError, RequestRefusedError)  # these are about the request alone
# What CUDA, its libraries, and PyTorch's allocator for processors say.
_OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED", "can't allocate memory", "not enough memory")


class Health:
    """Of one device, as the threads that work on it see it."""

    def __init__(self, device: str) -> None:
        self._judging = threading.Lock()
        self.broken = ""  # why nothing will be computed in this process any more
        self._failures = 0
        self._probe = torch.zeros(1, device=device)  # made now: to test a device without memory must take none

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self, problem: Exception) -> Exception:
        """What the client is to be told; sets `broken` where nobody will be spoken to any more."""
        if isinstance(problem, _REFUSALS):
            return problem
        with self._judging:
            self._failures += 1
            self.broken = self.broken or self._verdict(problem)
        if self.broken:
            log.error("The synthesis is broken", exc_info=problem)
            return self.farewell()
        if not is_out_of_memory(problem):
            return problem
        log.error("Out of memory", exc_info=problem)
        _free(problem)
        return CosyError(errors.OUT_OF_MEMORY, retry_after=1)

    def give_up(self, problem: Exception) -> None:
        """Nobody will be spoken to, whatever comes."""
        log.error("The synthesis is broken", exc_info=problem)
        self.broken = self.broken or _first_line(problem)

    def farewell(self) -> CosyError:
        """What all are told once it is broken."""
        return CosyError(errors.ENGINE_FAILED, retry_after=1, reason=self.broken)

    def _verdict(self, problem: Exception) -> str:
        if isinstance(problem, EngineBrokenError):
            return str(problem)
        if lost := self._lost():
            return lost
        if self._failures >= _FAILURES:
            return f"{_FAILURES} requests failed one after the other, the last with: {_first_line(problem)}"
        return ""

    def _lost(self) -> str:
        """Why the device does not even add one number to another; empty where it does."""
        try:
            self._probe.add_(1).item()  # waits for what was launched before, whose errors come late
        except Exception as problem:
            return "" if is_out_of_memory(problem) else _first_line(problem)
        return ""


def is_out_of_memory(problem: Exception) -> bool:
    if isinstance(problem, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(problem, RuntimeError) and any(words in str(problem) for words in _OUT_OF_MEMORY)


def _free(problem: Exception) -> None:
    """Give back what the failed work holds: the frames of its traceback have its tensors."""
    traceback.clear_frames(problem.__traceback__)
    torch.cuda.empty_cache()  # of no effect on a processor


def _first_line(problem: Exception) -> str:
    """Without PyTorch's advice on how to find such errors."""
    return next(iter(str(problem).splitlines()), "") or type(problem).__name__
