"""The vocoder for many streams: what they speak at the same moment is a batch, and on a GPU each batch is a graph.

A hop lies at the end of a window that may be longer, so first and last hops of any length share graphs with the others.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cosyserve.cosyvoice.model.config import FRAMES_PER_TOKEN, LOOK_AHEAD
from cosyserve.cosyvoice.model.hift import Hift
from cosyserve.cosyvoice.model.hift_stream import FIRST_HELD, HiftStream, Hop, Rows, Spoken, Window, together
from cosyserve.cosyvoice.runtime.graphs import Pool, captured

Work = tuple[HiftStream, Tensor, bool]  # a stream, the mel (1, 80, T) that comes next, and whether it is the last


class VocoderBatch:
    """Streams that are spoken together. Not to be used from two threads."""

    def __init__(self, hift: Hift, first: int, later: int, pool: Pool | None = None) -> None:
        """`first` and `later` are the frames of a stream's hops."""
        self._hift, self._pool = hift, pool
        self._windows = _windows(first, later)
        self._prepared: dict[tuple[int, int], _Prepared] = {}  # by frames and rows
        self._most = 0  # rows

    @torch.inference_mode()
    def prepare(self, most: int) -> None:
        """Make the graphs for up to `most` streams, which takes seconds, before anybody waits for one. Without, each
        batch has memory of its own."""
        self._most = _power_of_two(most)
        memory = Rows.of(self._hift, self._most, max(self._windows))
        counts = [1 << exponent for exponent in range(self._most.bit_length())]
        for frames in sorted(self._windows, reverse=True):  # the largest graph first: all others work in its memory
            for count in reversed(counts):
                self._prepared[frames, count] = _Prepared(self._hift, memory.part(count, frames), self._pool)

    def stream(self, seed: int, first_held: int = FIRST_HELD) -> HiftStream:
        """An utterance. See `HiftStream` for what its first hop holds back."""
        return HiftStream(self._hift, seed, first_held, self.speak)

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
        for place, hop in enumerate(hops):
            groups[self._window(hop.window.heard)].append(place)
        spoken: dict[int, Tensor] = {}
        for frames, group in groups.items():
            most = self._most or len(group)
            for places in (group[begin : begin + most] for begin in range(0, len(group), most)):
                prepared = self._prepared.get((frames, _power_of_two(len(places))))
                batch = [hops[place] for place in places]
                samples = together(self._hift, batch) if prepared is None else prepared.speak(batch)
                spoken.update(zip(places, samples, strict=True))
        return [spoken[place] for place in range(len(hops))]

    def _window(self, heard: int) -> int:
        """The smallest that is prepared and has room; one of its own where there is none."""
        return min((frames for frames, _ in self._prepared if frames >= heard), default=heard)


class _Prepared:
    """A batch of one size, in memory that never moves."""

    def __init__(self, hift: Hift, rows: Rows, pool: Pool | None) -> None:
        self._hift, self._rows = hift, rows
        self._spoken: Spoken
        self._run: Callable[[], None] = captured(self._speak, pool).replay if rows.mel.is_cuda else self._speak

    def speak(self, hops: Sequence[Hop]) -> list[Tensor]:
        self._rows.put(hops)
        self._run()
        waves, sources, turns = (each[: len(hops)].clone() for each in self._spoken)  # the next graph writes over them
        return self._rows.take((waves, sources, turns), hops)

    def _speak(self) -> None:
        self._spoken = self._rows.speak(self._hift, padded=True)


def _power_of_two(count: int) -> int:
    """The next one."""
    return 1 << (count - 1).bit_length()


def _windows(first: int, later: int) -> tuple[int, ...]:
    """The frames heard in a usual first hop, in one of those that follow, and in the longest last one, which also has
    what the flow's encoder looks ahead."""
    after = Window(first).longer(later).after()
    return first, after.longer(later).heard, after.longer(later + FRAMES_PER_TOKEN * LOOK_AHEAD, final=True).heard
