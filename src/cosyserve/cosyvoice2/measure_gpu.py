"""What a CUDA device makes of the model: each part, then whole streams side by side. For `cosyserve bench gpu`."""

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from cosyserve.cosyvoice2.config import FRAMES_PER_TOKEN, MELS, SAMPLE_RATE, Config
from cosyserve.cosyvoice2.flow import Flow, FlowStream
from cosyserve.cosyvoice2.generation import Generator, Request, Slot
from cosyserve.cosyvoice2.hift import Hift, HiftStream
from cosyserve.cosyvoice2.measure import PROMPT_TOKENS, UTTERANCE_TOKENS, Voice, speech, voice
from cosyserve.cosyvoice2.past import Past
from cosyserve.cosyvoice2.qwen2 import Llm
from cosyserve.cosyvoice2.untrained import untrained

_SLOTS = (1, 8, 32)
_STREAMS = (1, 4, 16)
_POSITIONS = 1024
_STEPS = 200
_TEXT_TOKENS = 5  # which untrained weights speak for its longest, 100 tokens: 4 s
_CALLS = 10
_COPY_BYTES = 2 << 30


def gpu(dtype: torch.dtype) -> Iterator[tuple[str, object]]:
    """Names and values as they become known."""
    device = torch.device("cuda")
    config = Config()
    bandwidth = _bandwidth(device)
    yield "device", torch.cuda.get_device_name(device)
    yield "type", str(dtype).removeprefix("torch.")
    yield "memory bandwidth of a copy, GB/s", round(bandwidth / 1e9)
    llm = untrained(Llm(config.llm)).to(device, dtype)
    floor = _step_bytes(llm) / bandwidth
    for slots in _SLOTS:
        seconds = _step(llm, slots)
        yield f"LLM: tokens a second, {slots} slots", round(slots / seconds)
        yield f"LLM: floor of the memory bandwidth ÷ step, {slots} slots", round(floor / seconds, 2)
    flow = untrained(Flow(config.flow)).to(device, dtype)
    flow.noise = flow.noise.float()
    hift = untrained(Hift(config.hift)).to(device)
    frames = FRAMES_PER_TOKEN * (PROMPT_TOKENS + UTTERANCE_TOKENS)
    yield f"flow: ms an estimator call, 2 × {frames} frames", round(1000 * _estimator_call(flow, frames), 2)
    given = voice()
    given = Voice(given.tokens.to(device), given.mel.to(device), given.embedding.to(device))
    _side_by_side(llm, flow, hift, given, 1)  # warm
    for streams in _STREAMS:
        first, audio, seconds = _side_by_side(llm, flow, hift, given, streams)
        yield f"{streams} streams: median ms to the first chunk", round(1000 * first)
        yield f"{streams} streams: seconds of audio in a second", round(audio / seconds, 1)
    yield "peak GPU memory, GiB", round(torch.cuda.max_memory_allocated() / 2**30, 2)


def _bandwidth(device: torch.device) -> float:
    """Bytes read and written in a second by a copy, the best of several."""
    source = torch.empty(_COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * _COPY_BYTES / _best(lambda: target.copy_(source))


def _step_bytes(llm: Llm) -> int:
    """What one step has to read: all weights but the embeddings, of which it looks up a row."""
    looked_up = {id(each.weight) for each in llm.modules() if isinstance(each, torch.nn.Embedding)}
    return sum(each.numel() * each.element_size() for each in llm.parameters() if id(each) not in looked_up)


def _step(llm: Llm, slots: int) -> float:
    generator = Generator(llm, slots, _POSITIONS)
    for seed in range(slots):
        generator.add(_request(seed, text=30))
    for _ in range(5):
        generator.advance()
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
def _estimator_call(flow: Flow, frames: int) -> float:
    x = torch.randn(2, MELS, frames).to(flow.encoder_proj.weight)
    t = torch.tensor(0.3, device=x.device)
    return _best(lambda: flow.estimator(x, x, t, x[:, :, 0], x, Past()))


def _best(work: Callable[[], Tensor]) -> float:
    took = []
    for _ in range(_CALLS):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    return min(took)


class _Stream:
    """One request on its way through all three modules."""

    def __init__(self, slot: Slot, flow: Flow, hift: Hift, given: Voice) -> None:
        self.slot, self.done = slot, False
        self.first: float | None = None
        self.samples = 0
        self._flow = FlowStream(flow, given.tokens, given.mel, given.embedding)
        self._hift = HiftStream(hift)
        self._device = given.tokens.device

    def take(self, tokens: list[int]) -> None:
        self.done = self.slot.done
        mel = self._flow.push(torch.tensor([tokens], dtype=torch.long, device=self._device), final=self.done)
        if not mel.shape[2] and not self.done:
            return
        wave = self._hift.push(mel, final=self.done).cpu()  # heard: what comes after does not count for it
        self.samples += len(wave)
        if len(wave) and self.first is None:
            self.first = time.perf_counter()


def _side_by_side(llm: Llm, flow: Flow, hift: Hift, given: Voice, streams: int) -> tuple[float, float, float]:
    """So many requests at once: the median time to the first sound, then audio and wall time, all in seconds."""
    generator = Generator(llm, streams, _POSITIONS)
    torch.cuda.synchronize()
    began = time.perf_counter()
    running = [_Stream(generator.add(_request(seed)), flow, hift, given) for seed in range(streams)]
    while not all(stream.done for stream in running):
        heard = generator.advance()
        for stream in running:
            if not stream.done:
                stream.take([token for slot, token in heard if slot is stream.slot])
    torch.cuda.synchronize()
    took = time.perf_counter() - began
    firsts = [stream.first - began for stream in running if stream.first is not None]
    return statistics.median(firsts), sum(stream.samples for stream in running) / SAMPLE_RATE, took
