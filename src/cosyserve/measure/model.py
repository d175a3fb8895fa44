"""What the model costs: the numbers behind `cosyserve bench`, at the released size, with weights that need no file."""

import math
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cosyserve.cosyvoice.model.config import (
    CHUNK_TOKENS,
    FRAMES_PER_TOKEN,
    MELS,
    RELEASED,
    SAMPLE_RATE,
    SPEECH_TOKENS,
    TOKENS_PER_SECOND,
    Sizes,
)
from cosyserve.cosyvoice.model.flow import FlowStream, Solver
from cosyserve.cosyvoice.model.int8 import quantised
from cosyserve.cosyvoice.model.loading import flow_of, vocoder_of
from cosyserve.cosyvoice.model.past import Past
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.cosyvoice.model.untrained import untrained

_COSYVOICE2 = RELEASED["cosyvoice2"]
PROMPT_TOKENS = 87  # 3.5 s, as in the reference outputs
UTTERANCE_TOKENS = 103  # 4.1 s
_LLM_PROMPT, _LLM_TOKENS = 117, 30
_ESTIMATOR_CALLS = 3
_LENGTHS = (10, 20, 40)  # seconds of speech between which growth is measured
_LONGEST = 60


@dataclass(frozen=True)
class Voice:
    """A prompt for the flow, drawn at random."""

    tokens: Tensor
    mel: Tensor
    embedding: Tensor


def voice(tokens: int = PROMPT_TOKENS) -> Voice:
    generator = torch.Generator().manual_seed(1)
    mel = torch.randn(1, tokens * FRAMES_PER_TOKEN, MELS, generator=generator)
    return Voice(speech(tokens), mel, torch.randn(1, 192, generator=generator))


def speech(tokens: int) -> Tensor:
    return torch.randint(0, SPEECH_TOKENS, (1, tokens), generator=torch.Generator().manual_seed(tokens))


@dataclass(frozen=True)
class Streamed:
    """One utterance through the flow, chunk after chunk of one second."""

    chunk_seconds: list[float]
    cpu_seconds: float
    mel: Tensor
    past_bytes: int

    @property
    def last_to_third(self) -> float:
        """Of whole chunks; the very last one has the look-ahead's three tokens alone."""
        return self.chunk_seconds[-2] / self.chunk_seconds[2]


def stream(flow: Solver, seconds: int, keep_seconds: int | None = None) -> Streamed:
    keep = None if keep_seconds is None else keep_seconds * TOKENS_PER_SECOND
    given = voice()
    running = FlowStream(flow, given.tokens, given.mel, given.embedding, keep)
    took, parts = [], []
    began_cpu = time.process_time()
    pieces = speech(seconds * TOKENS_PER_SECOND).split(CHUNK_TOKENS, dim=1)
    for number, piece in enumerate(pieces):
        began = time.perf_counter()
        parts.append(running.push(piece, final=number == len(pieces) - 1))
        took.append(time.perf_counter() - began)
    return Streamed(took, time.process_time() - began_cpu, torch.cat(parts, dim=2), running.bytes)


def growth(cpu_seconds: dict[int, float]) -> float:
    """The exponent e of cost ∝ length^e, by least squares over all lengths."""
    points = [(math.log(length), math.log(cost)) for length, cost in cpu_seconds.items()]
    middle_x, middle_y = (sum(column) / len(points) for column in zip(*points, strict=True))
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / sum((x - middle_x) ** 2 for x, _ in points)


def streaming(keep_seconds: int, config: Sizes = _COSYVOICE2) -> Iterator[tuple[str, object]]:
    """The cost of length, exact and with a bounded past: names and values as they become known."""
    flow = untrained(flow_of(config))
    yield "threads", torch.get_num_threads()
    stream(flow, 2)  # warm
    exact: Streamed | None = None
    for name, keep in (("exact", None), (f"last {keep_seconds} s", keep_seconds)):
        costs = {length: stream(flow, length, keep).cpu_seconds for length in _LENGTHS}
        yield f"{name}: CPU seconds for 10, 20, 40 s", [round(cost, 1) for cost in costs.values()]
        yield f"{name}: growth exponent", round(growth(costs), 3)
        longest = stream(flow, _LONGEST, keep)
        yield f"{name}: seconds of each chunk of {_LONGEST} s", [round(each, 2) for each in longest.chunk_seconds]
        yield f"{name}: last chunk ÷ third", round(longest.last_to_third, 2)
        yield f"{name}: past in GiB", round(longest.past_bytes / 2**30, 2)
        yield f"{name}: peak memory in GiB", round(peak_gib(), 2)
        if exact is None:
            exact = longest
        else:
            yield f"{name}: relative deviation from exact", deviation(longest.mel, exact.mel)


def model(types: Sequence[torch.dtype], config: Sizes = _COSYVOICE2) -> Iterator[tuple[str, object]]:
    """The speed of each part of a model of those sizes, and of all together for one utterance of 4.1 s after a prompt
    of 3.5 s.

    First in float32, under plain names; then in the other `types` and with the language model in eight bits.
    """
    yield "threads", torch.get_num_threads()
    scores: Tensor | None = None
    for dtype in (torch.float32, *types):
        name = "" if dtype == torch.float32 else f"{dtype}: ".removeprefix("torch.")
        llm = untrained(Llm(config.llm)).to(dtype)
        llm.fuse()
        token, last = _llm_token(llm)
        yield f"{name}LLM: seconds a token", round(token, 4)
        if scores is None:
            scores = last
        else:
            yield f"{name}LLM: relative deviation of the scores", deviation(last, scores)
        del llm
        yield from _flow_and_vocoder(config, name, dtype, token)
    llm = quantised(untrained(Llm(config.llm)).to(torch.bfloat16))
    token, last = _llm_token(llm)
    yield "int8: LLM: seconds a token", round(token, 4)
    assert scores is not None  # noqa: S101 - float32 came first
    yield "int8: LLM: relative deviation of the scores", deviation(last, scores)
    yield "peak memory in GiB", round(peak_gib(), 2)


def _flow_and_vocoder(config: Sizes, name: str, dtype: torch.dtype, token: float) -> Iterator[tuple[str, object]]:
    flow, hift = untrained(flow_of(config)).to(dtype), untrained(vocoder_of(config))
    flow.noise = flow.noise.float()
    frames = FRAMES_PER_TOKEN * (PROMPT_TOKENS + UTTERANCE_TOKENS)
    yield f"{name}flow: seconds an estimator call, 2 × {frames} frames", round(_estimator_call(flow, frames), 3)
    given, tokens = voice(), speech(UTTERANCE_TOKENS)
    offline, mel = timed(lambda: flow.mel(tokens, given.tokens, given.mel, given.embedding))
    yield f"{name}flow: seconds offline", round(offline, 2)
    streamed, mel = timed(lambda: _streamed_mel(flow, tokens, given))
    yield f"{name}flow: seconds streamed, all chunks", round(streamed, 2)
    vocoded, wave = timed(lambda: hift.stream(0, whole=True).push(mel, final=True))
    yield f"{name}vocoder: seconds", round(vocoded, 2)
    audio = len(wave) / SAMPLE_RATE
    spoken = UTTERANCE_TOKENS * token
    yield f"{name}seconds of audio", round(audio, 2)
    yield f"{name}real-time factor, offline", round((spoken + offline + vocoded) / audio, 2)
    yield f"{name}real-time factor, streamed", round((spoken + streamed + vocoded) / audio, 2)


def deviation(of: Tensor, exact: Tensor) -> float:
    return round(float((of.float() - exact).norm() / exact.norm()), 5)


def _llm_token(llm: Llm) -> tuple[float, Tensor]:
    """Seconds for one more token of one request, the median of many, and the scores after the prompt."""
    cache = llm.cache(1, _LLM_PROMPT + _LLM_TOKENS)
    prompt = llm.prompt(torch.zeros(_LLM_PROMPT - 2 - PROMPT_TOKENS, dtype=torch.long), speech(PROMPT_TOKENS)[0])
    scores = llm.prefill(prompt, cache, 0)[None]
    after_prompt, took = scores[0], []
    for place in range(_LLM_PROMPT, _LLM_PROMPT + _LLM_TOKENS):
        token, at = scores.argmax(1), torch.tensor([place])
        seconds, scores = timed(lambda token=token, at=at: llm.decode(token, at, cache))  # type: ignore[misc]
        took.append(seconds)
    return sorted(took)[len(took) // 2], after_prompt


@torch.inference_mode()
def _estimator_call(flow: Solver, frames: int) -> float:
    x = torch.randn(2, MELS, frames).to(flow.like)
    at: Any = flow.clock(0.3)
    took = [timed(lambda: flow.estimator(x, x, at, x[:, :, 0], x, Past()))[0] for _ in range(_ESTIMATOR_CALLS)]
    return min(took)


def _streamed_mel(flow: Solver, tokens: Tensor, given: Voice) -> Tensor:
    running = FlowStream(flow, given.tokens, given.mel, given.embedding)
    parts = [running.push(token) for token in tokens.split(1, dim=1)]
    return torch.cat([*parts, running.push(tokens[:, :0], final=True)], dim=2)


def timed(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30
