"""Where the time to a first sound goes, as the synthesizer tells it to a span."""

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from cosyserve.settings import Settings
from cosyserve.speech.choice import choose
from cosyserve.speech.synthesizer import Options, voice_of
from cosyserve.traces.span import NO_FACTS, Facts, Span, Untraced


@dataclass
class Noted(Untraced):
    """A stand-in for a span, which keeps those within it."""

    name: str = ""
    began: int = 0
    ended: int = 0
    within: list["Noted"] = field(default_factory=list)

    def begin(self, name: str, facts: Facts = NO_FACTS, at: int | None = None) -> Span:
        self.within.append(Noted(name, at or time.time_ns()))
        return self.within[-1]

    def end(self, at: int | None = None) -> None:
        self.ended = at or time.time_ns()

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        self.end()


def test_prompt_first_token_and_first_hop_follow_each_other(models: Path, tmp_path: Path) -> None:
    settings = Settings(
        synthesizer="cosyvoice", models_dir=models, dtype="float32", state_dir=tmp_path, voices_dir=tmp_path
    )
    synthesizer, span = choose(settings).synthesizer, Noted()

    async def speak() -> None:
        chunks = synthesizer.synthesize("Hi.", voice_of(synthesizer, ""), Options(seed=7, span=span))
        async with aclosing(chunks):
            async for _ in chunks:
                pass

    try:
        asyncio.run(speak())
    finally:
        synthesizer.close()
    assert [each.name for each in span.within] == ["prompt", "first token", "first hop"]
    prompt, token, hop = span.within
    assert prompt.began < prompt.ended <= token.began < token.ended == hop.began < hop.ended
