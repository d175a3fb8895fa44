"""How many are spoken to at once, and what bounds that.

It is worked out once, when the model is in. Whoever admits, reports or plans reads it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

BoundBy = Literal["setting", "processor", "memory", "engine"]


@dataclass(frozen=True)
class Bound:
    """One thing that lets in so many streams and no more."""

    streams: int
    by: BoundBy
    why: str
    why_zh: str


@dataclass(frozen=True)
class Capacity:
    """`voices` may be spoken in turn without being listened to again, and a stream hears `past_seconds` of what it has
    said; None where the synthesizer knows no such thing, or no bound."""

    streams: int
    bound_by: BoundBy
    why: str
    why_zh: str
    voices: int | None = None
    past_seconds: float | None = None

    def times(self, replicas: int) -> "Capacity":
        """Of so many of them together."""
        if replicas == 1:
            return self
        return replace(
            self,
            streams=replicas * self.streams,
            why=f"{replicas} replicas, and of each: {self.why}",
            why_zh=f"共 {replicas} 个副本，每个副本：{self.why_zh}",
        )


def capacity_of(bounds: Sequence[Bound], *, voices: int | None = None, past_seconds: float | None = None) -> Capacity:
    """The tightest of the bounds, of which the first wins a tie."""
    least = min(bounds, key=lambda bound: bound.streams)
    return Capacity(least.streams, least.by, least.why, least.why_zh, voices, past_seconds)


def by_setting(streams: int) -> Bound:
    return Bound(streams, "setting", f"COSYSERVE_MAX_STREAMS is {streams}.", f"COSYSERVE_MAX_STREAMS 设为 {streams}。")


def by_processor(streams: int) -> Bound:
    return Bound(
        streams,
        "processor",
        f"A processor speaks {streams} streams at once: they share its cores, and more would delay all of them.",
        f"处理器同时合成 {streams} 路：各路共用核心，再多则都会变慢。",
    )


def by_memory(streams: int, room: float, each: float, seconds: float) -> Bound:
    """`room` bytes are free. A stream takes `each` with so many seconds behind it, of which a recording has five."""
    gib = f"{room / 2**30:.1f}", f"{each / 2**30:.2f}"
    return Bound(
        streams,
        "memory",
        f"The card has {gib[0]} GiB of memory beside the model. A stream takes {gib[1]} GiB with {seconds:g} s behind "
        "it; a voice's recording is there once for all its streams.",
        f"模型之外显存剩余 {gib[0]} GiB；每路保留 {seconds:g} 秒，占 {gib[1]} GiB；同一音色的录音由各路共用。",
    )


def by_engine(streams: int) -> Bound:
    return Bound(
        streams,
        "engine",
        f"The engine was built for {streams} requests at once.",
        f"引擎构建时设定为同时处理 {streams} 个请求。",
    )
