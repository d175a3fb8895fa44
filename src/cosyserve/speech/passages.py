"""The passages of a long text that have been spoken already, on disk.

Each is a FLAC, named after what was said and how. So whoever speaks the text again finds what there is, and after a
change of the text only the changed passages are spoken anew.
"""

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path

import anyio
import av
import numpy as np

from cosyserve.files import writing_atomically
from cosyserve.speech.audio import SAMPLE_RATE, Pcm
from cosyserve.speech.encoders import FORMATS
from cosyserve.text.book import Passage

_FORMAT = FORMATS["flac"]
_ENDING = ".flac"


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
        return [passage for path, passage in wanted.items() if not path.is_file()]

    def keep(self, passage: Passage, parts: Iterable[Pcm]) -> None:
        """Writes what was spoken; raises OSError."""
        with writing_atomically(self.path(passage)) as file:
            writer = _FORMAT.writer(file)
            for pcm in parts:
                writer.encode(pcm)
            writer.finish()

    def samples(self, passage: Passage) -> int:
        """At SAMPLE_RATE, without the pause."""
        if not passage.has_sound:
            return 0
        with av.open(str(self.path(passage))) as container:
            return round((container.streams.audio[0].duration or 0) * _seconds_per_tick(container) * SAMPLE_RATE)

    def read(self, passage: Passage) -> Iterator[Pcm]:
        """What was spoken, without the pause."""
        if not passage.has_sound:
            return
        with av.open(str(self.path(passage))) as container:
            for frame in container.decode(audio=0):
                yield (frame.to_ndarray().reshape(-1) / np.float32(32768)).astype(np.float32)


def _seconds_per_tick(container: av.container.InputContainer) -> float:
    return float(container.streams.audio[0].time_base or 0)


async def speak_all(passages: Iterable[Passage], at_once: int, speak: Callable[[Passage], Awaitable[None]]) -> None:
    """Calls `speak` for each, for so many at a time; raises the first failure once the others have been cancelled."""
    left, failed = iter(passages), []

    async def some() -> None:
        try:
            for passage in left:
                await speak(passage)
        except Exception as error:
            failed.append(error)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(some)
    if failed:
        raise failed[0]
