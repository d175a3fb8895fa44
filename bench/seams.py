"""How the vocoder's hops are joined, before and now: errors against one shot, and a plot of one seam.

    python -m bench.seams [--size full] [--device cuda] [--picture docs/seams.svg]

Seeded weights of the tests, and the mel of the voice that comes with the project. On a CUDA device hops run as graphs.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.common import plot
from bench.common.benchmark import Benchmark
from bench.common.results import Results, distance
from cosyserve.cosyvoice.frontend.features import mel as mel_of
from cosyserve.cosyvoice.model.config import SAMPLE_RATE, SAMPLES_PER_FRAME
from cosyserve.cosyvoice.model.hift import Hift
from cosyserve.cosyvoice.model.hift_stream import FIRST_HELD, HELD, HiftStream, Hop
from cosyserve.cosyvoice.model.source import AHEAD
from cosyserve.cosyvoice.runtime.vocoder import VocoderBatch
from cosyserve.speech import recording
from tests.cosyvoice.seeded import SIZES, fill

RECORDING = next((Path(recording.__file__).parent / "recordings").glob("*.flac"))
FIRST, HOP = 20, 50  # frames of a stream's hops, as a GPU takes them
_OVERLAP = 8  # frames, of the earlier way
_FADE = 2
_SHOWN = 2  # frames of the plot on each side of the seam
_HEIGHT, _MARGIN = 130, 24

Joined = tuple[Tensor, Tensor]  # the waveform (n,) and the source (n,)


def quiet(size: str, device: str) -> Hift:
    """A vocoder that clips nothing: clipped samples would be equal even if they were wrong."""
    hift = fill("hift", Hift(SIZES[size].hift))
    with torch.no_grad():
        hift.conv_post.parametrizations.weight.original0 *= 0.25
    return hift.to(device)


def recorded(device: str) -> Tensor:
    """(1, 80, T)."""
    return mel_of(torch.from_numpy(recording.read(RECORDING.read_bytes()))).transpose(1, 2).to(device)


def at_once(hift: Hift, mel: Tensor, seed: int) -> Joined:
    source = hift.source(mel, hift.noise(seed))
    return hift.decode(mel, source)[0], source[0, 0]


def before(hift: Hift, mel: Tensor, sizes: Sequence[int], seed: int) -> Joined:
    """As it was: a hop hears eight frames of the past over their source, and is faded into them; in each hop the
    harmonics begin anew, at random."""
    drawing, held = torch.Generator(mel.device).manual_seed(seed), _OVERLAP * SAMPLES_PER_FRAME
    fade = torch.linspace(0, torch.pi / 2, held, device=mel.device).sin().square()
    wave, source = mel.new_empty(0), mel.new_empty(0)
    for size, end in zip(sizes, accumulate(sizes), strict=True):
        past = _OVERLAP if len(wave) else 0
        hop = mel[:, :, end - size - past : end]
        f0 = hift.f0_predictor(hop)
        turns = hift.m_source.turns(f0) + torch.rand(9, generator=drawing, device=mel.device)
        noise = torch.randn(1, hop.shape[2] * SAMPLES_PER_FRAME, 9, generator=drawing, device=mel.device)
        new = hift.m_source(f0, turns, noise)
        if past:
            new[0, 0, :held] = source[-held:]
        spoken = hift.decode(hop, new)[0]
        if past:
            spoken[:held] = spoken[:held] * fade + wave[-held:] * (1 - fade)
            wave, source = wave[:-held], source[:-held]
        wave, source = torch.cat((wave, spoken)), torch.cat((source, new[0, 0]))
    return wave, source


class Watched(HiftStream):
    """A stream whose whole source is kept, as it is once no later hop makes it anew."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.whole_source = torch.empty(0)

    def spoken(self, hop: Hop, wave: Tensor, source: Tensor, turns: Tensor) -> Tensor:
        window = hop.window
        settled = window.frames if window.final else window.frames - AHEAD
        new = source[window.settled * SAMPLES_PER_FRAME : settled * SAMPLES_PER_FRAME]
        self.whole_source = torch.cat((self.whole_source.to(new), new))
        return super().spoken(hop, wave, source, turns)


def streamed(hift: Hift, mel: Tensor, sizes: Sequence[int], first_held: int) -> Joined:
    stream = Watched(hift, 0, first_held, VocoderBatch(hift, 1, FIRST, HOP).speak if mel.is_cuda else None)
    *hops, last = torch.split(mel, list(sizes), dim=2)
    return torch.cat([*map(stream.push, hops), stream.push(last, final=True)]), stream.whole_source


def error(of: Tensor, exact: Tensor) -> float:
    return float((of - exact).norm() / exact.norm())


@dataclass(frozen=True)
class Strip:
    """Part of the plot: a signal (n,) around its seam, and in grey what it would be at once."""

    title: str
    colour: str
    signal: Tensor
    at_once: Tensor | None
    seam: int  # sample

    def drawn(self, top: int) -> Iterator[str]:
        begin, end = (self.seam + side * _SHOWN * SAMPLES_PER_FRAME for side in (-1, 1))
        loudest, middle = float(self.signal[begin:end].abs().max()), top + _HEIGHT / 2 + 8

        def points(values: Tensor) -> list[tuple[float, float]]:
            step, scale = (plot.WIDTH - 2 * _MARGIN) / (end - begin), (_HEIGHT / 2 - 16) / loudest
            heights = enumerate(values[begin:end:2].tolist())
            return [(_MARGIN + 2 * n * step, middle - value * scale) for n, value in heights]

        yield plot.text(_MARGIN, top + 14, self.title)
        yield plot.rule(plot.WIDTH / 2, top + 18, plot.WIDTH / 2, top + _HEIGHT, dashed=True)
        if self.at_once is not None:
            yield plot.line(points(self.at_once), "#bbb", width=4)
        yield plot.line(points(self.signal), self.colour, width=1)


def drawn(strips: Sequence[Strip]) -> str:
    height = len(strips) * _HEIGHT + _MARGIN
    reach = 1000 * _SHOWN * SAMPLES_PER_FRAME // SAMPLE_RATE
    return plot.svg(
        height,
        (
            *(part for row, strip in enumerate(strips) for part in strip.drawn(row * _HEIGHT)),
            plot.text(_MARGIN, height - 8, f"−{reach} ms"),
            plot.text(plot.WIDTH / 2, height - 8, "seam", anchor="middle"),
            plot.text(plot.WIDTH - _MARGIN, height - 8, f"{reach} ms", anchor="end"),
        ),
    )


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--picture", type=Path, help="SVG")


@torch.inference_mode()
def measure(options: argparse.Namespace, results: Results) -> None:
    hift, mel = quiet(options.size, options.device), recorded(options.device)
    sizes = [FIRST, *(hop.shape[2] for hop in torch.split(mel[:, :, FIRST:], HOP, dim=2))]
    exact, source = at_once(hift, mel, 0)
    joined_before, source_before = before(hift, mel, sizes, 0)
    joined, joined_source = streamed(hift, mel, sizes, FIRST_HELD)
    given = (FIRST - FIRST_HELD) * SAMPLES_PER_FRAME
    frame, rest = slice(given - SAMPLES_PER_FRAME, given), slice(given + _FADE * SAMPLES_PER_FRAME, None)
    for case, off in (
        ("before, its phases being drawn", error(joined_before, exact)),
        ("all hops hold back what may change", error(streamed(hift, mel, sizes, HELD)[0], exact)),
        (f"the first holds back {FIRST_HELD} frames alone", error(joined, exact)),
        ("- its last frame", error(joined[frame], exact[frame])),
        ("- after it", error(joined[rest], exact[rest])),
    ):
        results.add(case, off_one_shot=distance(off))
    if options.picture is not None:
        strips = [
            Strip("source, before", plot.ORANGE, source_before, None, (FIRST + HOP) * SAMPLES_PER_FRAME),
            Strip(
                "source, now; grey: at once",
                plot.BLUE,
                joined_source,
                source,
                (FIRST + HOP - AHEAD) * SAMPLES_PER_FRAME,
            ),
            Strip("waveform, before", plot.ORANGE, joined_before, None, (FIRST + HOP - _OVERLAP) * SAMPLES_PER_FRAME),
            Strip("waveform, now, at the first seam; grey: at once", plot.BLUE, joined, exact, given),
        ]
        options.picture.write_text(drawn(strips), encoding="utf-8")


BENCHMARK = Benchmark(measure, arguments=arguments)


if __name__ == "__main__":
    BENCHMARK.run()
