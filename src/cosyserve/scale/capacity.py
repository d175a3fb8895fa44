"""Calculates how many streams a graphics card carries, and how many cards a number of streams needs. Pure; from
measured figures."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

_RESERVE = 1.25  # seconds of sound to be made in a second for each stream, so that none runs dry


@dataclass(frozen=True)
class Point:
    """A measurement with that many streams that begin at once."""

    streams: int
    first_chunk_ms: float
    audio_seconds: float  # of all together, in a second


@dataclass(frozen=True)
class Figures:
    device: str
    points: Sequence[Point]  # by streams


# `cosyserve bench gpu` and the closed loop of `python -m bench.load`: bfloat16, Triton's kernels, tokens without
# TensorRT-LLM; the worse of both (docs/model.md).
H100 = Figures("NVIDIA H100 80GB HBM3", (Point(1, 32, 28), Point(4, 47, 69), Point(16, 89, 193), Point(32, 154, 184)))


@dataclass(frozen=True)
class FleetSize:
    """`streams` per card (0 if even one begins too late), and the number of `cards`."""

    streams: int
    first_chunk_ms: float
    cards: int
    bound_by: str


def figures_of(measured: Mapping[str, object]) -> Figures:
    """Reads the output of `cosyserve bench gpu --json`; raises `KeyError` or `ValueError` if it is something else."""
    first, audio = "streams: median ms to the first chunk", "streams: seconds of audio in a second"
    numbers = sorted(int(name.split()[0]) for name in measured if name.endswith(first))
    if not numbers:
        raise ValueError("nothing was measured with streams")
    points = [Point(n, _number(measured[f"{n} {first}"]), _number(measured[f"{n} {audio}"])) for n in numbers]
    return Figures(str(measured["device"]), points)


def capacity(figures: Figures, streams: int, first_chunk_ms: float, spare: int) -> FleetSize:
    """The cards needed for that many streams at once whose first chunks come in time, plus `spare` cards.

    Between two measured numbers of streams both figures are interpolated linearly; beyond the last there is no answer.
    """
    points, most = figures.points, figures.points[-1].streams

    def holds(condition: Callable[[Point], bool]) -> int:
        """Up to how many streams it does."""
        return next((n - 1 for n in range(1, most + 1) if not condition(_between(points, n))), most)

    in_time = holds(lambda point: point.first_chunk_ms <= first_chunk_ms)
    in_real_time = holds(lambda point: point.audio_seconds >= _RESERVE * point.streams)
    each = min(in_time, in_real_time)
    bound_by = "what was measured"
    if each < most:
        bound_by = "the first chunk" if each == in_time else "real time"
    cards = math.ceil(streams / each) + spare if each else 0
    return FleetSize(each, _between(points, max(1, each)).first_chunk_ms, cards, bound_by)


def share_of_card(cards: int, replicas: int) -> float:
    """What each replica on a machine gets: a card of its own if there are enough, else an equal share of one."""
    return 1 / math.ceil(replicas / cards) if cards else 0.0


def _between(points: Sequence[Point], streams: int) -> Point:
    for low, high in pairwise(points):
        if low.streams <= streams <= high.streams:
            share = (streams - low.streams) / (high.streams - low.streams)
            first = low.first_chunk_ms + share * (high.first_chunk_ms - low.first_chunk_ms)
            return Point(streams, first, low.audio_seconds + share * (high.audio_seconds - low.audio_seconds))
    return points[0] if streams <= points[0].streams else points[-1]


def _number(value: object) -> float:
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    raise ValueError(f"{value} is no number")
