"""Has the passages of a long text spoken by a server, as many at once as it has streams for."""

import json
from typing import Annotated

import anyio
from anyio.to_thread import run_sync
from pydantic import BaseModel, Field, ValidationError

from cosyserve.client.address import Address
from cosyserve.client.call import Call
from cosyserve.client.events import segments_in
from cosyserve.client.patience import patiently
from cosyserve.client.speech import SPEECH
from cosyserve.speech.audio import SAMPLE_RATE
from cosyserve.speech.label import LabelKind
from cosyserve.speech.passages import SpokenSegment
from cosyserve.text.book import Passage

_MOST_STREAMS = 64  # each is a thread and a connection
_READY, _LEXICON = "/readyz", "/v1/audio/lexicon"
_Streams = Annotated[int, Field(ge=0)]


class Readiness(BaseModel):
    """What a server says of itself to whom it knows."""

    model: str
    voice: str  # the default
    label: LabelKind
    max_streams: _Streams
    active_streams: _Streams

    @property
    def room(self) -> int:
        """The streams that nobody uses, at least one. Where there are several, one is left to others."""
        free = self.max_streams - self.active_streams - (1 if self.max_streams > 1 else 0)
        return max(1, min(free, _MOST_STREAMS))


def readiness_of(call: Call) -> Readiness:
    """Raises `CS-SAY-…`, also if the server does not accept the key."""
    told = call.json(_READY)
    if isinstance(told, dict) and "model" not in told and told.get("needs_key") is True:
        raise call.key_refused()
    try:
        return Readiness.model_validate(told)
    except ValidationError as error:
        name = ".".join(map(str, error.errors()[0]["loc"]))
        raise call.foreign(f"its /readyz says nothing of {name}") from None


class ServerReader:
    """A server in the place of a synthesizer; see `PassageReader`. `longest` bounds the seconds of a passage."""

    def __init__(self, address: Address, key: str, voice: str, longest: float, *, normalize: bool = True) -> None:
        """Asks the server what it is; raises `CS-SAY-…`."""
        self._address, self._key, self._longest = address, key, longest
        call = Call(address, key)
        server = readiness_of(call)
        self.streams, self.label = server.room, server.label
        self._asked = {"voice": voice or server.voice, "normalize": normalize}
        # What decides how a passage sounds, as far as a client can see.
        self.manner = json.dumps([server.model, self._asked, call.json(_LEXICON)])
        self._threads: anyio.CapacityLimiter | None = None

    async def read(self, passage: Passage) -> list[SpokenSegment]:
        """Waits while the server is busy; raises `CS-SAY-…`."""
        call = Call(self._address, self._key)
        self._threads = self._threads or anyio.CapacityLimiter(_MOST_STREAMS)
        try:
            return await run_sync(self._read, call, passage, abandon_on_cancel=True, limiter=self._threads)
        finally:
            call.break_off()  # for the thread, if it has been abandoned

    def _read(self, call: Call, passage: Passage) -> list[SpokenSegment]:
        whole = {"response_format": "pcm", "stream_format": "sse", "stream": False}  # nobody listens meanwhile
        fields = {"input": passage.text, **self._asked, **whole}

        def ask() -> list[SpokenSegment]:
            with call.answer("POST", SPEECH, fields) as response:
                if response.headers.get("X-Sample-Rate") != str(SAMPLE_RATE):
                    raise call.foreign("its sample rate is another one")
                return segments_in(call, response, self._longest)

        return patiently(call, ask)
