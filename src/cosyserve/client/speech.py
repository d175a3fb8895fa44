"""Has one text spoken by a server, which makes the file as it is asked for."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse

from cosyserve import errors
from cosyserve.client.call import Call, Fields
from cosyserve.client.patience import Told, patiently
from cosyserve.errors import CosyError
from cosyserve.speech.audio import SAMPLE_RATE

SPEECH = "/v1/audio/speech"
_CAPTIONS, _CAPTIONS_ID = "/v1/audio/captions", "X-Captions-Id"
_PIECE = 1 << 16
_BYTES, _BESIDE = 2, 1 << 16  # of a sample without compression; of headers and metadata


class Spoken:
    """A speech that a server has begun to send."""

    def __init__(self, call: Call, response: HTTPResponse) -> None:
        self._call, self._response = call, response

    def pieces(self, longest: float) -> Iterator[bytes]:
        """The encoded audio; raises `CS-SAY-008` if it is not complete, and `CS-TEXT-004` if it is more than so many
        seconds have in the format that takes most."""
        left = round(longest * SAMPLE_RATE) * _BYTES + _BESIDE
        while piece := self._call.read(self._response, _PIECE):
            left -= len(piece)
            if left < 0:
                raise CosyError(errors.AUDIO_TOO_LONG, seconds=longest)
            yield piece

    def captions(self) -> str:
        """The file with the captions that were asked for, once all of the audio has been read; raises `CS-SAY-…`."""
        caption_id = self._response.headers.get(_CAPTIONS_ID, "")
        if not caption_id.isalnum():
            raise self._call.foreign("it keeps no captions")
        return self._call.content(f"{_CAPTIONS}/{caption_id}").decode(errors="replace")


@contextmanager
def spoken(call: Call, fields: Fields, told: Told) -> Iterator[Spoken]:
    """The speech of a request with these fields. Waits while the server is busy, see `patiently`; raises `CS-SAY-…`."""
    with ExitStack() as held:
        response = patiently(call, lambda: held.enter_context(call.answer("POST", SPEECH, fields)), told)
        yield Spoken(call, response)
