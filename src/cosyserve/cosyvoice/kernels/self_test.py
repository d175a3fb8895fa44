"""Each kernel against its reference, at the sizes of the model and on the card that will speak.

What a kernel writes has to be as near to the reference in float32 as the type allows; all else has to stay as it was. A
kernel that does not compile or is off gives way to its reference.
"""

import itertools
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cosyserve.cosyvoice.kernels import decode_attention, linear_residual, paged_attention
from cosyserve.cosyvoice.kernels.causal_conv import Conv, Tails
from cosyserve.cosyvoice.kernels.kernels import REFERENCES, Kernel, Kernels, used_by
from cosyserve.cosyvoice.kernels.norm_linear import Append, Norm
from cosyserve.cosyvoice.kernels.norm_mish import Branch
from cosyserve.cosyvoice.kernels.paged_attention import PageTable
from cosyserve.cosyvoice.kernels.rotary_append import Places
from cosyserve.cosyvoice.kernels.split import Parts
from cosyserve.cosyvoice.kernels.turn_append import Turns
from cosyserve.cosyvoice.kernels.vocoder_conv import Begin, Convs, rounded
from cosyserve.cosyvoice.model.config import CHUNK_TOKENS, FRAMES_PER_TOKEN, MELS, Config, Config3, Sizes
from cosyserve.cosyvoice.model.dit import GROUPS, TAPS
from cosyserve.cosyvoice.model.sampling import Draws, Nucleus

_CHUNK = CHUNK_TOKENS * FRAMES_PER_TOKEN
_ROWS = (2, 8, 32)  # of 1, 4 and 16 streams: one for each set of tiles
_SLOTS = (1, 32)
_PROMPTS, _PIECE = (1, 4), 256
_SPAN, _POSITIONS = 3, 700
_LONGEST_PROBLEM = 300  # characters
# Relative errors by the norm, for each type: the result is rounded, and so is a norm before its product.
LIMITS = {torch.float32: 1e-5, torch.bfloat16: 8e-3, torch.float16: 1e-3}
_TF32_LIMIT = 1e-4  # a tiny difference may round to the next TF32 number, which is 1e-3 away


class Case(NamedTuple):
    """Arguments of a kernel, some of which it writes to."""

    kernel: str
    size: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "Case":
        """The same of other tensors."""
        return self._replace(arguments=_mapped(self.arguments, change), options=_mapped(self.options, change))

    @property
    def tensors(self) -> list[Tensor]:
        return [*_tensors(self.arguments), *_tensors(self.options)]


class Random:
    """Tensors like one of a type and a device, the same at every start."""

    def __init__(self, like: Tensor) -> None:
        self.like, self._generator = like, torch.Generator(like.device).manual_seed(0)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._generator, device=self.like.device)

    def __call__(self, *shape: int, scale: float = 1.0) -> Tensor:
        return (scale * self.normal(*shape)).to(self.like.dtype)

    def order(self, count: int) -> Tensor:
        return torch.randperm(count, generator=self._generator, device=self.like.device)

    def weights(self, rows: int, width: int) -> Tensor:
        return self(rows, width, scale=width**-0.5)

    def norm(self, width: int, *, rms: bool = False) -> Norm:
        return Norm(1 + self(width, scale=0.1), None if rms else self(width, scale=0.1), 1e-5)

    def integers(self, *values: int) -> Tensor:
        return torch.tensor(values, device=self.like.device)


def flow_cases(config: Config, like: Tensor, rows: int) -> Iterator[Case]:
    """The flow's kernels for that many rows."""
    random, estimator = Random(like), config.flow.estimator
    channels, heads, dim = estimator.channels, estimator.heads, estimator.head_dim
    frames, inner, size = rows * _CHUNK, heads * dim, f"{rows} rows"
    x, norm, bias = random(frames, channels), random.norm(channels), random(channels)
    past, pages = random(rows * _SPAN + 1, _CHUNK, 2 * inner), random.order(rows * _SPAN)
    written = Append(past.clone(), pages[:rows])
    qkv = random.weights(3 * inner, channels)
    yield Case("norm_linear", f"{size}, into pages", (x, norm, qkv, random(frames, inner)), {"append": written})
    wide, hidden = random.weights(4 * channels, channels), random(frames, 4 * channels)
    yield Case("norm_linear", f"{size}, GELU", (x, norm, wide, hidden, random(4 * channels)), {"gelu": True})
    yield _attention_case(random, rows, heads, dim)
    narrow = random.weights(channels, 4 * channels)
    yield Case("linear_residual", size, (random(frames, 4 * channels), narrow, bias, random(frames, channels)), {})
    for width in (4 * MELS, channels, 2 * channels):
        tails = Tails(random(2 * rows, 2 * width), torch.arange(rows, device=like.device), left=rows)
        weight = random(3, channels, width, scale=(3 * width) ** -0.5)
        out = random(frames, channels)
        conv = Conv(weight, bias)
        yield Case("causal_conv", f"{size}, {width} channels", (random(frames, width), conv, tails, out), {})
    branch = Branch(random(frames, 2 * channels), random.weights(channels, 2 * channels), bias)
    yield Case("norm_mish", f"{size}, time", (x, norm, random(frames, channels)), {"time": bias})
    yield Case("norm_mish", f"{size}, branch", (x, norm, random(frames, channels)), {"branch": branch})
    yield _step_case(random, rows, x)


def _attention_case(random: Random, rows: int, heads: int, dim: int) -> Case:
    frames, inner, device = rows * _CHUNK, heads * dim, random.like.device
    past, pages = random(rows * _SPAN + 1, _CHUNK, 2 * inner), random.order(rows * _SPAN)
    ends = [_SPAN * _CHUNK - row % 2 * _CHUNK for row in range(rows)]
    hidden_frames = torch.tensor([[end - 5, end] for end in ends], device=device)
    table = PageTable(pages.view(rows, _SPAN), random.integers(*ends), hidden_frames)
    parts = paged_attention.parts_for(rows, _SPAN, _CHUNK, heads, dim, device)
    arguments = random(frames, inner), past, table, random(frames, inner), heads, parts
    return Case("paged_attention", f"{rows} rows", arguments, {})


def _step_case(random: Random, rows: int, h: Tensor) -> Case:
    following, moved = random(len(h), 4 * MELS), random(rows // 2, _CHUNK, MELS).float()
    arguments = h, random.weights(MELS, h.shape[1]), random(MELS), moved, following, 0.1, 0.7
    return Case("euler_step", f"{rows} rows", arguments, {})


def dit_cases(config: Config3, like: Tensor, rows: int) -> Iterator[Case]:
    """What CosyVoice3's flow does for so many rows."""
    random, estimator = Random(like), config.flow.estimator
    width, heads, dim = estimator.width, estimator.heads, estimator.head_dim
    frames, inner, size = rows * _CHUNK, heads * dim, f"{rows} rows"
    x, norm = random(frames, width), random.norm(width)
    yield Case("gated_norm", size, (x, norm, random(frames, width)), {})
    gated = x.clone(), norm, random(frames, width), random(frames, width), random(width)
    yield Case("gated_norm", f"{size}, gate", gated, {})
    angles = random.normal(_POSITIONS, dim)
    begin = torch.arange(rows, device=like.device) * _CHUNK % (_POSITIONS - _CHUNK)
    append = Append(random(rows * _SPAN + 1, _CHUNK, 2 * inner), random.order(rows * _SPAN)[:rows])
    turns = Turns(angles.cos(), angles.sin(), begin)
    yield Case("turn_append", size, (random(frames, 3 * inner), turns, random(frames, inner), append), {})
    yield _attention_case(random, rows, heads, dim)
    # A row goes on from a slot, and another from the row before it.
    read = torch.tensor([rows if row % 4 == 1 else row for row in range(rows)], device=like.device)
    tails = Tails(random(2 * rows, width * (TAPS - 1)), read, left=rows)
    weight = random(TAPS, width, width // GROUPS, scale=(TAPS * width / GROUPS) ** -0.5)
    conv = Conv(weight, random(width))
    for more in ((), (random(frames, width),)):
        arguments = random(frames, width), conv, tails, random(frames, width), *more
        yield Case("group_conv", f"{size}, {len(more)}", arguments, {})
    yield _step_case(random, rows, x)


def decode_cases(config: Sizes, like: Tensor, slots: int) -> Iterator[Case]:
    """The kernels of a step of the language model."""
    random, llm, size = Random(like), config.llm, f"{slots} slots"
    hidden, heads, kv_heads, dim = llm.hidden, llm.heads, llm.kv_heads, llm.head_dim
    x, norm, columns = random(slots, hidden), random.norm(hidden, rms=True), (heads + 2 * kv_heads) * dim
    qkv = random(slots, columns)
    yield Case("norm_linear", f"{size}, QKV", (x, norm, random.weights(columns, hidden), qkv, random(columns)), {})
    gate_up, between = random.weights(2 * llm.feed_forward, hidden), random(slots, llm.feed_forward)
    yield Case("norm_linear", f"{size}, SwiGLU", (x, norm, gate_up, between), {"swiglu": True})
    yield Case("linear_residual", size, (x.clone(), random.weights(hidden, hidden), None, x.clone()), {})
    parts, down = linear_residual.parts_for(slots, hidden, like.device), random.weights(hidden, llm.feed_forward)
    yield Case("linear_residual", f"{size}, long", (between.clone(), down, None, x.clone(), parts), {})
    kept, out = random(2, slots, kv_heads, _POSITIONS, dim), random(slots, heads * dim)
    positions = random.integers(*(_POSITIONS - 1 - 7 * slot for slot in range(slots)))
    turned = random.normal(_POSITIONS, 2, dim)
    parts = decode_attention.parts_for(kept, heads)
    yield Case("decode_attention", size, (qkv, turned, positions, kept, out, parts), {})
    scores = 4 * random.normal(slots, llm.speech_rows)
    yield Case("draw", size, (scores, _draws(random, slots), Nucleus()), {})


def prompt_cases(config: Sizes, like: Tensor, pieces: int) -> Iterator[Case]:
    """The kernels of the language model for pieces of so many prompts."""
    random, llm, size = Random(like), config.llm, f"{pieces} prompts"
    hidden, heads, kv_heads, dim = llm.hidden, llm.heads, llm.kv_heads, llm.head_dim
    rows, columns = pieces * _PIECE, (heads + 2 * kv_heads) * dim
    x, norm, qkv = random(rows, hidden), random.norm(hidden, rms=True), random(rows, columns)
    yield Case("rms_linear", f"{size}, QKV", (x, norm, random.weights(columns, hidden), qkv, random(columns)), {})
    gate_up, between = random.weights(2 * llm.feed_forward, hidden), random(rows, llm.feed_forward)
    yield Case("rms_linear", f"{size}, SwiGLU", (x, norm, gate_up, between), {"swiglu": True})
    wide = {"prompt": True}
    yield Case("linear_residual", size, (x.clone(), random.weights(hidden, hidden), None, x.clone()), wide)
    parts = linear_residual.parts_for(rows, hidden, like.device, prompt=True)
    down = random.weights(hidden, llm.feed_forward)
    yield Case("linear_residual", f"{size}, long", (between.clone(), down, None, x.clone(), parts), wide)
    kept, query = random(2, pieces + 1, kv_heads, _POSITIONS, dim), random(rows, heads * dim)
    begin = random.integers(*(piece % 2 * _PIECE for piece in range(pieces)))
    places = Places(random.order(pieces + 1)[:pieces], begin)
    turned = random.normal(_POSITIONS, 2, dim)
    yield Case("rotary_append", size, (qkv, turned, places, kept.clone(), query.clone()), {})
    yield Case("prompt_attention", size, (query, kept, places, random(rows, heads * dim)), {})


def _draws(random: Random, slots: int) -> Draws:
    def each(value: int) -> Tensor:
        return random.integers(*range(value, value + slots))

    temperature = torch.linspace(1.5, 0, slots, device=random.like.device)
    recent = torch.full((slots, Nucleus().window), -1, device=random.like.device)
    return Draws(each(0), each(1), each(0), each(1 << 40), each(2), temperature, recent)


def hift_cases(config: Config, like: Tensor, streams: int = 2) -> Iterator[Case]:
    """What the last level of the vocoder does, which is float32, for streams that may begin within their window."""
    random, hift, rate = Random(like.float()), config.hift, math.prod(config.hift.up_rates)
    channels, count, taps = hift.channels // 2 ** len(hift.up_rates), _CHUNK * rate + 1, hift.kernels
    groups, begin = len(taps), Begin(torch.arange(streams, device=like.device), rate)

    def some(count: int, groups: int = groups) -> Tensor:
        return random(groups, streams, count, channels)

    weights = [random(channels, channels, each, scale=(channels * each) ** -0.5) for each in taps]
    convs = Convs.of(weights, list(random(groups, channels)), [each // 2 for each in taps])
    alpha, size = 1 + random(groups, channels, scale=0.1), f"{streams} streams"
    options = {"dilation": 1, "begin": begin, "alpha": alpha, "activated": some(count), "round_x": False}
    yield Case("vocoder_conv", f"{size}, before", (rounded(some(count)), convs), options)
    new = some(count, 1).expand(groups, -1, -1, -1)
    yield Case("vocoder_conv", f"{size}, behind", (rounded(some(count)), convs, some(count)), {**options, "new": new})
    (x,), (new,), (out,) = some(count - 1, 1), some(count, 1), some(count, 1)
    yield Case("level_sum", size, (x, new, alpha, out, some(count), begin), {})


def causal_vocoder_cases(config: Config3, like: Tensor, streams: int = 2) -> Iterator[Case]:
    """What CosyVoice3's vocoder does, in float32, for windows of any length that may begin with nothing."""
    random, rate = Random(like.float()), math.prod(config.hift.up_rates)
    channels = config.hift.channels // 2 ** len(config.hift.up_rates)
    for count, begun in itertools.product((_CHUNK * rate, _CHUNK * rate + 1), (False, True)):
        x, new, moved, out = (random(streams, channels, count) for _ in range(4))
        alpha, bias = 1 + random(channels, scale=0.1), random(channels)
        inside = (torch.arange(count, device=like.device) > 5).float().expand(streams, 1, -1).contiguous()
        size = f"{streams} streams, {count} samples{', from within' if begun else ''}"
        for sums in ((), (None, bias), (new, bias, moved)):
            arguments = x, alpha, out, inside if begun else None, *sums
            yield Case("snake", f"{size}, {len(sums)}", arguments, {})


def vocoder_cases(config: Sizes, like: Tensor, streams: int = 2) -> Iterator[Case]:
    """What the vocoder of either edition does."""
    if isinstance(config, Config3):
        yield from causal_vocoder_cases(config, like, streams)
    else:
        yield from hift_cases(config, like, streams)


def cases(config: Sizes, like: Tensor) -> Iterator[Case]:
    """Arguments at the model's sizes, in the type and on the device of `like`."""
    for rows in _ROWS:
        yield from dit_cases(config, like, rows) if isinstance(config, Config3) else flow_cases(config, like, rows)
    for slots in _SLOTS:
        yield from decode_cases(config, like, slots)
    for pieces in _PROMPTS:
        yield from prompt_cases(config, like, pieces)
    yield from vocoder_cases(config, like)


def distance(case: Case, kernel: Kernel) -> float:
    """How far what `kernel` leaves is from what its reference makes of the same numbers in float32, by the norm of the
    difference, whatever it should not have written included."""
    ours = case.mapped(Tensor.clone)
    theirs = ours.mapped(lambda each: each.float() if each.is_floating_point() else each).mapped(Tensor.clone)
    kernel(*ours.arguments, **ours.options)
    with torch.backends.cudnn.flags(allow_tf32=False):
        getattr(REFERENCES, case.kernel)(*theirs.arguments, **theirs.options)
    return max(map(_apart, ours.tensors, theirs.tensors, case.tensors))


def _apart(ours: Tensor, theirs: Tensor, before: Tensor) -> float:
    if not ours.is_floating_point():
        return 0.0 if torch.equal(ours, theirs) else math.inf
    difference, written = (ours - theirs).norm(), theirs[theirs != before].norm()
    return float(difference / written) if difference else 0.0


def self_tested(
    config: Sizes, like: Tensor, broken: Collection[str] = (), begins: Callable[[str], object] = lambda name: None
) -> tuple[Kernels, dict[str, str]]:
    """The kernels that passed, with references in place of the others; and why each of the others did not pass. If all
    kernels that this model uses failed, those that only other models use are replaced too.

    `broken` kernels are known not to work and are not tried. `begins` gets the name of each kernel before its test,
    because one that crashes the process cannot report it afterwards.
    """
    problems = dict.fromkeys(broken, "it ended the process before")
    for case in cases(config, like):
        if case.kernel not in problems:
            begins(case.kernel)
            if problem := _problem(case):
                problems[case.kernel] = problem
    if used_by(config) <= problems.keys():
        names = {each.name for each in fields(Kernels)}
        problems |= dict.fromkeys(names - problems.keys(), "this model is not computed with it")
    return replace(Kernels(), **{name: getattr(REFERENCES, name) for name in problems}), problems


def _problem(case: Case) -> str:
    try:
        apart = distance(case, getattr(Kernels(), case.kernel))
    except Exception as problem:  # of Triton's compiler, the driver, the card
        return f"{case.size}: {type(problem).__name__}: {' '.join(str(problem).split())}"[:_LONGEST_PROBLEM]
    limit = _TF32_LIMIT if case.kernel in ("vocoder_conv", "level_sum") else LIMITS[case.arguments[0].dtype]
    return "" if apart <= limit else f"{case.size}: {apart:.1e} from its reference, which is more than {limit:.0e}"


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """`value` with all tensors in it changed, except those in `Parts`, which are scratch memory."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_mapped(each, change) for each in value)
    if isinstance(value, dict):
        return {name: _mapped(each, change) for name, each in value.items()}
    if is_dataclass(value) and not isinstance(value, Parts | type):
        return replace(value, **{field.name: _mapped(getattr(value, field.name), change) for field in fields(value)})
    return value


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _mapped(value, lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found
