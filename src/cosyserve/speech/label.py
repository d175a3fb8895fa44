"""What says of speech that a machine made it: an entry for the metadata, and a rhythm that can be heard.

The entry is the one of GB 45438-2025; docs/labels.md says what was read of the rules, and what was not.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np

from cosyserve.settings import Settings
from cosyserve.speech.audio import SAMPLE_RATE, Pcm

LabelKind = Literal["off", "metadata", "audible"]
_KINDS: tuple[LabelKind, ...] = get_args(LabelKind)

HEADER = "X-AIGC-Label"  # of a response over HTTP, whatever the format has room for
ENTRY = "AIGC"
COMMENT = "AI-generated speech"  # for people, who see it in a player
_IS_GENERATED = "1"  # for sure, where 2 would be perhaps and 3 suspected

_RHYTHM = ".- .."  # A and I in Morse code
_UNIT = round(0.08 * SAMPLE_RATE)  # samples of a dot; a dash has three
_HERTZ, _LEVEL = 800, 0.25
_RAMP = round(0.005 * SAMPLE_RATE)  # at both ends of a tone, which would click


@dataclass(frozen=True)
class Label:
    """The label of one response: who made it, and the id under which they find it again."""

    producer: str
    content_id: str
    audible: bool = False

    @property
    def fields(self) -> Mapping[str, str]:
        """The entry's seven fields. Those of who passes the content on are theirs to fill."""
        return {
            "Label": _IS_GENERATED,
            "ContentProducer": self.producer,
            "ProduceID": self.content_id,
            "ReservedCode1": "",
            "ContentPropagator": "",
            "PropagateID": "",
            "ReservedCode2": "",
        }

    @property
    def entry(self) -> str:
        """The fields as JSON in ASCII, which fits into a header and into tags of any encoding."""
        return json.dumps(self.fields, separators=(",", ":"))

    @property
    def tags(self) -> Mapping[str, str]:
        """What goes into the metadata of a file."""
        return {ENTRY: self.entry, "comment": COMMENT}

    @property
    def lead(self) -> Pcm:
        """What is heard before the speech; empty unless the label is to be heard."""
        return rhythm() if self.audible else np.zeros(0, np.float32)


def louder(one: LabelKind, other: LabelKind) -> LabelKind:
    """Of two ways to label the same speech the one that says more."""
    return max(one, other, key=_KINDS.index)


def label_of(settings: Settings) -> Label | None:
    """A label with an id of its own for one response; None where there are to be none."""
    if settings.label == "off":
        return None
    content_id = settings.label_id_prefix + uuid.uuid4().hex
    return Label(settings.label_producer, content_id, audible=settings.label == "audible")


@cache
def rhythm() -> Pcm:
    """Short long, short short, and a pause: 1.1 s at SAMPLE_RATE. Nobody may write into it."""
    parts = [part for sign in _RHYTHM for part in _sounded(sign)]
    samples: Pcm = np.concatenate([*parts, _pause(2)])
    samples.flags.writeable = False
    return samples


def _sounded(sign: str) -> list[Pcm]:
    """A dot or a dash with one unit of silence behind it; a space makes that the three between letters."""
    return [_pause(2)] if sign == " " else [_tone(1 if sign == "." else 3), _pause(1)]


def _tone(units: int) -> Pcm:
    times = np.arange(units * _UNIT)
    edges = np.minimum(1, np.minimum(times, times[::-1]) / _RAMP)
    samples: Pcm = (_LEVEL * edges * np.sin(2 * np.pi * _HERTZ / SAMPLE_RATE * times)).astype(np.float32)
    return samples


def _pause(units: int) -> Pcm:
    return np.zeros(units * _UNIT, np.float32)
