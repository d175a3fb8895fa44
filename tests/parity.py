"""Holds the model against reference outputs of the public implementation, with seeded weights on both sides:

    python -m tests.parity [--config tiny|full|tiny3|full3] [--reference FILE.npz] [--vocoder FILE.npz] [--device cuda]

Prints the relative error ‖ours − reference‖ / ‖reference‖ of every array, of `sines` the largest difference; ends with
0 when all are within what `tolerance` says. The arrays are described in tests/cosyvoice/golden/README.md, where they
are taken from by default; the prompt and the utterance may be of any length. Without --config the size is the one that
a file's name begins with.
"""

import argparse
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from cosyserve.cosyvoice.model.causal_hift import CausalHift
from cosyserve.cosyvoice.model.config import SAMPLES_PER_FRAME, SPEECH_TOKENS
from cosyserve.cosyvoice.model.fixed_noise import FixedNoise
from cosyserve.cosyvoice.model.flow import DitFlow, Flow, FlowStream
from cosyserve.cosyvoice.model.hift import Hift
from cosyserve.cosyvoice.model.past import Past
from cosyserve.cosyvoice.model.qwen2 import Llm
from tests.cosyvoice.seeded import SIZES, SIZES3, Model, Model3, seeded, seeded3

TOLERANCE = 1e-4
SINES_TOLERANCE = 1e-3  # of an amplitude of 0.1: the reference sums its phases in float32
WAVE_TOLERANCE = 1e-3  # of CosyVoice3
# Of its flow and vocoder together: the seeded pitch makes of a difference of the mel's of 1e-6 one of 1.3e-3. That is
# the references' own rounding: of our flow in float64 the mel of full3 is 1.08e-6 from them, the waveform 1.14e-3.
TOGETHER_TOLERANCE = 3e-3
GOLDEN = Path(__file__).parent / "cosyvoice" / "golden"
_GREEDY = 16
_QUIET = 0.25  # of the last layer's gain: nothing is clipped
_NOISE_SEED, _UNFINISHED, _FASTER = 777, 60, 1.25  # of CosyVoice3's references


def outputs(model: Model | Model3, given: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Every array that the reference has, computed by us from its inputs."""
    arguments = given["token"].long(), given["prompt_token"].long(), given["prompt_feat"], given["embedding"]
    yield from _flow(model.flow, given)
    streamed = _streamed(model.flow, given) if "mel_chunked" in given else None
    if streamed is not None:
        yield "mel_chunked", streamed
    whole = model.flow.mel(*arguments, chunked=False)
    yield "mel_offline", whole
    if "mel_streammask" in given:
        yield "mel_streammask", model.flow.mel(*arguments, chunked=True)
    if isinstance(model, Model):
        yield from _vocoder(model.hift, given)
    else:
        yield from _causal_vocoder(model.hift, given)
        yield from _spoken(model, given, whole, streamed)
    yield from _llm(model.llm, given)
    if isinstance(model, Model):
        yield from _source(model.hift, given)


@torch.inference_mode()
def _flow(flow: Flow | DitFlow, given: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    token, prompt, embedding = given["token"].long(), given["prompt_token"].long(), given["embedding"]
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


@torch.inference_mode()
def _streamed(flow: Flow | DitFlow, given: Mapping[str, Tensor]) -> Tensor:
    """The mel from tokens that come one by one."""
    token, prompt = given["token"].long(), given["prompt_token"].long()
    stream = FlowStream(flow, prompt, given["prompt_feat"], given["embedding"])
    chunks = [stream.push(each) for each in token.split(1, dim=1)]
    return torch.cat([*chunks, stream.push(token[:, :0], final=True)], dim=2)


@torch.inference_mode()
def _vocoder(hift: Hift, given: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    yield "f0", hift.f0_predictor(given["mel_offline"])
    yield "wav", hift.decode(given["mel_offline"], given["source"])


def _fixed_noise(given: Mapping[str, Tensor]) -> Tensor:
    """The source's, of CosyVoice3's references."""
    waves = given["sine_noise_head"].shape[2]
    generator = torch.Generator().manual_seed(_NOISE_SEED)
    torch.rand(1, waves, generator=generator)  # where each harmonic begins, which nothing hears
    noise = torch.rand(1, SAMPLES_PER_FRAME * given["mel_offline"].shape[2], waves, generator=generator)
    return noise.to(given["sine_noise_head"])


@torch.inference_mode()
def _causal_vocoder(hift: CausalHift, given: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    mel, noise = given["mel_offline"], _fixed_noise(given)
    yield "sine_noise_head", noise[:, : given["sine_noise_head"].shape[1]]
    f0 = hift.f0_predictor(mel)
    yield "f0", f0
    yield "source", hift.source(f0, noise)
    yield "source_mixed", hift.source(given["f0_mixed"], noise)
    yield "wav", hift.speak(mel, noise)
    begun = mel[:, :, :_UNFINISHED]
    yield "f0_unfinished", hift.f0_predictor(begun, final=False)
    yield "wav_unfinished", hift.speak(begun, noise, final=False)
    yield "wav_streamed", _in_hops(hift, mel, noise, given)


class _GivenNoise(FixedNoise):
    """The source's, as the references have it."""

    def __init__(self, noise: Tensor) -> None:
        self._noise = F.pad(noise[0], (0, 0, 0, 2 * SAMPLES_PER_FRAME))  # beyond the end nobody hears it

    def frames(self, begin: int, count: int, device: torch.device) -> Tensor:
        return self._noise[SAMPLES_PER_FRAME * begin : SAMPLES_PER_FRAME * (begin + count)].to(device)


def _in_hops(hift: CausalHift, mel: Tensor, noise: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """The vocoder in the references' hops, none of which it makes twice as upstream does."""
    own, hift.noise = hift.noise, _GivenNoise(noise)
    hops, stream = mel.split(given["chunk_frames"].long().tolist(), dim=2), hift.stream(0)
    waves = [stream.push(hop, final=number == len(hops)) for number, hop in enumerate(hops, 1)]
    hift.noise = own
    return torch.cat(waves)[None]


@torch.inference_mode()
def _spoken(
    model: Model3, given: Mapping[str, Tensor], whole: Tensor, streamed: Tensor | None
) -> Iterator[tuple[str, Tensor]]:
    """Flow and vocoder together, of the mel at once and by chunks. Upstream's last hop sees everything, the others
    their chunk's end."""
    noise = _fixed_noise(given)
    yield "wav_model", model.hift.speak(whole, noise)
    if streamed is not None:
        before = int(given["chunk_frames"][:-1].sum())
        last = torch.cat((streamed[:, :, :before], whole[:, :, before:]), dim=2)
        yield "wav_model_stream", _in_hops(model.hift, last, noise, given)
    faster = F.interpolate(whole, size=int(whole.shape[2] / _FASTER), mode="linear")
    yield f"wav_model_speed{_FASTER}", model.hift.speak(faster, noise)


@torch.inference_mode()
def _source(hift: Hift, given: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """What the vocoder's own file has."""
    if "sines" in given:
        f0 = given["f0_drawn"]
        yield "sines", hift.m_source.sines(f0, hift.m_source.turns(f0))
    if "wav_quiet" in given:
        gain = hift.conv_post.parametrizations.weight.original0
        gain *= _QUIET
        yield "wav_quiet", hift.decode(given["mel_offline"], given["source"])
        gain /= _QUIET


def _llm(llm: Llm, given: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
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
    model: Model | Model3,
    reference: Path,
    device: str = "cpu",
    vocoder: Path | None = None,
    without: Collection[str] = (),
) -> Iterator[tuple[str, float]]:
    """The error of every array but those in `without`; infinite where the shape is another, or where equality is asked
    for."""
    given = {
        name: torch.from_numpy(array).to(device)
        for file in (reference, vocoder)
        if file is not None
        for name, array in np.load(file).items()
        if name not in without
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


def tolerance(name: str, edition: int = 2) -> float:
    if edition == 2:
        return SINES_TOLERANCE if name == "sines" else TOLERANCE
    if name.startswith("wav_model"):
        return TOGETHER_TOLERANCE
    return WAVE_TOLERANCE if name.startswith("wav") else TOLERANCE


def main() -> None:
    parser = argparse.ArgumentParser(description="Hold the model against reference outputs.")
    parser.add_argument("--config", choices=[*SIZES, *SIZES3])
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--vocoder", type=Path)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    reference, vocoder = options.reference, options.vocoder
    names = [options.config or "", *(file.name for file in (reference, vocoder) if file is not None)]
    size = next((size for name in names for size in (*SIZES3, *SIZES) if name.startswith(size)), None)
    if size is None:
        parser.error("which size is it? Add --config tiny, full, tiny3 or full3")
    edition = 3 if size in SIZES3 else 2
    if reference is None:
        reference = GOLDEN / f"{size}.npz"
        vocoder = vocoder or (GOLDEN / f"{size}_vocoder.npz" if edition == 2 else None)
    model = seeded3(SIZES3[size]) if edition == 3 else seeded(SIZES[size])
    failed = False
    for name, error in compare(model, reference, options.device, vocoder):
        good = error <= tolerance(name, edition)
        failed |= not good
        print(f"{'ok  ' if good else 'FAIL'} {name:26} {error:.2e}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
