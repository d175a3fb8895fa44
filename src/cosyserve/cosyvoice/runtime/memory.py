"""What CosyVoice2 takes of a card's memory. Arithmetic alone, so that it can be told before PyTorch is there."""

import math

from cosyserve.cosyvoice.model.config import CHUNK_TOKENS, FRAMES_PER_TOKEN, TOKENS_PER_SECOND, FlowConfig

FRAMES_PER_SECOND = FRAMES_PER_TOKEN * TOKENS_PER_SECOND
_VOICES = 4  # whose recordings are kept as they are after the flow, so that none is moved through it again
_UNIT = math.lcm(CHUNK_TOKENS * FRAMES_PER_TOKEN, 8)
_LONGEST_PAST = 60 * FRAMES_PER_SECOND  # where the past is not bounded: a segment is never that long
_SHARE = 0.8  # of the memory that is free once the weights are there
_MODEL_BYTES = 2.2 * 2**30  # weights in bfloat16 and the driver's own; what a card of 16 GiB has left says it


def frames_behind(tokens: int | None) -> int:
    """Frames of the past that a stream has room for; None is no bound."""
    return _LONGEST_PAST if tokens is None else FRAMES_PER_TOKEN * tokens


def rounded(frames: int) -> int:
    """Up to whole chunks, and to a multiple of 8, without which the attention kernels copy their bias."""
    return -(-frames // _UNIT) * _UNIT


def slot_bytes(config: FlowConfig, frames: int, value_bytes: int = 2) -> int:
    """Keys and values of one slot: of every attention, for every Euler step, with and without condition."""
    estimator = config.estimator
    layers = estimator.transformers * (estimator.mid_blocks + 2)
    return layers * config.steps * rounded(frames) * 2 * 2 * estimator.heads * estimator.head_dim * value_bytes


def chunks_of(tokens: int) -> int:
    """Chunks that hold so many tokens."""
    return -(-tokens // CHUNK_TOKENS)


def bytes_of_slot(config: FlowConfig, tokens: int, value_bytes: int = 2) -> int:
    """One slot of the encoder: keys and values of every layer for so many tokens, and the convolutions' last frames."""
    encoder = config.encoder
    positions = chunks_of(tokens) * CHUNK_TOKENS * (encoder.blocks + FRAMES_PER_TOKEN * encoder.up_blocks)
    return (2 * positions + 2 + 2 * FRAMES_PER_TOKEN) * encoder.width * value_bytes


def room(free: float) -> float:
    """Bytes for slots where so many are free beside the weights; the rest is for graphs and their work."""
    return _SHARE * free


def shared_out(room: float, slot: int) -> tuple[int, int]:
    """Streams and voices: a slot for each, and one to fill up with. A small card has its room for streams; no streams
    are where there is none."""
    slots = max(0, int(room // slot) - 1)
    voices = min(_VOICES, max(1, slots // 3))
    return max(0, slots - voices), voices


def streams_on(memory: float, past_seconds: float) -> int:
    """An estimate for a card with so many bytes that nobody else uses, before the model is there."""
    frames = frames_behind(round(past_seconds * TOKENS_PER_SECOND) or None)
    return shared_out(room(memory - _MODEL_BYTES), slot_bytes(FlowConfig(), frames))[0]
