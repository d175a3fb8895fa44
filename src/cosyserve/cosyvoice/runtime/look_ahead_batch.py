"""CosyVoice3's means for several utterances at once: no encoder but the look-ahead, whose tails lie in slots."""

from torch import Tensor

from cosyserve.cosyvoice.model.config import FRAMES_PER_TOKEN
from cosyserve.cosyvoice.model.flow import DitFlow
from cosyserve.cosyvoice.runtime.graphs import Pool
from cosyserve.cosyvoice.runtime.mean_batch import STEP_TOKENS, EncodedStream, MeanBatch, MeanStep, SlotTails, up_to

_WIDEST = 64  # rows of a graph


class LookAheadBatch(MeanBatch):
    """`slots` utterances of any length: nothing but two frames of each is remembered."""

    def __init__(self, flow: DitFlow, slots: int, pool: Pool | None = None) -> None:
        layer = flow.pre_lookahead_layer
        super().__init__(flow, slots, {layer: (layer.conv2.in_channels, layer.conv2.kernel_size[0] - 1)}, pool)
        self.flow = flow

    @property
    def spans(self) -> list[int]:
        return [1]

    def span(self, stream: EncodedStream) -> int:
        return 1

    def widest(self, span: int) -> int:
        return _WIDEST

    def step_of(self, width: int, span: int) -> MeanStep:
        return _Step(self, width)


class _Step(MeanStep):
    def __init__(self, owner: LookAheadBatch, width: int) -> None:
        super().__init__(owner, width)
        self._owner = owner

    def step(self) -> None:
        slot, _, _, known, tokens = self.rows
        flow, past = self._owner.flow, SlotTails(self._owner.tail_of, slot.flatten())
        embedded = flow.input_embedding(tokens)
        embedded = embedded.masked_fill((up_to(STEP_TOKENS, known) >= known)[..., None], 0)
        mean: Tensor = flow.pre_lookahead_layer(embedded, past)
        self._mean.copy_(mean.repeat_interleave(FRAMES_PER_TOKEN, dim=1).transpose(1, 2))
