"""What a CUDA device makes of the model: each part, then whole streams side by side. For `cosyserve bench gpu`."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator

import torch

from cosyserve.cosyvoice.frontend.prompt_encoder import Prompt
from cosyserve.cosyvoice.model.config import FRAMES_PER_TOKEN, MELS, SAMPLE_RATE, Config
from cosyserve.cosyvoice.model.flow import Chunk, Flow
from cosyserve.cosyvoice.model.hift import Hift
from cosyserve.cosyvoice.model.past import Past
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.cosyvoice.model.untrained import untrained
from cosyserve.cosyvoice.runtime.batched import BatchedToken2Wav
from cosyserve.cosyvoice.runtime.flow_batch import Work
from cosyserve.cosyvoice.runtime.flow_memory import CHUNK
from cosyserve.cosyvoice.runtime.generation import Generator, Request
from cosyserve.cosyvoice.runtime.hops import Hops
from cosyserve.cosyvoice.runtime.memory import pages_behind
from cosyserve.cosyvoice.runtime.runtime import Runtime
from cosyserve.cosyvoice.runtime.utterance import Pcm, Utterance
from cosyserve.measure.model import PROMPT_TOKENS, UTTERANCE_TOKENS, speech, voice
from cosyserve.measure.timing import seconds_of

_SLOTS = (1, 8, 32)
_STREAMS = (1, 4, 16)
_POSITIONS = 1024
_STEPS = 200
_TEXT_TOKENS = 5  # which untrained weights speak for its longest, 100 tokens: 4 s
_CALLS = 10
_PAST_FRAMES = 750  # 15 s
_PAGES = (max(_STREAMS) + 1) * pages_behind(_PAST_FRAMES)
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
    prompt = Prompt(given.tokens[0], given.mel[0], given.embedding[0])
    token2wav = BatchedToken2Wav(flow, hift, Hops(), max(_STREAMS), _PAGES, _PAST_FRAMES)
    began = time.perf_counter()
    for make in token2wav.graphs():
        make()
    yield "flow: seconds to make all graphs", round(time.perf_counter() - began, 1)
    for streams in _STREAMS:
        yield f"flow: ms a chunk of {streams} streams, in a graph", round(1000 * _chunk(flow, token2wav, streams), 1)
    runtime = Runtime(Generator(llm, max(_STREAMS), _POSITIONS), token2wav, torch.get_num_threads(), device.type)
    try:
        for streams in _STREAMS:
            first, audio, seconds = _side_by_side(runtime, streams, prompt)
            yield f"{streams} streams: median ms to the first chunk", round(1000 * first)
            yield f"{streams} streams: seconds of audio in a second", round(audio / seconds, 1)
    finally:
        runtime.close()
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


def _chunk(flow: Flow, token2wav: BatchedToken2Wav, streams: int) -> float:
    """Seconds for a chunk of 50 frames, all ten steps, of so many streams."""
    noise = flow.noise[:, :, :CHUNK]
    mean, speaker = noise.to(flow.encoder_proj.weight), noise[:, :, 0].to(flow.encoder_proj.weight)
    batch = token2wav.batch
    states = [batch.begin() for _ in range(streams)]
    works = [Work(state, Chunk(0, mean, mean, 0), speaker) for state in states]
    try:
        return _best(lambda: batch.move(works)[0].mel)
    finally:
        for state in states:
            batch.end(state)


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
