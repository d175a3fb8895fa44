import asyncio
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from cosyserve.errors import CosyError
from cosyserve.speech.audio import SAMPLE_RATE, Pcm
from cosyserve.speech.pipeline import SpeechRequest, speak
from cosyserve.text.front_end import Segment, whole
from tests.standins import CHUNK_SECONDS, GatedSynthesizer, ToneSynthesizer


def request(text: str, synthesizer: ToneSynthesizer, speed: float = 1.0) -> SpeechRequest:
    return SpeechRequest(whole(text), synthesizer.voices["tone"], speed)


def test_audio_of_every_segment_comes_in_order_and_whole() -> None:
    async def run() -> float:
        synthesizer = ToneSynthesizer()
        return sum([c.size async for c in speak(synthesizer, request("ab. cde. 。。 f.", synthesizer), 60)])

    assert asyncio.run(run()) == pytest.approx((2 + 3 + 1) * CHUNK_SECONDS * SAMPLE_RATE)


@pytest.mark.parametrize("speed", [0.5, 1.0, 2.0])
def test_a_pause_is_as_long_as_it_was_asked_for(speed: float) -> None:
    async def run() -> list[Pcm]:
        synthesizer = ToneSynthesizer()
        segments = whole('ab.<break time="2500ms"/>cd.', ssml=True)
        speech = SpeechRequest(segments, synthesizer.voices["tone"], speed)
        return [chunk async for chunk in speak(synthesizer, speech, 60)]

    chunks = asyncio.run(run())
    silent = [chunk.any() == 0 for chunk in chunks]
    assert silent == [False] * 2 + [True] * (len(chunks) - 4) + [False] * 2
    assert sum(chunk.size for chunk in chunks[2:-2]) == round(2.5 * SAMPLE_RATE * speed)  # before it is stretched
    assert max(chunk.size for chunk in chunks) <= SAMPLE_RATE


def test_nothing_runs_ahead_of_the_reader() -> None:
    async def run() -> None:
        pulled = 0

        async def segments() -> AsyncIterator[Segment]:
            nonlocal pulled
            for _ in range(10):
                pulled += 1
                yield Segment("ab", 0, 2)

        synthesizer = ToneSynthesizer()
        audio = speak(synthesizer, SpeechRequest(segments(), synthesizer.voices["tone"]), 60)
        for read in range(1, 7):
            await audio.__anext__()
            assert pulled == (read + 1) // 2
        await audio.aclose()

    asyncio.run(run())


def test_closing_stops_the_synthesis_at_once() -> None:
    async def run() -> None:
        synthesizer = GatedSynthesizer()
        audio = speak(synthesizer, request("a long text", synthesizer), 60)
        await audio.__anext__()
        assert synthesizer.inside == 1
        await audio.aclose()
        assert synthesizer.inside == 0

    asyncio.run(run())


@pytest.mark.parametrize("speed", [0.5, 1.0, 2.0])
def test_too_much_audio_is_an_error_not_a_silent_cut(speed: float) -> None:
    async def run() -> float:
        synthesizer = ToneSynthesizer()
        heard = 0.0
        with pytest.raises(CosyError) as cut:
            async for chunk in speak(synthesizer, request("abcdefghij", synthesizer, speed), 0.55 / speed):
                heard += chunk.size / SAMPLE_RATE
        assert cut.value.fault.id == "CS-TEXT-004"
        return heard

    assert asyncio.run(run()) == pytest.approx(0.5)


def test_memory_does_not_grow_with_the_text() -> None:
    """What a sentence leaves until the garbage is collected is a hundredth of its sound."""

    def spoken(sentences: int) -> tuple[int, int]:
        """Bytes of the sound, and the most that were held."""

        async def run() -> int:
            synthesizer = ToneSynthesizer()
            text = request("A sentence of text. " * sentences, synthesizer)
            return sum([chunk.nbytes async for chunk in speak(synthesizer, text, 1e9)])

        tracemalloc.start()
        sound = asyncio.run(run())
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return sound, most

    spoken(10)  # imports and caches
    (short, few), (long, many) = spoken(50), spoken(500)
    assert many - few < (long - short) / 20
