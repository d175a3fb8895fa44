"""What the runtime is made of on a device, and how many streams it has room for."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from cosyserve import errors
from cosyserve.cosyvoice.model.config import TOKENS_PER_SECOND, Sizes
from cosyserve.cosyvoice.model.flow import Solver
from cosyserve.cosyvoice.model.vocoder import Vocoder
from cosyserve.cosyvoice.runtime.batched import BatchedToken2Wav
from cosyserve.cosyvoice.runtime.hops import Hops
from cosyserve.cosyvoice.runtime.memory import FRAMES_PER_SECOND, Share, frames_behind, room, shared_out
from cosyserve.cosyvoice.runtime.request import TokenGenerator
from cosyserve.cosyvoice.runtime.runtime import Made
from cosyserve.cosyvoice.runtime.token2wav import SingleToken2Wav
from cosyserve.errors import CosyError
from cosyserve.speech.capacity import Capacity, by_engine, by_memory, capacity_of
from cosyserve.speech.runtime_config import RuntimeConfig

if TYPE_CHECKING:
    from cosyserve.cosyvoice.kernels.kernels import Kernels

_VOICES = 1  # on a processor, whose recordings are kept as they are after the flow: some hundred megabytes each
_OTHERS = 2**30  # bytes of a card in use by other processes, from which on it counts as shared

MakeGenerator = Callable[[int], TokenGenerator]  # for so many streams


class Parts:
    """On a GPU for as many streams as its memory has room for at that moment; on a processor one after the other.
    `sizes`, `flow` and `vocoder` are those of one generation, whichever it is."""

    def __init__(
        self,
        generator: MakeGenerator,
        sizes: Sizes,
        flow: Solver,
        vocoder: Vocoder,
        config: RuntimeConfig,
        kernels: "Kernels | None" = None,
    ) -> None:
        self._generator, self._sizes, self._config = generator, sizes, config
        self._flow, self._vocoder = flow, vocoder
        self._kernels = kernels
        self._frames = frames_behind(config.keep_tokens)

    @property
    def shared(self) -> bool:
        """Whether other processes hold memory of the card that may become free; not where it is shared on purpose."""
        if self._config.device != "cuda" or self._config.gpu_share < 1:
            return False
        free, memory = torch.cuda.mem_get_info()
        return memory - free - torch.cuda.memory_reserved() > _OTHERS

    @property
    def streams(self) -> int:
        """For how many a card has room now, beside what has been made already."""
        return self._share(self._room()).streams

    def made(self, least: int = 1) -> tuple[Made, Capacity]:
        """Raises `CS-GPU-102` where a card has no room for as many streams as `least`."""
        return self._made_on_card(least) if self._config.device == "cuda" else self._made_on_processor()

    def _made_on_processor(self) -> tuple[Made, Capacity]:
        config = self._config
        token2wav = SingleToken2Wav(
            self._flow, self._vocoder, Hops(), _VOICES, config.keep_tokens, config.recording_tokens
        )
        seconds = None if config.keep_tokens is None else config.keep_tokens / TOKENS_PER_SECOND
        generator = self._generator(config.bound.streams)
        bounds = [config.bound, by_engine(generator.slots)]
        return (generator, token2wav), capacity_of(bounds, voices=_VOICES, past_seconds=seconds)

    def _made_on_card(self, least: int) -> tuple[Made, Capacity]:
        self._flow.fuse()  # what is not needed then gives its memory back before that is shared out
        torch.cuda.empty_cache()
        there, seconds = self._room(), self._frames / FRAMES_PER_SECOND
        share = self._share(there)
        if share.streams < least:
            raise CosyError(errors.GPU_MEMORY, gib=f"{there / 2**30:.1f}", seconds=f"{seconds:g}")
        bounds = [self._config.bound, by_memory(share.streams, there, share.stream_bytes, seconds)]
        streams = min(bound.streams for bound in bounds)
        token2wav = BatchedToken2Wav(
            *(self._flow, self._vocoder, Hops(), streams, share.pages, self._frames, self._config.recording_tokens),
            kernels=self._kernels,
        )
        generator = self._generator(streams)
        bounds.append(by_engine(generator.slots))
        return (generator, token2wav), capacity_of(bounds, voices=share.voices, past_seconds=seconds)

    def _room(self) -> float:
        free, memory = torch.cuda.mem_get_info()
        return room(min(free, self._config.gpu_share * memory - torch.cuda.memory_reserved()))

    def _share(self, there: float) -> Share:
        return shared_out(there, self._sizes.flow, self._frames, self._config.dtype.itemsize)
