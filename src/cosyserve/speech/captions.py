"""What was said when: the captions of one response, and the files that players read them from.

SubRip (.srt) has no standard, so what is written is what its readers agree on; WebVTT (.vtt) is the W3C's.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.files import writing_atomically
from cosyserve.speech.audio import SAMPLE_RATE

_Sample = Annotated[int, Field(ge=0, lt=2**53)]
_PACKED = TypeAdapter(list[tuple[str, _Sample, _Sample]], config=ConfigDict(strict=True))
_MICROSECONDS = 6  # decimals of a second; enough to find the sample again


@dataclass(frozen=True)
class Caption:
    """A segment as it was written, and the samples of the output, at SAMPLE_RATE, between which it is heard."""

    text: str
    begin: int
    end: int

    @property
    def fields(self) -> Mapping[str, str | float]:
        """In seconds, as events and JSON have it."""
        return {"text": self.text, "begin": seconds_of(self.begin), "end": seconds_of(self.end)}


@dataclass(frozen=True)
class CaptionFormat:
    """A file format of captions. Files are in UTF-8."""

    name: str
    media_type: str
    written: Callable[[Iterable[Caption]], str]


def packed(captions: Iterable[Caption]) -> str:
    """To be kept, for `unpacked`."""
    return json.dumps([(each.text, each.begin, each.end) for each in captions], ensure_ascii=False)


def unpacked(kept: bytes) -> list[Caption]:
    """Raises ValueError for what `packed` has not written."""
    return [Caption(text, begin, end) for text, begin, end in _PACKED.validate_json(kept)]


def expect_writable(path: Path) -> CaptionFormat:
    """The format of a file that is yet to be written; raises `CS-CAPTION-…` if it cannot be."""
    fmt, folder = caption_format_of(path), path.absolute().parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CosyError(errors.CAPTIONS_UNWRITABLE, path=path, reason=f"{folder} is missing or not writable")
    return fmt


def write(path: Path, content: str) -> None:
    """Raises `CS-CAPTION-…`."""
    try:
        with writing_atomically(path) as file:
            file.write(content.encode())
    except OSError as error:
        raise CosyError(errors.CAPTIONS_UNWRITABLE, path=path, reason=error.strerror) from error


def seconds_of(samples: int) -> float:
    return round(samples / SAMPLE_RATE, _MICROSECONDS)


def _srt(captions: Iterable[Caption]) -> str:
    """An arrow in a text would be read as another time, and nothing can escape it."""
    return "".join(
        f"{number}\n{_times(each, ',')}\n{_line(each.text).replace('-->', '→')}\n\n"
        for number, each in enumerate(captions, 1)
    )


def _vtt(captions: Iterable[Caption]) -> str:
    return "WEBVTT\n\n" + "".join(f"{_times(each, '.')}\n{_escaped(_line(each.text))}\n\n" for each in captions)


def _json(captions: Iterable[Caption]) -> str:
    return json.dumps({"captions": [each.fields for each in captions]}, ensure_ascii=False, indent=1) + "\n"


def _line(text: str) -> str:
    """In one line, because an empty one would end the caption."""
    return " ".join(text.split())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _times(caption: Caption, point: str) -> str:
    return " --> ".join(_clock(samples, point) for samples in (caption.begin, caption.end))


def _clock(samples: int, point: str) -> str:
    seconds, milliseconds = divmod(round(1000 * samples / SAMPLE_RATE), 1000)
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}{point}{milliseconds:03}"


CAPTION_FORMATS: Mapping[str, CaptionFormat] = {
    each.name: each
    for each in (
        CaptionFormat("srt", "application/x-subrip", _srt),
        CaptionFormat("vtt", "text/vtt", _vtt),
        CaptionFormat("json", "application/json", _json),
    )
}


def caption_format(name: str) -> CaptionFormat:
    """The format of that name, in any case; raises `CS-CAPTION-001`."""
    fmt = CAPTION_FORMATS.get(name.strip().lower())
    if fmt is None:
        raise CosyError(errors.CAPTIONS_UNKNOWN, param="captions", formats=", ".join(CAPTION_FORMATS))
    return fmt


def caption_format_of(path: Path) -> CaptionFormat:
    """The format that the file's ending names; raises `CS-CAPTION-001`."""
    return caption_format(path.suffix.removeprefix("."))
