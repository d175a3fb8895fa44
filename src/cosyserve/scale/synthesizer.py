"""A synthesizer that lets replicas do the work."""

import logging
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.scale import wire
from cosyserve.scale.wire import Description
from cosyserve.speech.audio import Pcm
from cosyserve.speech.synthesizer import Options
from cosyserve.speech.voices import Entry, Library, Voice

log = logging.getLogger(__name__)

_ATTEMPTS = 3  # replicas that are tried for a segment of which nothing has been heard yet
_LOST = (RayError, RayServeException)


class ScaledSynthesizer:
    """Each segment is one call that Serve routes; those of a stream stay together."""

    broken = ""  # replicas come back by themselves
    preparing = ""  # they say it themselves
    rest = None  # each of them sleeps by itself

    def __init__(self, replicas: DeploymentHandle[Any], described: Description, voices_dir: Path, most: int) -> None:
        """There are `most` of them at most."""
        self._replicas = replicas
        self.name, self.model, self.device = described.name, described.model, described.device
        self.capabilities = described.capability_set
        self.capacity = described.capacity.times(most)
        self.kernels = described.kernels
        self.library = Library(voices_dir, learn=self._learn) if described.has_library else None
        self._voices = {voice.id: voice for voice in described.voices}

    @property
    def voices(self) -> Mapping[str, Voice]:
        if self.library is None:
            return self._voices
        return {name: entry.voice for name, entry in self.library.entries.items()}

    async def synthesize(self, segment: str, voice: Voice, options: Options) -> AsyncGenerator[Pcm, None]:
        """If a replica is lost before any of the segment was heard, another takes over; after that only the client can
        ask again."""
        asked = wire.Segment(segment, voice.id, options, options.span.carrier()).encode()
        handle = self._replicas.options(stream=True, session_id=options.stream)
        for _ in range(_ATTEMPTS):
            heard = False
            answer = handle.synthesize.remote(asked)
            assert isinstance(answer, DeploymentResponseGenerator)  # noqa: S101 - of stream=True
            try:
                async for frame in answer:
                    pcm = wire.opened(frame)
                    heard = True
                    yield pcm
                return
            except _LOST as error:
                if heard:
                    raise CosyError(errors.REPLICA_LOST, retry_after=1) from error
                log.warning("A segment goes to another replica: %s", str(error).partition("\n")[0])
            finally:
                answer.cancel()  # type: ignore[no-untyped-call]
        raise CosyError(errors.NO_REPLICA, retry_after=1)

    def close(self) -> None:
        """Does nothing: the replicas do not belong to this server."""

    def _learn(self, entry: Entry) -> None:
        """Called in a thread. The replica leaves its result in the folder of voices, for all."""
        try:
            frame = self._replicas.learn.remote(wire.learn(entry)).result()
        except _LOST as error:
            raise CosyError(errors.REPLICA_LOST, retry_after=1) from error
        if frame:
            wire.opened(frame)
