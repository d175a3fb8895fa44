"""What the flow's streams have behind them, in memory that never moves: pages of keys and values and the last frames of
the convolutions; and for one batch the numbers that say which of them its rows read and write."""

import torch
from torch import Tensor, nn

from cosyserve.cosyvoice.model.config import CHUNK_TOKENS, FRAMES_PER_TOKEN
from cosyserve.cosyvoice.model.flow import Solver

CHUNK = CHUNK_TOKENS * FRAMES_PER_TOKEN
ROWS = 2  # of a chunk in the estimator: with the conditions and without, see `Flow.steps_of`


class FlowMemory:
    """For that many slots, pages and rows of a batch, at each Euler step.

    There is one slot and one page more: rows of a graph that nobody needs work there.
    """

    def __init__(self, flow: Solver, slots: int, pages: int, width: int) -> None:
        kept, like = flow.kept(), flow.like
        # A frame's keys and values lie side by side, as they are projected.
        self._kept = like.new_zeros(len(kept.attentions), flow.steps, ROWS * (pages + 1), CHUNK, kept.columns)
        self._attentions: dict[nn.Module, int] = {layer: number for number, layer in enumerate(kept.attentions)}
        sizes = [channels * behind for channels, behind in kept.tails.values()]
        # Behind the slots, what each row of the batch leaves, which a row of the same stream takes up.
        self.left = ROWS * (slots + 1)
        self._tails = like.new_zeros(flow.steps, self.left + ROWS * width, sum(sizes))
        parts = self._tails.split(sizes, dim=2)
        self._tail_of: dict[nn.Module, Tensor] = {
            layer: part.unflatten(2, (behind, channels))
            for (layer, (channels, behind)), part in zip(kept.tails.items(), parts, strict=True)
        }

    @property
    def like(self) -> Tensor:
        """Its type and device."""
        return self._kept

    @property
    def nbytes(self) -> int:
        """What the pages take."""
        return self._kept.nbytes

    def past(self, attention: nn.Module, step: int) -> Tensor:
        """Keys and values (pages, frames, 2 · heads · D) of a layer."""
        return self._kept[self._attentions[attention], step]

    def tails(self, convolution: nn.Module, step: int) -> Tensor:
        """The last frames (slots, W, C) of a layer, and from `left` on those that rows of a batch have left."""
        return self._tail_of[convolution][step]

    def slot(self, number: int) -> Tensor:
        """The last frames of all layers and steps of a stream."""
        return self._tails[:, ROWS * number : ROWS * (number + 1)]

    def row(self, number: int) -> Tensor:
        """Those that a row of a batch has left."""
        begin = self.left + ROWS * number
        return self._tails[:, begin : begin + ROWS]

    def keep(self, write: Tensor) -> None:
        """What the rows of a batch have left goes into the slots `write` (R,)."""
        self._tails.index_copy_(1, write, self._tails[:, self.left : self.left + len(write)])


class BatchRows:
    """Which memory the rows of a batch read and write. Two of the estimator belong to each of `width` chunks."""

    def __init__(self, width: int, span: int, device: torch.device) -> None:
        def numbers(*shape: int) -> Tensor:
            return torch.zeros(*shape, device=device, dtype=torch.long)

        self.page = numbers(ROWS * width)
        """The page that is written."""
        self.pages = numbers(ROWS * width, span)
        """Those that are read."""
        self.filled = numbers(ROWS * width)
        """Frames behind each row, its own chunk included."""
        self.padding = numbers(ROWS * width, 2)
        """From where to where frames among them are none."""
        self.read, self.write = numbers(ROWS * width), numbers(ROWS * width)
        """Slots of tails."""
        self.begin = numbers(ROWS * width)
        """The frame of its utterance, the recording's included, with which each row begins."""

    def fill(
        self, page: Tensor, pages: Tensor, filled: Tensor, padding: Tensor, read: Tensor, write: Tensor, begin: Tensor
    ) -> None:
        """By chunks, one entry or row for each."""
        both = torch.arange(ROWS, device=page.device)
        self.begin.copy_(begin.repeat_interleave(ROWS))
        for target, source in ((self.page, page), (self.read, read), (self.write, write)):
            target.copy_((ROWS * source[:, None] + both).flatten())
        self.pages.copy_((ROWS * pages[:, None] + both[:, None]).flatten(0, 1))
        self.filled.copy_(filled.repeat_interleave(ROWS))
        self.padding.copy_(padding.repeat_interleave(ROWS, dim=0))
