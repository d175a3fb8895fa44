"""What a CUDA device makes of the model: each part, then whole streams side by side. For `cosyserve bench gpu`."""

import gc
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from cosyserve.cosyvoice.frontend.prompt_encoder import Prompt
from cosyserve.cosyvoice.model.causal_hift import CausalHift
from cosyserve.cosyvoice.model.config import CHUNK_TOKENS, FRAMES_PER_TOKEN, MELS, RELEASED, SAMPLE_RATE, Sizes
from cosyserve.cosyvoice.model.flow import Chunk, DitFlow, Flow, Solver
from cosyserve.cosyvoice.model.hift import Hift
from cosyserve.cosyvoice.model.loading import flow_of, vocoder_of
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.cosyvoice.model.untrained import never_stopping, untrained
from cosyserve.cosyvoice.model.vocoder import Vocoder
from cosyserve.cosyvoice.runtime.batched import BatchedToken2Wav
from cosyserve.cosyvoice.runtime.editions import mean_batch
from cosyserve.cosyvoice.runtime.flow_batch import FlowBatch, Work
from cosyserve.cosyvoice.runtime.flow_memory import CHUNK
from cosyserve.cosyvoice.runtime.generation import Generator
from cosyserve.cosyvoice.runtime.graphs import new_pool
from cosyserve.cosyvoice.runtime.hops import Hops
from cosyserve.cosyvoice.runtime.memory import VOICE_PAGES, Share, pages_behind, room, shared_out
from cosyserve.cosyvoice.runtime.request import Request
from cosyserve.cosyvoice.runtime.runtime import Runtime
from cosyserve.cosyvoice.runtime.utterance import Pcm, Utterance
from cosyserve.cosyvoice.runtime.vocoder import VocoderBatch
from cosyserve.measure.model import PROMPT_TOKENS, speech, voice
from cosyserve.measure.timing import seconds_of

if TYPE_CHECKING:
    from cosyserve.cosyvoice.kernels.kernels import Kernels

_COSYVOICE2 = RELEASED["cosyvoice2"]
_SLOTS = (1, 16, 32)
_STREAMS = (1, 4, 16, 32)
_POSITIONS = 1024
_STEPS = 200
_TEXT_TOKENS = 5  # which untrained weights speak for its longest, 100 tokens: 4 s
_CALLS = 10
_PAST_FRAMES = 750  # 15 s
_BEHIND = pages_behind(_PAST_FRAMES)
_COPY_BYTES = 2 << 30
_MATRIX = 8192  # rows and columns of a product
_HERTZ = 150.0  # of untrained weights, which would be silent
_HOPS = 6  # of the vocoder


@dataclass(frozen=True)
class _Device:
    """What it can do, measured: bytes, and operations in that type, a second."""

    bandwidth: float
    rate: float


@dataclass(frozen=True)
class _Models:
    sizes: Sizes
    llm: Llm
    flow: Flow | DitFlow
    hift: Hift | CausalHift


def gpu(
    dtype: torch.dtype, kernels: "Kernels | None", *, compare: bool = False, sizes: Sizes = _COSYVOICE2
) -> Iterator[tuple[str, object]]:
    """Names and values as they become known, of a model of those `sizes`; without `kernels` by PyTorch's. With
    `compare` all once more by PyTorch's, and how much longer those take."""
    device = torch.device("cuda")
    can = _Device(_bandwidth(device), _rate(device, dtype))
    yield "device", torch.cuda.get_device_name(device)
    yield "type", str(dtype).removeprefix("torch.")
    yield "kernels", "PyTorch's" if kernels is None else "Triton's"
    yield "memory bandwidth of a copy, GB/s", round(can.bandwidth / 1e9)
    yield "products, TFLOP/s", round(can.rate / 1e12)
    found: dict[str, object] = {}
    for name, value in _measured(sizes, dtype, kernels, can):
        found[name] = value
        yield name, value
    if compare and kernels is not None:
        for name, value in _measured(sizes, dtype, None, can):
            yield f"{name}, PyTorch", value
            mine = found.get(name)
            if isinstance(value, int | float) and isinstance(mine, int | float) and mine:
                yield f"{name}, PyTorch ÷ Triton", round(value / mine, 2)
    yield "peak GPU memory, GiB", round(torch.cuda.max_memory_allocated() / 2**30, 2)


def _measured(
    sizes: Sizes, dtype: torch.dtype, kernels: "Kernels | None", can: _Device
) -> Iterator[tuple[str, object]]:
    models = _models(sizes, dtype)
    yield from _parts(models, kernels, can)
    gc.collect()  # what is out of use has references in circles, and most of a card's memory
    torch.cuda.empty_cache()
    yield from _streams(models, kernels)
    del models
    gc.collect()
    torch.cuda.empty_cache()


def _models(sizes: Sizes, dtype: torch.dtype) -> _Models:
    flow, hift = untrained(flow_of(sizes)).to("cuda", dtype), untrained(vocoder_of(sizes))
    flow.noise = flow.noise.float()
    torch.nn.init.constant_(hift.f0_predictor.classifier.bias, _HERTZ)
    hift.exact = dtype == torch.float32
    llm = untrained(Llm(sizes.llm)).to("cuda", dtype)
    never_stopping(llm)
    return _Models(sizes, llm.requires_grad_(False), flow.requires_grad_(False), hift.to("cuda").requires_grad_(False))


def _parts(models: _Models, kernels: "Kernels | None", can: _Device) -> Iterator[tuple[str, object]]:
    floor = _step_bytes(models.llm) / can.bandwidth
    for slots in _SLOTS:
        seconds = _step(models.llm, slots, kernels)
        yield f"LLM: ms a step, {slots} slots", round(1000 * seconds, 3)
        yield f"LLM: tokens a second, {slots} slots", round(slots / seconds)
        yield f"LLM: step ÷ floor, {slots} slots", round(seconds / floor, 1)
    yield from _chunks(models, kernels, can)
    gc.collect()
    torch.cuda.empty_cache()
    for streams in _STREAMS:
        yield f"encoder: ms a hop of {streams} streams", round(1000 * _encoder_hop(models.flow, streams), 2)
    for streams in _STREAMS:
        yield f"vocoder: ms a hop of {streams} streams", round(1000 * _vocoder_hop(models.hift, streams, kernels), 2)


def _chunks(models: _Models, kernels: "Kernels | None", can: _Device) -> Iterator[tuple[str, object]]:
    """The flow of as many streams as there is room for, none of which shares its recording."""
    flow, pages = models.flow, _room(models).pages
    numbers = [streams for streams in _STREAMS if streams * _BEHIND <= pages]
    if not numbers:
        return
    batch = FlowBatch(flow, numbers[-1], numbers[-1] * _BEHIND, _PAST_FRAMES, new_pool(), kernels)
    for streams in numbers:
        seconds = _chunk(batch, streams)
        yield f"flow: ms a chunk of {streams} streams", round(1000 * seconds, 1)
        yield f"flow: chunk of {streams} streams ÷ floor", round(seconds / _chunk_floor(models, streams, can), 1)


def _streams(models: _Models, kernels: "Kernels | None") -> Iterator[tuple[str, object]]:
    given = voice()
    prompt = Prompt(given.tokens[0], given.mel[0], given.embedding[0])
    most = min(max(_STREAMS), _room(models).streams)
    yield "most streams at once", most
    if not most:
        return
    began = time.perf_counter()
    pages = most * (_BEHIND - VOICE_PAGES) + _BEHIND  # all in one voice
    token2wav = BatchedToken2Wav(models.flow, models.hift, Hops(), most, pages, _PAST_FRAMES, kernels=kernels)
    generator = Generator(models.llm, most, _POSITIONS, kernels=kernels)
    for make in (*generator.graphs(), *token2wav.graphs()):
        make()
    yield "seconds to make all graphs", round(time.perf_counter() - began, 1)
    runtime = Runtime(generator, token2wav, torch.get_num_threads(), "cuda")
    try:
        for streams in (each for each in _STREAMS if each <= most):
            first, audio, seconds = _side_by_side(runtime, streams, prompt)
            yield f"{streams} streams: median ms to the first chunk", round(1000 * first)
            yield f"{streams} streams: seconds of audio in a second", round(audio / seconds, 1)
    finally:
        runtime.close()


def _room(models: _Models) -> Share:
    """What the card has room for now."""
    size = models.flow.like.element_size()
    return shared_out(room(torch.cuda.mem_get_info()[0]), models.sizes.flow, _PAST_FRAMES, size)


def _bandwidth(device: torch.device) -> float:
    """Bytes read and written in a second by a copy, the best of several."""
    source = torch.empty(_COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * _COPY_BYTES / _best(lambda: target.copy_(source))


def _rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations in a second of a large product, the best of several."""
    matrix = torch.randn(_MATRIX, _MATRIX, device=device).to(dtype)
    return 2 * _MATRIX**3 / _best(lambda: matrix @ matrix)


def _step_bytes(llm: Llm) -> int:
    """What one step has to read: all weights but the embeddings, of which it looks up a row."""
    looked_up = {id(each.weight) for each in llm.modules() if isinstance(each, torch.nn.Embedding)}
    return sum(each.numel() * each.element_size() for each in llm.parameters() if id(each) not in looked_up)


def _step(llm: Llm, slots: int, kernels: "Kernels | None") -> float:
    """Seconds of a step of so many slots, all in use."""
    generator = Generator(llm, slots, _POSITIONS, kernels=kernels)
    for seed in range(slots):
        generator.add(_request(seed, text=30))
    while len(generator.advance()) < slots:
        pass
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(_STEPS):
        generator.advance()
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / _STEPS


def _request(seed: int, text: int = _TEXT_TOKENS) -> Request:
    ids = torch.zeros(text, dtype=torch.long)
    return Request(ids, ids, speech(PROMPT_TOKENS)[0], seed)


@torch.inference_mode()
def _chunk(batch: FlowBatch, streams: int) -> float:
    """Seconds for a chunk of 50 frames, all Euler steps, of so many streams that have their whole past."""
    noise = batch.flow.noise[:, :, :CHUNK]
    mean, speaker = noise.to(batch.memory.like), noise[:, :, 0].to(batch.memory.like)
    states = [batch.begin() for _ in range(streams)]

    def move() -> None:
        batch.move([Work(state, Chunk(CHUNK * (state.moved % _BEHIND), mean, mean, 0), speaker) for state in states])

    try:
        for _ in range(_BEHIND):
            move()
        return _best(move)
    finally:
        for state in states:
            batch.end(state)


def _chunk_floor(models: _Models, streams: int, can: _Device) -> float:
    """Seconds that a chunk of so many streams takes at least: for its products and its attention, or to read the
    weights and the past."""
    kept, rows = models.sizes.flow.estimator.kept, 2 * streams
    weights = sum(each.numel() for each in models.flow.estimator.parameters() if each.dim() > 1)
    operations = rows * CHUNK * (2 * weights + 2 * kept * _PAST_FRAMES)
    values = weights + rows * kept * _PAST_FRAMES
    size = models.flow.like.element_size()
    return models.sizes.flow.steps * max(operations / can.rate, values * size / can.bandwidth)


@torch.inference_mode()
def _encoder_hop(flow: Solver, streams: int) -> float:
    """Seconds for the mean of 25 tokens of so many streams behind one recording."""
    given, batch = voice(), mean_batch(flow, streams + 1, new_pool())
    recording = batch.begin(streams, given.tokens, given.mel.to("cuda"), given.embedding)
    batch.push([(recording, False)])
    going = [batch.resume(batch.keep(recording), slot) for slot in range(streams)]
    for each in going:
        each.add(speech(CHUNK_TOKENS))
    return _best(lambda: batch.push([(replace(each), False) for each in going]))


def _vocoder_hop(hift: Vocoder, streams: int, kernels: "Kernels | None") -> float:
    """Seconds for a second of each of so many streams."""
    batch = VocoderBatch(hift, streams, FRAMES_PER_TOKEN * Hops().first, CHUNK, new_pool(), kernels)
    going = [batch.stream(seed) for seed in range(streams)]
    mel = torch.randn(1, MELS, CHUNK, device="cuda")
    batch.push([(each, mel[:, :, : FRAMES_PER_TOKEN * Hops().first], False) for each in going])
    for _ in range(2):  # the second is as all that follow are
        batch.push([(each, mel, False) for each in going])
    return seconds_of(lambda: batch.push([(each, mel, False) for each in going]), _HOPS)[0]


def _best(work: Callable[[], object]) -> float:
    return seconds_of(work, _CALLS)[0]


class _Listener:
    """A client that takes everything at once."""

    def __init__(self, runtime: Runtime, prompt: Prompt, seed: int) -> None:
        self.ended, self.first, self.samples = threading.Event(), 0.0, 0
        self._problem: Exception | None = None
        self._runtime = runtime
        self._utterance = Utterance(_request(seed), prompt, self._give)
        runtime.start(self._utterance)

    def _give(self, item: Pcm | Exception | None) -> None:
        if item is None or isinstance(item, Exception):
            self._problem = item
            self.ended.set()
            return
        self.first = self.first or time.perf_counter()
        self.samples += len(item)
        self._runtime.taken(self._utterance)

    def wait(self) -> None:
        self.ended.wait()
        if self._problem is not None:
            raise self._problem


def _side_by_side(runtime: Runtime, streams: int, prompt: Prompt) -> tuple[float, float, float]:
    """So many requests at once: the median time to the first sound, then audio and wall time, in seconds.

    The voice is known, as that of a library is after its first request.
    """
    _Listener(runtime, prompt, 0).wait()
    began = time.perf_counter()
    listeners = [_Listener(runtime, prompt, seed) for seed in range(streams)]
    for listener in listeners:
        listener.wait()
    took = time.perf_counter() - began
    first = statistics.median(listener.first - began for listener in listeners)
    return first, sum(listener.samples for listener in listeners) / SAMPLE_RATE, took
