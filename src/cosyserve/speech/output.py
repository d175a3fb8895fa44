"""From samples to what a listener gets: speed, then format. Both are work for a thread, done in one step."""

from collections.abc import Iterable
from typing import IO

from cosyserve.speech.audio import SAMPLE_RATE, Pcm
from cosyserve.speech.encoders import Format
from cosyserve.speech.timestretch import TimeStretch


class Output:
    """The audio of one utterance at its speed: in pieces that can be sent at once, or in `file`, which can be sought.

    `seconds` is how much sound has gone out so far. A file has its true length in its header once it is finished.
    """

    def __init__(self, fmt: Format, speed: float = 1.0, file: IO[bytes] | None = None) -> None:
        self._stretch = TimeStretch(speed)
        self._encoder = fmt.encoder() if file is None else fmt.writer(file)
        self.seconds = 0.0

    def push(self, pcm: Pcm) -> bytes:
        """What can be sent once `pcm` is there; may be empty, and always is where there is a file."""
        return self._encoded(self._stretch.push(pcm))

    def finish(self) -> bytes:
        """The rest. The output is used up afterwards."""
        return self._encoded(self._stretch.flush()) + self._encoder.finish()

    def _encoded(self, parts: Iterable[Pcm]) -> bytes:
        data = b""
        for pcm in parts:
            if pcm.size:
                self.seconds += pcm.size / SAMPLE_RATE
                data += self._encoder.encode(pcm)
        return data
