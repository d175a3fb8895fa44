"""The passages of a long text that have been spoken already, on disk.

Each is a FLAC, beside a file with the words of its segments. Both are named by a digest of the words and of how they
are spoken. So a second run finds what is there, and after a change of the text only the changed passages are spoken
again.
"""

import hashlib
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import anyio
import av
import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.files import discard, write_atomically, writing_atomically
from cosyserve.paths import bytes_of
from cosyserve.speech.audio import Pcm
from cosyserve.speech.encoders import FORMATS
from cosyserve.text.book import Passage

_FORMAT = FORMATS["flac"]
_ENDING, _WORDS = ".flac", ".json"
_LONGEST_WORDS = 1 << 20  # bytes; a passage has some hundred characters, a document in SSML some thousand
_WORDS_KEPT = TypeAdapter(list[tuple[str, Annotated[int, Field(ge=0)]]], config=ConfigDict(strict=True))


@dataclass(frozen=True)
class SpokenSegment:
    """A segment of a passage: its text as written, and its samples."""

    written: str
    pcm: Pcm


def is_sound(name: str) -> bool:
    """Whether a file of that name is a passage that is complete."""
    return not name.startswith(".") and name.endswith(_ENDING)


class Passages:
    """`manner` is everything besides the words that decides how they sound. Its methods block."""

    def __init__(self, folder: Path, manner: str) -> None:
        self.folder, self._manner = folder, manner

    def path(self, passage: Passage) -> Path:
        said = hashlib.sha256(f"{self._manner}\0{passage.text}".encode()).hexdigest()[:32]
        return self.folder / f"{said}{_ENDING}"

    def missing(self, passages: Iterable[Passage]) -> list[Passage]:
        """Those that have a sound and are not there yet, each once."""
        wanted = {self.path(passage): passage for passage in passages if passage.has_sound}
        return [passage for path, passage in wanted.items() if path.is_symlink() or not path.is_file()]

    def keep(self, passage: Passage, parts: Sequence[SpokenSegment]) -> None:
        """Writes what was spoken; raises OSError. The sound is written last, so a passage with sound is complete."""
        for path in (self._words(passage), self.path(passage)):
            discard(path)  # whatever lies in the way
        write_atomically(self._words(passage), json.dumps([(part.written, part.pcm.size) for part in parts]))
        with writing_atomically(self.path(passage)) as file:
            writer = _FORMAT.writer(file)
            for part in parts:
                writer.encode(part.pcm)
            writer.finish()

    def segments(self, passage: Passage) -> list[tuple[str, int]]:
        """What was written of each segment, and its samples at SAMPLE_RATE. A pause within SSML has no words. Raises
        `CS-BOOK-002`."""
        if not passage.has_sound:
            return []
        try:
            return _WORDS_KEPT.validate_json(bytes_of(self._words(passage), _LONGEST_WORDS))
        except (OSError, ValueError):
            raise self._damaged(passage) from None

    def read(self, passage: Passage) -> Iterator[tuple[str, Pcm]]:
        """What was spoken, segment by segment, without the pause behind it. Raises `CS-BOOK-002`."""
        held: list[Pcm] = []
        frames = self._frames(passage)
        for written, samples in self.segments(passage):
            while sum(map(len, held)) < samples and (frame := next(frames, None)) is not None:
                held.append(frame)
            there: Pcm = np.concatenate([np.zeros(0, np.float32), *held])
            if there.size < samples:
                raise self._damaged(passage)
            held = [there[samples:]]
            yield written, there[:samples]

    def _words(self, passage: Passage) -> Path:
        return self.path(passage).with_suffix(_WORDS)

    def _frames(self, passage: Passage) -> Iterator[Pcm]:
        try:
            with av.open(str(self.path(passage)), format=_FORMAT.name) as container:
                for frame in container.decode(audio=0):
                    yield (frame.to_ndarray().reshape(-1) / np.float32(32768)).astype(np.float32)
        except (OSError, ValueError, IndexError, av.error.FFmpegError):  # the third where there is no sound
            raise self._damaged(passage) from None

    def _damaged(self, passage: Passage) -> CosyError:
        """The error that says so. The passage is removed, so that it is spoken again."""
        discard(self.path(passage))
        return CosyError(errors.PASSAGE_DAMAGED, path=self.path(passage))


async def speak_all(passages: Iterable[Passage], at_once: int, speak: Callable[[Passage], Awaitable[None]]) -> None:
    """Calls `speak` for each, for so many at a time. After a failure no more are begun, and the first failure is raised
    once those in work have ended: what they have used is not lost."""
    left, failed = deque(passages), []

    async def some() -> None:
        try:
            while left:
                await speak(left.popleft())
        except Exception as error:
            failed.append(error)
            left.clear()

    async with anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(some)
    if failed:
        raise failed[0]
