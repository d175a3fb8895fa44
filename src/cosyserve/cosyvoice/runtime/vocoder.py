"""The vocoder for many streams: what they speak at the same moment is a batch, and on a GPU each batch is a graph.

A hop lies at the end of a window that may be longer, so first and last hops of any length share graphs with the others.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cosyserve.cosyvoice.model.vocoder import Hop, Rows, Spoken, Vocoder, VocoderStream, together
from cosyserve.cosyvoice.runtime.editions import use_kernels
from cosyserve.cosyvoice.runtime.graphs import Make, Pool, captured

if TYPE_CHECKING:
    from cosyserve.cosyvoice.kernels.kernels import Kernels

Work = tuple[VocoderStream, Tensor, bool]  # a stream, the mel (1, 80, T) that comes next, and whether it is the last


class VocoderBatch:
    """Up to `streams` that are spoken together. Not to be used from two threads."""

    def __init__(
        self,
        vocoder: Vocoder,
        streams: int,
        first: int,
        later: int,
        pool: Pool | None = None,
        kernels: "Kernels | None" = None,
    ) -> None:
        """`first` and `later` are the frames of a stream's hops. With `kernels` they make what they can of it."""
        self._vocoder, self._pool = vocoder, pool
        use_kernels(vocoder, kernels)
        self._windows = vocoder.windows(first, later)
        self._width = _power_of_two(streams)
        self._memory = vocoder.rows(self._width, self._windows[-1])
        self._batches: dict[tuple[int, int], _Batch] = {}  # by frames and rows

    def graphs(self) -> list[Make]:
        """What makes each of them, to be called before anybody waits for one. The largest comes first: all others work
        in its memory."""
        counts = [1 << exponent for exponent in range(self._width.bit_length())]
        return [partial(self._batch, frames, count) for frames in self._windows[::-1] for count in counts[::-1]]

    def stream(self, seed: int, *, whole: bool = False) -> VocoderStream:
        """An utterance; a `whole` one needs not be heard soon."""
        return self._vocoder.stream(seed, whole=whole, speak=self.speak)

    @torch.inference_mode()
    def push(self, works: Sequence[Work]) -> list[Tensor]:
        """The samples (n,) that each completes, on the device. All streams are different ones."""
        hops = [stream.hop(mel, final=final) for stream, mel, final in works]
        spoken = iter(self.speak([hop for hop in hops if hop is not None]))
        return [mel.new_empty(0) if hop is None else next(spoken) for hop, (_, mel, _) in zip(hops, works, strict=True)]

    @torch.inference_mode()
    def speak(self, hops: Sequence[Hop]) -> list[Tensor]:
        """The samples (n,) that each completes. Those that lie in windows of one size are spoken together."""
        groups = defaultdict[int, list[int]](list)
        for number, hop in enumerate(hops):
            groups[self._window(hop.frames)].append(number)
        spoken: dict[int, Tensor] = {}
        for frames, group in groups.items():
            for numbers in (group[begin : begin + self._width] for begin in range(0, len(group), self._width)):
                samples = self._together(frames, [hops[number] for number in numbers])
                spoken.update(zip(numbers, samples, strict=True))
        return [spoken[number] for number in range(len(hops))]

    def _window(self, needed: int) -> int:
        """The smallest that has room; one of its own where there is none."""
        return next((frames for frames in self._windows if frames >= needed), needed)

    def _together(self, frames: int, hops: Sequence[Hop]) -> list[Tensor]:
        if frames not in self._windows:
            return together(self._vocoder, hops)
        return self._batch(frames, _power_of_two(len(hops))).speak(hops)

    def _batch(self, frames: int, count: int) -> "_Batch":
        if (frames, count) not in self._batches:
            self._batches[frames, count] = _Batch(self._memory.part(count, frames), self._pool)
        return self._batches[frames, count]


class _Batch:
    """Rows that are spoken again and again."""

    def __init__(self, rows: Rows, pool: Pool | None) -> None:
        self._rows = rows
        self._spoken: Spoken
        self._run: Callable[[], None] = captured(self._speak, pool).replay if rows.spans.is_cuda else self._speak

    def speak(self, hops: Sequence[Hop]) -> list[Tensor]:
        self._rows.put(hops)
        self._run()
        spoken = tuple(each[: len(hops)].clone() for each in self._spoken)  # the next graph writes over them
        return self._rows.take(spoken, hops)

    def _speak(self) -> None:
        self._spoken = self._rows.speak(padded=True)


def _power_of_two(count: int) -> int:
    """The next one."""
    return 1 << (count - 1).bit_length()
