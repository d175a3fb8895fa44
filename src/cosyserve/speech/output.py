"""From samples to what a listener gets: speed, then format. Both are work for a thread, done in one step."""

from collections.abc import Iterable
from typing import IO

import numpy as np

from cosyserve.speech.audio import SAMPLE_RATE, Pcm
from cosyserve.speech.encoders import Format
from cosyserve.speech.label import Label
from cosyserve.speech.tags import Tags
from cosyserve.speech.timestretch import TimeStretch

SILENCE_SECONDS = 0.2  # what a text without any sound lasts: emoji, punctuation alone


class Output:
    """The audio of one utterance at its speed: in pieces that can be sent at once, or in `file`, which can be sought.

    It is never empty: where no sound came in, a short silence goes out. A file has its true length in its header once
    it is finished, and `tags` where its format has room for them. What of `label` can be heard goes out with the first
    sound, at its own speed.
    """

    def __init__(
        self,
        fmt: Format,
        speed: float = 1.0,
        file: IO[bytes] | None = None,
        label: Label | None = None,
        tags: Tags | None = None,
    ) -> None:
        self._stretch = TimeStretch(speed)
        self._encoder = fmt.encoder(label) if file is None else fmt.writer(file, label, tags)
        self._lead = label.lead if label else np.zeros(0, np.float32)
        self._samples = 0

    @property
    def seconds(self) -> float:
        """How much has gone out so far."""
        return self._samples / SAMPLE_RATE

    def push(self, pcm: Pcm) -> bytes:
        """What can be sent once `pcm` is there; may be empty, and always is where there is a file."""
        return self._encoded(self._stretch.push(pcm))

    def finish(self) -> bytes:
        """The rest. The output is used up afterwards."""
        data = self._encoded(self._stretch.flush())
        if not self._samples:
            data += self._encoded([np.zeros(round(SILENCE_SECONDS * SAMPLE_RATE), np.float32)])
        return data + self._encoder.finish()

    def _encoded(self, parts: Iterable[Pcm]) -> bytes:
        data = b""
        for pcm in parts:
            if pcm.size:
                pcm, self._lead = np.concatenate([self._lead, pcm]), self._lead[:0]
                self._samples += pcm.size
                data += self._encoder.encode(pcm)
        return data
