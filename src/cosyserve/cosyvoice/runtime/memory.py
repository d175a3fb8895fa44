"""What the model takes of a card's memory. Arithmetic alone, so that it can be told before PyTorch is there."""

import math
from dataclasses import dataclass

from cosyserve.cosyvoice.model.config import (
    CHUNK_TOKENS,
    FRAMES_PER_TOKEN,
    TOKENS_PER_SECOND,
    DitFlowConfig,
    FlowConfig,
)

FRAMES_PER_SECOND = FRAMES_PER_TOKEN * TOKENS_PER_SECOND
_VOICES = 4  # whose recordings have pages of their own even when all streams are busy
VOICE_PAGES = 4  # of a recording of five seconds: what is no whole chunk goes with the first hop
_CHUNK = CHUNK_TOKENS * FRAMES_PER_TOKEN
_PAGES = math.lcm(_CHUNK, 8) // _CHUNK  # the attention kernels copy a bias whose width is no multiple of 8
_LONGEST_PAST = 60 * FRAMES_PER_SECOND  # where the past is not bounded: a segment is never that long
ENCODER_TOKENS = 90 * TOKENS_PER_SECOND  # positions of the encoder: a recording and the longest segment
_SHARE = 0.8  # of the memory that is free once the weights are there
# Weights in bfloat16 and the driver's own; what a card of 16 GiB has left says it of CosyVoice2. CosyVoice3's flow has
# 79 million weights more, once what its times are made by has gone.
_MODEL_BYTES = {FlowConfig: 2.2 * 2**30, DitFlowConfig: 2.35 * 2**30}

FlowSizes = FlowConfig | DitFlowConfig


def frames_behind(tokens: int | None) -> int:
    """Frames of the past that a stream has room for; None is no bound."""
    return _LONGEST_PAST if tokens is None else FRAMES_PER_TOKEN * tokens


def pages_behind(frames: int) -> int:
    """Pages that a stream has behind it at most, its recording's included."""
    return -(-frames // (_PAGES * _CHUNK)) * _PAGES


def page_bytes(config: FlowSizes, value_bytes: int = 2) -> int:
    """Keys and values of a chunk of 50 frames: of every attention, for every Euler step, with and without condition."""
    return 2 * config.steps * _CHUNK * config.estimator.kept * value_bytes


def chunks_of(tokens: int) -> int:
    """The number of chunks that hold that many tokens."""
    return -(-tokens // CHUNK_TOKENS)


def encoder_bytes(config: FlowSizes, tokens: int, value_bytes: int = 2) -> int:
    """What makes the mean keeps of a stream of so many tokens."""
    return config.remembered(chunks_of(tokens)) * value_bytes


def room(free: float) -> float:
    """Bytes for the past of streams and voices where so many are free beside the weights; the rest is for graphs and
    their work."""
    return _SHARE * free


@dataclass(frozen=True)
class Share:
    """How a card's memory is shared out: `streams` at once, `voices` that stay known beside them, and all `pages`."""

    streams: int
    voices: int
    pages: int
    stream_bytes: int  # that a stream takes for itself, behind a recording of five seconds


def shared_out(room: float, config: FlowSizes, frames: int, value_bytes: int = 2) -> Share:
    """No streams are where there is no room for one. A stream that has no recording behind it takes more, and waits
    where that is not free."""
    page, encoder = page_bytes(config, value_bytes), encoder_bytes(config, ENCODER_TOKENS, value_bytes)
    behind = pages_behind(frames)
    shared = min(VOICE_PAGES, behind // 2)
    stream, voice = (behind - shared) * page + encoder, shared * page + encoder
    left = room - page  # one to fill up with
    voices = min(_VOICES, max(1, int(left // (3 * stream))))
    streams = max(0, int((left - voices * voice) // stream))
    if streams == 1 and left < behind * page + encoder:
        streams = 0  # not even without a recording
    pages = max(0, int((left - (streams + voices) * encoder) // page))
    return Share(streams, voices, pages, stream)


def streams_on(
    memory: float, past_seconds: float, steps: int = FlowConfig.steps, model: type[FlowSizes] = FlowConfig
) -> int:
    """An estimate for a card with that many free bytes, before the model is there; of the edition
    whose flow `model` is."""
    frames = frames_behind(round(past_seconds * TOKENS_PER_SECOND) or None)
    return shared_out(room(memory - _MODEL_BYTES[model]), model(steps=steps), frames).streams
