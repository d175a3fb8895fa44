"""Holds the model against reference outputs of the public implementation, with seeded weights on both sides:

    python -m tests.parity [--config tiny|full] [--reference FILE.npz] [--vocoder FILE.npz] [--device cuda]

Prints the relative error ‖ours − reference‖ / ‖reference‖ of every array, of `sines` the largest difference; ends with
0 when all are within 1e-4, `sines` within 1e-3. The arrays are described in tests/cosyvoice/golden/README.md, where
they are taken from by default; the prompt and the utterance may be of any length. Without --config the size is the one
that a file's name begins with.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cosyserve.cosyvoice.model.config import SPEECH_TOKENS
from cosyserve.cosyvoice.model.flow import FlowStream
from cosyserve.cosyvoice.model.past import Past
from tests.cosyvoice.seeded import SIZES, Model, seeded

TOLERANCE = 1e-4
SINES_TOLERANCE = 1e-3  # of an amplitude of 0.1: the reference sums its phases in float32
GOLDEN = Path(__file__).parent / "cosyvoice" / "golden"
_GREEDY = 16
_QUIET = 0.25  # of the last layer's gain: nothing is clipped


def outputs(model: Model, given: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Every array that the reference has, computed by us from its inputs."""
    yield from _flow(model, given)
    yield from _vocoder(model, given)
    yield from _llm(model, given)
    yield from _source(model, given)


@torch.inference_mode()
def _flow(model: Model, given: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    flow = model.flow
    token, prompt, prompt_mel = given["token"].long(), given["prompt_token"].long(), given["prompt_feat"]
    embedding = given["embedding"]
    yield "rand_noise_head", flow.noise[:, :, : given["rand_noise_head"].shape[2]]
    speaker = flow.speaker(embedding)
    yield "spk", speaker
    mean = flow.mean(torch.cat((prompt, token), dim=1), Past(), chunked=False, final=True)
    yield "mu", mean.transpose(1, 2)
    frames = mean.shape[2]
    x = flow.noise[:, :, :frames].expand(2, -1, -1)
    means, speakers = (torch.cat((each, torch.zeros_like(each))) for each in (mean, speaker))
    arguments = (x, means, torch.tensor(0.3, device=x.device), speakers, torch.zeros_like(means))
    yield "estimator_t0.3", flow.estimator(*arguments, Past())
    yield "estimator_t0.3_streaming", flow.estimator.chunked(*arguments, Past())
    yield "mel_offline", flow.mel(token, prompt, prompt_mel, embedding)
    yield "mel_streammask", flow.mel(token, prompt, prompt_mel, embedding, chunked=True)
    stream = FlowStream(flow, prompt, prompt_mel, embedding)
    chunks = [stream.push(each) for each in token.split(1, dim=1)]
    yield "mel_chunked", torch.cat([*chunks, stream.push(token[:, :0], final=True)], dim=2)


@torch.inference_mode()
def _vocoder(model: Model, given: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    yield "f0", model.hift.f0_predictor(given["mel_offline"])
    yield "wav", model.hift.decode(given["mel_offline"], given["source"])


@torch.inference_mode()
def _source(model: Model, given: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """What the vocoder's own file has."""
    if "sines" in given:
        f0 = given["f0_drawn"]
        yield "sines", model.hift.m_source.sines(f0, model.hift.m_source.turns(f0))
    if "wav_quiet" in given:
        gain = model.hift.conv_post.parametrizations.weight.original0
        gain *= _QUIET
        yield "wav_quiet", model.hift.decode(given["mel_offline"], given["source"])
        gain /= _QUIET


def _llm(model: Model, given: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    llm = model.llm
    text = torch.cat((given["prompt_text"], given["text"]), dim=1)[0].long()
    prompt = llm.prompt(text, given["prompt_token"][0].long())
    cache = llm.cache(1, len(prompt) + _GREEDY)
    scores = llm.prefill(prompt, cache, 0)[None]
    yield "llm_logits_prefill", scores
    tokens = []
    for place in range(len(prompt), len(prompt) + _GREEDY):
        tokens.append(scores[:, :SPEECH_TOKENS].argmax(1))
        scores = llm.decode(tokens[-1], torch.tensor([place], device=scores.device), cache)
    yield "llm_greedy16", torch.cat(tokens)
    yield "llm_logits_last", scores


def compare(
    model: Model, reference: Path, device: str = "cpu", vocoder: Path | None = None
) -> Iterator[tuple[str, float]]:
    """The error of every array; infinite where the shape is another, or where equality is asked for."""
    given = {
        name: torch.from_numpy(array).to(device)
        for file in (reference, vocoder)
        if file is not None
        for name, array in np.load(file).items()
    }
    torch.backends.cudnn.allow_tf32 = False  # which would be half of float32's precision
    for module in (model.llm, model.flow, model.hift):
        module.to(device)
    for name, ours in outputs(model, given):
        yield name, _error(name, ours, given[name])


def _error(name: str, ours: Tensor, expected: Tensor) -> float:
    if ours.shape != expected.shape or (not expected.is_floating_point() and not torch.equal(ours, expected)):
        return float("inf")
    difference = (ours - expected).float()
    return float(difference.abs().max() if name == "sines" else difference.norm() / expected.float().norm())


def tolerance(name: str) -> float:
    return SINES_TOLERANCE if name == "sines" else TOLERANCE


def main() -> None:
    parser = argparse.ArgumentParser(description="Hold the model against reference outputs.")
    parser.add_argument("--config", choices=SIZES)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--vocoder", type=Path)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    reference, vocoder = options.reference, options.vocoder
    names = [options.config or "", *(file.name for file in (reference, vocoder) if file is not None)]
    size = next((size for name in names for size in SIZES if name.startswith(size)), None)
    if size is None:
        parser.error("which size is it? Add --config tiny or --config full")
    if reference is None:
        reference = GOLDEN / f"{size}.npz"
        vocoder = vocoder or GOLDEN / f"{size}_vocoder.npz"
    failed = False
    for name, error in compare(seeded(SIZES[size]), reference, options.device, vocoder):
        good = error <= tolerance(name)
        failed |= not good
        print(f"{'ok  ' if good else 'FAIL'} {name:26} {error:.2e}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
