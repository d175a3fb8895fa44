"""The open loop of a load report as an SVG: the first chunk, and the silence heard, over the rate of arrivals."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.common import plot

_HEIGHT, _LEFT, _RIGHT, _TOP, _GAP = 200, 64, 16, 44, 52  # of a panel, and what is around it

Points = Sequence[tuple[float, float]]  # rate and value


@dataclass(frozen=True)
class Line:
    name: str
    colour: str
    points: Points
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    title: str
    top: int
    lines: Sequence[Line]
    rates: Sequence[float]
    logarithmic: bool

    @property
    def _marks(self) -> list[float]:
        """Of the values: powers of ten, or quarters of a round number."""
        highest = max((value for line in self.lines for _, value in line.points), default=0) or 1
        if self.logarithmic:
            lowest = min((value for line in self.lines for _, value in line.points if value > 0), default=1)
            ends = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))
            return [10.0**power for power in range(ends[0], max(ends[1], ends[0] + 1) + 1)]
        unit = 10 ** math.floor(math.log10(highest))
        top = math.ceil(highest / unit) * unit
        return [top * quarter / 4 for quarter in range(5)]

    def x(self, rate: float) -> float:
        first, last = math.log(self.rates[0]), math.log(self.rates[-1])
        share = (math.log(rate) - first) / (last - first) if last > first else 0.5
        return _LEFT + share * (plot.WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self._marks[0], self._marks[-1]
        if self.logarithmic:
            value, low, high = math.log(max(value, low)), math.log(low), math.log(high)
        return self.top + _HEIGHT * (1 - (value - low) / (high - low))

    def drawn(self) -> Iterator[str]:
        yield plot.text(_LEFT, self.top - 10, self.title, bold=True)
        for mark in self._marks:
            y = self.y(mark)
            yield plot.rule(_LEFT, y, plot.WIDTH - _RIGHT, y)
            yield plot.text(_LEFT - 6, y + 4, f"{mark:g}", anchor="end")
        for rate in self.rates:
            yield plot.text(self.x(rate), self.top + _HEIGHT + 16, f"{rate:g}", anchor="middle")
        for line in self.lines:
            points = [(self.x(rate), self.y(value)) for rate, value in line.points]
            yield plot.line(points, line.colour, dashed=line.dashed)
            for x, y in points:  # a single one is no line
                yield plot.dot(x, y, line.colour)


def picture(report: Mapping[str, Any]) -> str:
    """Of a report that has an open loop, finished or not."""
    loops: dict[str, dict[float, Mapping[str, Any]]] = {
        name: {float(rate): found for rate, found in loop["rates"].items()}
        for name, loop in report.get("open loop", {}).items()
    }
    rates = sorted({rate for found in loops.values() for rate in found}) or [1.0]
    firsts, silences = list[Line](), list[Line]()
    for (name, found), colour in zip(loops.items(), plot.COLOURS, strict=False):
        firsts.append(Line(f"{name}, p50", colour, _values(found, "first_chunk_p50_ms")))
        firsts.append(Line(f"{name}, p95 (dashed)", colour, _values(found, "first_chunk_p95_ms"), dashed=True))
        silences.append(Line(name, colour, _values(found, "silence_s")))
    below = _TOP + _HEIGHT + _GAP
    panels = (
        Panel("ms to the first chunk", _TOP, firsts, rates, logarithmic=True),
        Panel("seconds of silence heard, all listeners together", below, silences, rates, logarithmic=False),
    )
    height = below + _HEIGHT + _GAP
    return plot.svg(
        height,
        (
            *plot.legend([(line.name, line.colour) for line in firsts], _LEFT),
            *(part for panel in panels for part in panel.drawn()),
            plot.text(plot.WIDTH - _RIGHT, height - 10, "arrivals a second", anchor="end"),
        ),
    )


def _values(found: Mapping[float, Mapping[str, Any]], name: str) -> Points:
    return [(rate, found[rate][name]) for rate in sorted(found) if found[rate][name] is not None]
