"""Changes the speed of speech without its pitch, chunk by chunk."""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import numpy as np

from cosyserve.speech.audio import SAMPLE_RATE, Pcm

SLOWEST, FASTEST = 0.25, 4.0  # OpenAI's range
_ATEMPO_SLOWEST = 0.5  # libavfilter's atempo goes no slower; several in a row do
_LEAST = 16  # samples: atempo fails on fewer than come to one at its speed
_TAIL = SAMPLE_RATE // 4  # samples of silence that push out what atempo would keep at the end, up to 60 ms


class TimeStretch:
    """Wraps libavfilter's `atempo` (overlap-add). At speed 1 the samples pass through untouched.

    Of n samples come n / speed, rounded up: what atempo is ahead of that is held back, and what it would keep at the
    end is pushed out. So each segment may have one of its own, and its bounds are known to the sample.
    """

    def __init__(self, speed: float) -> None:
        self._speed, self._given, self._position, self._made = speed, 0, 0, 0
        self._held: Pcm = np.empty(0, np.float32)  # too few for atempo
        self._ahead: Pcm = np.empty(0, np.float32)
        self._graph = None if speed == 1.0 else _atempo_graph(speed)

    def push(self, pcm: Pcm) -> Iterator[Pcm]:
        if self._graph is None:
            yield pcm
            return
        self._given += pcm.size
        gathered: Pcm = np.concatenate((self._held, pcm))
        self._held = gathered if gathered.size < _LEAST else gathered[:0]
        if gathered.size >= _LEAST:
            yield self._due(self._through(gathered))

    def flush(self) -> Iterator[Pcm]:
        if self._graph is None or not self._given:
            return
        rest = [*self._through(np.pad(self._held, (0, _TAIL)))]
        self._graph.push(None)
        yield self._due([*rest, *self._pull(), np.zeros(_TAIL, np.float32)])

    def _due(self, made: Iterable[Pcm]) -> Pcm:
        """As much as there is for what was given."""
        there: Pcm = np.concatenate((self._ahead, *made))
        due = math.ceil(self._given / self._speed) - self._made
        now, self._ahead = there[:due], there[due:]
        self._made += now.size
        return now

    def _through(self, pcm: Pcm) -> Iterator[Pcm]:
        assert self._graph is not None  # noqa: S101 - only called where a graph exists
        frame = av.AudioFrame.from_ndarray(pcm.reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.time_base = Fraction(1, SAMPLE_RATE)
        frame.pts = self._position
        self._position += pcm.size
        self._graph.push(frame)
        yield from self._pull()

    def _pull(self) -> Iterator[Pcm]:
        assert self._graph is not None  # noqa: S101 - only called where a graph exists
        while True:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(frame, av.AudioFrame)  # noqa: S101 - the graph has audio only
            yield np.asarray(frame.to_ndarray(), dtype=np.float32).reshape(-1)


def _atempo_graph(speed: float) -> av.filter.Graph:
    stages = max(1, math.ceil(math.log(speed, _ATEMPO_SLOWEST))) if speed < 1 else 1
    graph = av.filter.Graph()
    nodes = [graph.add_abuffer(sample_rate=SAMPLE_RATE, format="flt", layout="mono")]
    nodes += [graph.add("atempo", f"{speed ** (1 / stages):.6f}") for _ in range(stages)]
    nodes += [graph.add("aformat", "sample_fmts=flt:channel_layouts=mono"), graph.add("abuffersink")]
    graph.link_nodes(*nodes).configure()
    return graph
