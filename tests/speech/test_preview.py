import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cosyserve.speech.audio import SAMPLE_RATE, Pcm
from cosyserve.speech.encoders import FORMATS
from cosyserve.speech.output import Output
from cosyserve.speech.pipeline import SpeechRequest, speak
from cosyserve.speech.preview import PreviewSynthesizer
from cosyserve.text.front_end import whole
from tests.running import GREETING
from tests.signals import from_s16le, is_speech


@pytest.fixture(scope="module")
def preview() -> Iterator[PreviewSynthesizer]:
    synthesizer = PreviewSynthesizer()
    yield synthesizer
    synthesizer.close()


def spoken(synthesizer: PreviewSynthesizer, text: str, voice: str = "mandarin") -> Pcm:
    async def collect() -> Pcm:
        speech = SpeechRequest(whole(text), synthesizer.voices[voice])
        return np.concatenate([chunk async for chunk in speak(synthesizer, speech, 600)])

    return asyncio.run(collect())


@pytest.mark.parametrize("voice", ["mandarin", "mandarin-female", "cantonese", "english", "english-female"])
def test_every_voice_speaks_mandarin_and_english_in_one_text(preview: PreviewSynthesizer, voice: str) -> None:
    audio = spoken(preview, GREETING, voice)
    assert is_speech(audio)
    assert 2.5 < audio.size / SAMPLE_RATE < 6
    chinese, english = spoken(preview, "你好，世界。", voice), spoken(preview, "Hello, world 3.14!", voice)
    assert is_speech(chinese)
    assert is_speech(english)
    assert audio.size == pytest.approx(chinese.size + english.size, rel=0.02)


def test_han_in_the_english_voice_is_spoken_not_spelled_out(preview: PreviewSynthesizer) -> None:
    """eSpeak's English voices say 'Chinese letter' for each Han character, about half a second each."""
    assert spoken(preview, "今天天气很好", "english").size < 1.2 * spoken(preview, "今天天气很好", "mandarin").size


def test_the_same_text_sounds_the_same_whoever_else_speaks(preview: PreviewSynthesizer) -> None:
    async def together() -> list[Pcm]:
        async def one(text: str) -> Pcm:
            speech = SpeechRequest(whole(text), preview.voices["mandarin"])
            return np.concatenate([chunk async for chunk in speak(preview, speech, 600)])

        return await asyncio.gather(*(one(text) for text in texts))

    texts = [f"第{number}个句子。Number {number}." for number in range(12)]
    for text, audio in zip(texts, asyncio.run(together()), strict=True):
        alone = spoken(preview, text)
        # eSpeak carries its pitch phase over from one text to the next: the length may differ by a period.
        assert audio.size == pytest.approx(alone.size, abs=0.02 * SAMPLE_RATE)
        assert is_speech(audio)


@pytest.mark.parametrize("speed", [0.25, 0.5, 0.9, 1.7, 4.0])
def test_speed_changes_the_length_and_keeps_the_pitch(preview: PreviewSynthesizer, speed: float) -> None:
    plain, output = spoken(preview, GREETING), Output(FORMATS["pcm"], speed)
    changed = from_s16le(output.push(plain) + output.finish())
    assert changed.size * speed == pytest.approx(plain.size, rel=0.05)
    assert is_speech(changed)


def test_sentences_are_apart() -> None:
    synthesizer = PreviewSynthesizer()
    try:
        audio = spoken(synthesizer, "One.")
        assert np.abs(audio[-SAMPLE_RATE // 10 :]).max() < 0.01
    finally:
        synthesizer.close()


def test_a_second_synthesizer_speaks_like_the_first_and_beside_it(preview: PreviewSynthesizer) -> None:
    alone = spoken(preview, GREETING).size
    second = PreviewSynthesizer()
    with ThreadPoolExecutor() as threads:
        both = [threads.submit(spoken, synthesizer, GREETING) for synthesizer in (preview, second) * 4]
    second.close()
    for audio in both:
        assert audio.result().size == pytest.approx(alone, abs=0.02 * SAMPLE_RATE)
    assert is_speech(spoken(preview, GREETING))
