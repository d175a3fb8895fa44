"""What one call of a streamed model leaves for the next, so that no frame is computed twice."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


@dataclass(frozen=True)
class Bound:
    """How much of a past stays: the `first` positions, a recording's, and of the others at least the last `recent`."""

    first: int
    recent: int

    def kept(self, seen: int) -> int:
        """Of so many positions. Forgetting copies what stays, so it is done only now and then."""
        return seen if seen <= self.first + self.recent * 3 // 2 else self.first + self.recent


class Past:
    """The memory of one stream, by layer: frames that a causal convolution still looks at, keys and values.

    With a `bound`, in tokens, attention forgets what was spoken longest ago, and memory is bounded. That is not how the
    model was trained. Without it the past is whole and the result exact. `rate` is a layer's number of positions for
    one token.
    """

    def __init__(self, bound: Bound | None = None) -> None:
        self._bound = bound
        self._frames: dict[nn.Module, Tensor] = {}
        self._attended: dict[nn.Module, KeyValues] = {}
        self._kept: dict[nn.Module, int] = {}
        self._begun: dict[nn.Module, int] = {}

    def before(self, layer: nn.Module, x: Tensor, width: int) -> Tensor:
        """`x` (…, T) with the `width` frames before it, zeros at the very beginning: (…, width + T)."""
        left = self._frames.get(layer)
        if left is None:
            left = x.new_zeros(*x.shape[:-1], width)
        x = torch.cat((left, x), dim=-1)
        # A copy, because a view would keep the whole chunk alive.
        self._frames[layer] = x[..., x.shape[-1] - width :].clone()
        return x

    def attended(self, layer: nn.Module, key: Tensor, value: Tensor, rate: int) -> tuple[Tensor, Tensor]:
        """All keys and values so far (B, H, S, D), the new ones last."""
        if layer not in self._attended:
            self._attended[layer] = KeyValues(self._bound_at(rate))
        return self._attended[layer].extend(key, value)

    def attend(self, layer: nn.Module, query: Tensor, new: Tensor, mask: Tensor | None, rate: int) -> Tensor:
        """What `query` (B, H, T, D) finds in all that was seen so far, the `new` keys and values (B, T, 2, H, D)
        included."""
        key, value = new.permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(query, *self.attended(layer, key, value, rate), mask)

    def mask(self, layers: nn.Module, x: Tensor, chunk: int, rate: int) -> Tensor | None:
        """What the positions of `x` (…, T), which begin with a chunk, may attend to once `layers` have seen them."""
        new = x.shape[-1]
        return chunk_mask(new, self.seen(layers, new, rate), chunk, x.device)

    def begins(self, layers: nn.Module, new: int) -> int | Tensor:
        """At which position of the stream the `new` ones of a call begin, whatever has been forgotten; of rows that are
        at places of their own (B, 1)."""
        begin = self._begun.get(layers, 0)
        self._begun[layers] = begin + new
        return begin

    def seen(self, layers: nn.Module, new: int, rate: int) -> int:
        """How many positions `layers` will see once `new` more have come: the kept past and the new ones."""
        kept = self._kept.get(layers, 0)
        if (bound := self._bound_at(rate)) is not None:
            kept = bound.kept(kept)
        self._kept[layers] = kept + new
        return kept + new

    def _bound_at(self, rate: int) -> Bound | None:
        return None if self._bound is None else Bound(self._bound.first * rate, self._bound.recent * rate)

    def fork(self) -> "Past":
        """A past that goes on from here by itself. What both have is held once, as long as this one stays."""
        fork = Past(self._bound)
        fork._frames, fork._kept, fork._begun = dict(self._frames), dict(self._kept), dict(self._begun)
        fork._attended = {layer: kept.fork() for layer, kept in self._attended.items()}
        return fork

    @property
    def bytes(self) -> int:
        """What the keys and values hold."""
        return sum(each.bytes for each in self._attended.values())


# Positions by which a full buffer grows. Growing copies all of it, so it should be rare. On a device unused room costs
# memory; on the host the system gives memory only when it is written to.
_ROOM_ON_HOST, _ROOM_ON_DEVICE = 1500, 250


class KeyValues:
    """Keys and values in a buffer that has room for more, so that a long past is seldom copied."""

    def __init__(self, bound: Bound | None) -> None:
        self._bound = bound
        self._only: tuple[Tensor, Tensor] | None = None  # after one call, often the only one, nothing was copied
        self._buffer: Tensor | None = None  # (2, B, H, capacity, D)
        self._seen = 0

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        new = key.shape[2]
        if not self._seen:
            self._only, self._seen = (key, value), new
            return key, value
        kept = self._seen if self._bound is None else self._bound.kept(self._seen)
        if self._buffer is None or kept < self._seen or kept + new > self._buffer.shape[3]:
            self._buffer = self._with_room(kept, new)
        self._buffer[0, :, :, kept : kept + new] = key
        self._buffer[1, :, :, kept : kept + new] = value
        self._seen = kept + new
        seen = self._buffer[:, :, :, : self._seen]
        return seen[0], seen[1]

    def fork(self) -> "KeyValues":
        """The same past, which neither writes into: what is held is copied when more comes."""
        fork = KeyValues(self._bound)
        if self._buffer is None:
            fork._only = self._only
        else:
            held = self._buffer[:, :, :, : self._seen]
            fork._only = (held[0], held[1])
        fork._seen = self._seen
        return fork

    def _with_room(self, kept: int, new: int) -> Tensor:
        """What is kept, in a buffer with room for `new` positions and more."""
        source = self._buffer if self._only is None else self._only
        assert source is not None  # noqa: S101 - the first call has left one or the other
        like = source[0]
        room = _ROOM_ON_HOST if like.device.type == "cpu" else _ROOM_ON_DEVICE
        capacity = kept + new + (room if self._bound is None else self._bound.recent)
        buffer = like.new_empty(2, *like.shape[:2], capacity, like.shape[3])
        first = kept if self._bound is None else min(kept, self._bound.first)
        for target, held in zip(buffer, source, strict=True):
            target[:, :, :first] = held[:, :, :first]
            target[:, :, first:kept] = held[:, :, self._seen - (kept - first) : self._seen]
        self._only = None
        return buffer

    @property
    def bytes(self) -> int:
        """What has been written to; a buffer's unused end takes no memory of the host."""
        like = self._buffer[0] if self._buffer is not None else self._only[0] if self._only is not None else None
        return 0 if like is None else 2 * like[:, :, :1].numel() * like.element_size() * self._seen


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
