"""Keeps the captions of responses that carry only audio, until their clients fetch them."""

import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.speech.captions import Caption, CaptionFormat

HEADER = "X-Captions-Id"

_SECONDS = 3600
_MOST, _MOST_CHARACTERS = 1000, 4_000_000  # the oldest go first


@dataclass(frozen=True)
class _Kept:
    content: str
    fmt: CaptionFormat
    until: float


class KeptCaptions:
    """In memory, for an hour, bounded in number and size."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._kept, self._characters = now, OrderedDict[str, _Kept](), 0

    def pending(self, fmt: CaptionFormat) -> "PendingCaptions":
        return PendingCaptions(self, fmt)

    def keep(self, caption_id: str, captions: Sequence[Caption], fmt: CaptionFormat) -> None:
        kept = _Kept(fmt.written(captions), fmt, self._now() + _SECONDS)
        self._kept[caption_id] = kept
        self._characters += len(kept.content)
        while self._too_much():
            _, gone = self._kept.popitem(last=False)
            self._characters -= len(gone.content)

    def find(self, caption_id: str) -> tuple[str, CaptionFormat]:
        """The file and its format; raises `CS-CAPTION-002`."""
        kept = self._kept.get(caption_id)
        if kept is None or kept.until <= self._now():
            raise CosyError(errors.CAPTIONS_ABSENT, param="id", minutes=_SECONDS // 60)
        return kept.content, kept.fmt

    def _too_much(self) -> bool:
        """Whether the oldest have to go; the newest stays."""
        if len(self._kept) == 1:
            return False
        oldest = next(iter(self._kept.values()))
        return len(self._kept) > _MOST or self._characters > _MOST_CHARACTERS or oldest.until <= self._now()


class PendingCaptions:
    """The captions of one response, whose id is known before they are. Nobody can guess the id."""

    def __init__(self, kept: KeptCaptions, fmt: CaptionFormat) -> None:
        self._kept, self._fmt, self.id = kept, fmt, uuid.uuid4().hex

    def fill(self, captions: Sequence[Caption]) -> None:
        self._kept.keep(self.id, captions, self._fmt)
