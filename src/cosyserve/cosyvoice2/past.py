"""What one call of a streamed model leaves for the next, so that no frame is computed twice."""

import torch
from torch import Tensor, nn


class Past:
    """The memory of one stream, by layer: frames that a causal convolution still looks at, keys and values.

    With `keep`, attention sees that many positions before the present chunk at most, and memory is bounded. That
    is not how the model was trained. Without it the past is whole and the result exact.
    """

    def __init__(self, keep: int | None = None) -> None:
        self._keep = keep
        self._frames: dict[nn.Module, Tensor] = {}
        self._attended: dict[nn.Module, KeyValues] = {}
        self._kept: dict[nn.Module, int] = {}

    def before(self, layer: nn.Module, x: Tensor, width: int) -> Tensor:
        """`x` (…, T) with the `width` frames before it, zeros at the very beginning: (…, width + T)."""
        left = self._frames.get(layer)
        if left is None:
            left = x.new_zeros(*x.shape[:-1], width)
        x = torch.cat((left, x), dim=-1)
        # A copy, as a view would keep the whole chunk alive.
        self._frames[layer] = x[..., x.shape[-1] - width :].clone()
        return x

    def attended(self, layer: nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values so far (B, H, S, D), the new ones last."""
        if layer not in self._attended:
            self._attended[layer] = KeyValues(self._keep)
        return self._attended[layer].extend(key, value)

    def position(self, layers: nn.Module, new: int) -> int:
        """How many positions `layers` will see once `new` more have come: the kept past and the new ones."""
        kept = self._kept.get(layers, 0)
        if self._keep is not None:
            kept = min(kept, self._keep)
        self._kept[layers] = kept + new
        return kept + new

    @property
    def bytes(self) -> int:
        """What the keys and values hold."""
        return sum(each.bytes for each in self._attended.values())


class KeyValues:
    """Keys and values in a buffer that doubles when it is full, so that a long past is seldom copied."""

    def __init__(self, keep: int | None) -> None:
        self._keep = keep
        self._buffer: Tensor | None = None  # (2, B, H, capacity, D)
        self._from = self._to = 0

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        new = key.shape[2]
        if self._buffer is None:
            self._buffer = key.new_empty(2, *key.shape[:2], new, key.shape[3])
        if self._keep is not None:
            self._from = max(self._from, self._to - self._keep)
        if self._to + new > self._buffer.shape[3]:
            self._make_room(self._buffer, new)
        self._buffer[0, :, :, self._to : self._to + new] = key
        self._buffer[1, :, :, self._to : self._to + new] = value
        self._to += new
        seen = self._buffer[:, :, :, self._from : self._to]
        return seen[0], seen[1]

    def _make_room(self, buffer: Tensor, new: int) -> None:
        held = self._to - self._from
        capacity = 2 * (held + new)
        larger = buffer.new_empty(*buffer.shape[:3], capacity, buffer.shape[4])
        larger[:, :, :, :held] = buffer[:, :, :, self._from : self._to]
        self._buffer, self._from, self._to = larger, 0, held

    @property
    def bytes(self) -> int:
        return 0 if self._buffer is None else self._buffer.numel() * self._buffer.element_size()


class CausalConv1d(nn.Conv1d):
    """A convolution whose output at a frame depends on that frame and those before it: (B, C, T) to (B, C', T)."""

    def __init__(self, channels: int, out_channels: int, kernel: int) -> None:
        super().__init__(channels, out_channels, kernel)

    def forward(self, x: Tensor, past: Past) -> Tensor:  # type: ignore[override]
        return super().forward(past.before(self, x, self.kernel_size[0] - 1))


def chunk_mask(new: int, seen: int, chunk: int, device: torch.device) -> Tensor | None:
    """What `new` positions at the end of `seen` may attend to: everything up to the end of their own chunk.

    True is allowed, (new, seen). The new ones begin with a chunk. None where all of them may see all there is.
    """
    if new <= chunk:
        return None
    ends = (torch.arange(new, device=device) // chunk + 1) * chunk + (seen - new)
    return torch.arange(seen, device=device)[None, :] < ends[:, None]
