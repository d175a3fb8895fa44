"""How far the model on a card is from the references of its released size, by Triton's kernels and by PyTorch's.

    python -m bench.golden [--device cuda] [--size full] [--reference FILE.npz]

For float32 and bfloat16: the mel of a stream in hops, the vocoder's waveform of the reference's mel and source, and how
many of 16 greedy tokens are the reference's. Weights are seeded as the references' were; see
tests/cosyvoice/golden/README.md.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bench.common.benchmark import Benchmark
from bench.common.results import Results, count, distance
from cosyserve.cosyvoice.frontend.prompt_encoder import Prompt
from cosyserve.cosyvoice.runtime.batched import BatchedToken2Wav
from cosyserve.cosyvoice.runtime.generation import Generator
from cosyserve.cosyvoice.runtime.hops import Hops
from cosyserve.cosyvoice.runtime.memory import pages_behind
from cosyserve.cosyvoice.runtime.request import Request
from cosyserve.cosyvoice.runtime.vocoder import VocoderBatch
from tests.cosyvoice.seeded import SIZES, Model, seeded
from tests.parity import GOLDEN

if TYPE_CHECKING:
    from cosyserve.cosyvoice.kernels.kernels import Kernels

_FRAMES, _POSITIONS, _GREEDY = 750, 512, 16

Given = Mapping[str, Tensor]


def apart(ours: Tensor, expected: Tensor) -> float:
    return float((ours.cpu().float() - expected).norm() / expected.norm())


def mel(model: Model, given: Given, kernels: "Kernels | None") -> Tensor:
    """Of a stream all of whose tokens are there, hop after hop."""
    token2wav = BatchedToken2Wav(model.flow, model.hift, Hops(), 1, 2 * pages_behind(_FRAMES), _FRAMES, kernels=kernels)
    prompt = Prompt(given["prompt_token"][0].long(), given["prompt_feat"][0], given["embedding"][0])
    stream = token2wav.stream(prompt, 0)
    for token in given["token"][0].tolist():
        stream.tokens.add(token)
    stream.tokens.complete()
    hops, last = [], False
    while not last:
        ((hop, last),) = token2wav.hops([stream])
        hops.append(hop)
    return torch.cat(hops, dim=2)


@torch.inference_mode()
def wave(model: Model, given: Given, kernels: "Kernels | None", device: str) -> Tensor:
    model.hift.fused = None
    VocoderBatch(model.hift, 1, 20, 50, None, kernels)  # with kernels they make its convolutions from now on
    return model.hift.decode(given["mel_offline"].to(device), given["source"].to(device))


def tokens(model: Model, given: Given, kernels: "Kernels | None") -> list[int]:
    generator = Generator(model.llm, 1, _POSITIONS, kernels=kernels)
    texts = given["text"][0].long(), given["prompt_text"][0].long()
    generator.add(Request(*texts, given["prompt_token"][0].long(), temperature=0))
    drawn: list[int] = []
    while generator.busy and len(drawn) < _GREEDY:
        drawn += [token for _, token in generator.advance()]
    return drawn


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--reference", type=Path)


def measure(options: argparse.Namespace, results: Results) -> None:
    arrays = np.load(options.reference or GOLDEN / f"{options.size}.npz")
    given = {name: torch.from_numpy(array) for name, array in arrays.items()}
    ways: dict[str, Kernels | None] = {"PyTorch": None}
    if options.device == "cuda":
        from cosyserve.cosyvoice.kernels import kernels as triton

        ways["Triton"] = triton.Kernels()
    for dtype in (torch.float32, torch.bfloat16):
        for name, kernels in ways.items():
            model = seeded(SIZES[options.size])
            noise = model.flow.noise
            for module in (model.llm, model.flow):
                module.to(options.device, dtype).requires_grad_(False)
            model.flow.noise = noise.to(options.device)
            model.hift.to(options.device).requires_grad_(False).exact = dtype == torch.float32
            same = sum(map(int.__eq__, tokens(model, given, kernels), given["llm_greedy16"].tolist()))
            results.add(
                f"{name}, {str(dtype).removeprefix('torch.')}",
                mel_in_hops=distance(apart(mel(model, given, kernels), given["mel_chunked"])),
                waveform=distance(apart(wave(model, given, kernels, options.device), given["wav"])),
                greedy_tokens=count(same),
            )


BENCHMARK = Benchmark(measure, needs="a card, or `--device cpu --size tiny`", arguments=arguments)

if __name__ == "__main__":
    BENCHMARK.run()
