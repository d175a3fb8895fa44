"""How near TensorRT-LLM's drawing comes to repetition-aware sampling:  python -m bench.drawing

Sequences are drawn as PyTorch draws them (`cosyvoice2.sampling`). At each step the distribution of the next token is
worked out for both, exactly: repetition-aware sampling's, and that of TensorRT-LLM's kernels (batchApplyPenalty and
topKStage2Sampling, whose places the tests' contract names) for many values of their parameters. What is printed is the
mean total variation between the two: the share of draws that would be another. Scores follow each other slowly, as a
voice does, so that tokens come again; "random" ones have none that stands out (the best has a share of 0.1), "peaked"
ones have a few (0.45), "sharp" ones mostly one (0.6).
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from bench.common.benchmark import Benchmark
from bench.common.results import Figure, Results
from cosyserve.cosyvoice.model.config import SPEECH_TOKENS
from cosyserve.cosyvoice.model.sampling import Nucleus, sample

_MEMORY = 0.9  # how much of a step's scores the next one has
_RECORDING = 90  # tokens of the recording, which the kernels count as heard
_SPREAD, _PEAKS = 2.5, 4
_PEAK = {"random": 0.0, "peaked": 8.0, "sharp": 13.0}


@dataclass(frozen=True)
class Drawing:
    """What a request may ask of the kernels."""

    top_k: int = 25
    top_p: float = 0.8
    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0


def scores_of(kind: str, sequences: int, steps: int) -> Iterator[Tensor]:
    """(S, V) for each step."""
    generator = torch.Generator().manual_seed(1)

    def noise() -> Tensor:
        drawn = torch.randn(sequences, SPEECH_TOKENS, generator=generator)
        raised = torch.randint(0, SPEECH_TOKENS, (sequences, _PEAKS), generator=generator)
        return drawn.scatter_add_(1, raised, torch.full(raised.shape, _PEAK[kind]))

    scores = noise()
    for _ in range(steps):
        yield _SPREAD * scores
        scores = _MEMORY * scores + (1 - _MEMORY**2) ** 0.5 * noise()


def repetition_aware(scores: Tensor, recent: Tensor, nucleus: Nucleus) -> Tensor:
    """The distribution (S, V) from which `sample` draws."""
    probabilities = scores.softmax(1)
    likely, tokens = probabilities.topk(nucleus.top_k, dim=1)
    inside = likely * (likely.cumsum(1) - likely < nucleus.top_p)
    inside /= inside.sum(1, keepdim=True)
    repeated = (recent[:, None, :] == tokens[:, :, None]).sum(2) >= nucleus.repeated_from
    kept = torch.zeros_like(scores).scatter(1, tokens, inside * ~repeated)
    # A repeated one is drawn anew from all others: its share goes to them as their probabilities are.
    again = inside * repeated / (1 - likely)
    spread = probabilities * again.sum(1, keepdim=True)
    return kept + spread.scatter_add(1, tokens, -likely * again)


def of_the_kernels(scores: Tensor, heard: Tensor, asked: Drawing) -> Tensor:
    """The distribution (S, V) from which TensorRT-LLM draws; `heard` (S, V) counts tokens, the recording's too."""
    before = heard > 0
    penalised = torch.where(scores < 0, scores * asked.repetition, scores / asked.repetition)
    scores = torch.where(before, penalised - asked.presence - asked.frequency * heard, scores)
    best, tokens = scores.topk(asked.top_k, dim=1)
    weights = (best - best[:, :1]).exp()
    # The running sum is cut at the share top_p of the top k's sum: the token that crosses it has the part before it.
    ends = weights.cumsum(1).minimum(asked.top_p * weights.sum(1, keepdim=True))
    shares = torch.cat((ends[:, :1], ends.diff(dim=1)), dim=1)
    return torch.zeros_like(scores).scatter(1, tokens, shares / shares.sum(1, keepdim=True))


def distances(kind: str, candidates: list[Drawing], sequences: int, steps: int) -> list[float]:
    """For each candidate the mean total variation."""
    nucleus = Nucleus()
    seeds = torch.arange(sequences)
    recent = torch.full((sequences, nucleus.window), -1)
    heard = torch.zeros(sequences, SPEECH_TOKENS)
    sums = [0.0] * len(candidates)
    for step, scores in enumerate(scores_of(kind, sequences, _RECORDING + steps)):
        if step >= _RECORDING:
            wanted = repetition_aware(scores, recent, nucleus)
            for number, asked in enumerate(candidates):
                sums[number] += float((of_the_kernels(scores, heard, asked) - wanted).abs().sum(1).mean()) / 2
        at = torch.full((sequences,), step)
        drawn = sample(scores, recent, seeds, at, at < 0, torch.ones(sequences), nucleus)
        recent[:, step % nucleus.window] = drawn
        heard.scatter_add_(1, drawn[:, None], torch.ones(sequences, 1))
    return [each / steps for each in sums]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sequences", type=int, default=24)
    parser.add_argument("--steps", type=int, default=120)


def measure(options: argparse.Namespace, results: Results) -> None:
    penalties = [{"repetition": each} for each in (1.0, 1.05, 1.1, 1.2, 1.4)]
    penalties += [{"presence": each} for each in (0.5, 1.0, 2.0, 3.0)]
    penalties += [{"frequency": each} for each in (0.2, 0.5, 1.0)]
    candidates = [
        Drawing(top_k, top_p, **penalty)
        for top_k, top_p, penalty in product((25, 50, 100), (0.8, 0.9, 0.95, 1.0), penalties)
    ]
    found = [distances(kind, candidates, options.sequences, options.steps) for kind in _PEAK]
    for asked, *each in sorted(zip(candidates, *found, strict=True), key=lambda row: max(row[1:])):
        case = f"k {asked.top_k} p {asked.top_p} r {asked.repetition} pr {asked.presence} f {asked.frequency}"
        kinds = {kind: Figure(value, form=".3f") for kind, value in zip(_PEAK, each, strict=True)}
        results.add(case, **kinds, worst=Figure(max(each), form=".3f"))


BENCHMARK = Benchmark(measure, arguments=arguments)


if __name__ == "__main__":
    BENCHMARK.run()
