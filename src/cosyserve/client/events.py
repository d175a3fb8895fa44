"""Server-sent events with speech, as a server sends them for `stream_format: sse`."""

import base64
import json
from collections.abc import Iterator
from http.client import HTTPResponse
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from cosyserve import errors
from cosyserve.client.call import Call
from cosyserve.errors import CosyError
from cosyserve.speech.audio import SAMPLE_RATE, Pcm
from cosyserve.speech.passages import SpokenSegment

_LONGEST_LINE = 1 << 24  # bytes
_BYTES = 2  # of a sample
_FULL_SCALE = np.float32(32767)


class _Caption(BaseModel):
    text: str
    begin: Annotated[float, Field(ge=0, lt=1e9, allow_inf_nan=False)]
    end: Annotated[float, Field(ge=0, lt=1e9, allow_inf_nan=False)]


class _Done(BaseModel):
    captions: list[_Caption]


def segments_in(call: Call, response: HTTPResponse, most_seconds: float) -> list[SpokenSegment]:
    """All of a response in 16-bit samples: its segments, and what is heard between them as a segment without words.
    What comes before the first is a label, and is left out. Raises `CS-SAY-…`, and `CS-TEXT-004` for more than
    `most_seconds`."""
    pieces: list[bytes] = []
    most = most_seconds * SAMPLE_RATE * _BYTES
    for event in _events(call, response):
        if event.get("type") == "speech.audio.delta":
            pieces.append(_bytes(call, event.get("audio")))
            most -= len(pieces[-1])
            if most < 0:
                raise CosyError(errors.AUDIO_TOO_LONG, seconds=most_seconds)
        elif event.get("type") == "error":
            told = event.get("error")
            is_ours = isinstance(told, dict) and told.get("type") == "server_error"
            raise call.refused(500 if is_ours else 400, told)
        elif event.get("type") == "speech.audio.done":
            return _cut(call, b"".join(pieces), event)
    raise call.broke_off("the last event is missing")


def _events(call: Call, response: HTTPResponse) -> Iterator[dict[str, Any]]:
    while line := call.line(response, _LONGEST_LINE):
        if not line.startswith(b"data:"):
            continue
        if not line.endswith(b"\n"):
            raise call.broke_off("an event is not complete")
        try:
            event = json.loads(line[5:])
        except (ValueError, RecursionError):
            raise call.foreign("an event is not JSON") from None
        if isinstance(event, dict):
            yield event


def _bytes(call: Call, audio: Any) -> bytes:
    try:
        return base64.b64decode(audio, validate=True)
    except (TypeError, ValueError):
        raise call.foreign("an event's audio is not base64") from None


def _cut(call: Call, data: bytes, done: dict[str, Any]) -> list[SpokenSegment]:
    try:
        captions = _Done.model_validate(done).captions
    except ValidationError:
        raise call.foreign("its events have no captions") from None
    samples = np.frombuffer(data[: len(data) // _BYTES * _BYTES], "<i2")
    bounds = [round(SAMPLE_RATE * second) for each in captions for second in (each.begin, each.end)]
    if any(later < earlier for earlier, later in pairwise([*bounds, samples.size])):
        raise call.foreign("its captions do not fit its audio")
    if not captions:
        return []
    texts = [text for each in captions for text in (each.text, "")]  # a segment, and what comes behind it
    parts = zip(texts, pairwise([*bounds, samples.size]), strict=True)
    return [SpokenSegment(text, _pcm(samples[begin:end])) for text, (begin, end) in parts if end > begin]


def _pcm(samples: "np.ndarray[Any, np.dtype[np.int16]]") -> Pcm:
    return samples.astype(np.float32) / _FULL_SCALE
