"""What each edition's language model is asked, by upstream's rules, in ids of the released vocabulary."""

import asyncio
from pathlib import Path

import pytest
import torch

from cosyserve.cosyvoice.frontend.edition import COSYVOICE2, COSYVOICE3, EDITIONS, Edition
from cosyserve.cosyvoice.frontend.marks import LEAD
from cosyserve.cosyvoice.frontend.prompt_encoder import Prompt
from cosyserve.cosyvoice.frontend.tokenizer import TextTokenizer
from cosyserve.cosyvoice.model.sampling import length_limits
from cosyserve.speech.asking import Asker
from cosyserve.speech.prompts import VoicePrompt
from cosyserve.speech.synthesizer import Options
from cosyserve.text.front_end import uncut, whole
from tests.cosyvoice.vocabulary import write_released_vocabulary

END_OF_PROMPT = 151646
SYSTEM = [2610, 525, 264, 10950, 17847, 13]  # You are a helpful assistant.
CANTONESE = [14880, 11622, 102053, 57443, 102124, 1773]  # 请用广东话表达。
SPACE = 220
TEXT = [104381, 105478, 45181, 111993, 101400, 104672, 105511, 105950, 1773]  # 收到好友从远方寄来的生日礼物。
WORDS = [99880, 56568, 103934, 100006, 100854, 56006, 107228, 52801, 119024, 1773]  # 希望你以后能够做的比我还好呦。
SPEECH = [4, 0, 6560]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("released")
    write_released_vocabulary(folder)
    return folder


def voice(transcript: str = "", text: list[int] | None = None) -> VoicePrompt:
    prompt = Prompt(torch.tensor(SPEECH), torch.zeros(6, 80), torch.zeros(192))
    return VoicePrompt(prompt, transcript, None if text is None else torch.tensor(text))


def asked(folder: Path, edition: Edition, text: str, spoken_in: VoicePrompt, instructions: str = "") -> list[list[int]]:
    asker = Asker(edition, TextTokenizer(folder, edition.added), 2560)
    request = asker.request(text, spoken_in, Options(instructions=instructions, seed=1))
    return [each.tolist() for each in (request.prompt_text, request.text, request.prompt_speech)]


ZERO_SHOT = voice("希望你以后能够做的比我还好呦。")
INSTRUCTION = "请用广东话表达。"


@pytest.mark.parametrize(
    ("edition", "spoken_in", "instructions", "lead", "speech"),
    [
        (COSYVOICE2, ZERO_SHOT, "", WORDS, SPEECH),
        (COSYVOICE3, ZERO_SHOT, "", [*SYSTEM, END_OF_PROMPT, *WORDS], SPEECH),
        (COSYVOICE2, voice(), "", [], []),
        (COSYVOICE3, voice(), "", [*SYSTEM, END_OF_PROMPT], []),
        (COSYVOICE2, ZERO_SHOT, INSTRUCTION, [*CANTONESE, END_OF_PROMPT], []),
        (COSYVOICE3, ZERO_SHOT, INSTRUCTION, [*SYSTEM, SPACE, *CANTONESE, END_OF_PROMPT], []),
        # As upstream's own clients write them.
        (COSYVOICE3, voice(), f"You are a helpful assistant. {INSTRUCTION}<|endofprompt|>", None, []),
        (COSYVOICE3, voice(LEAD + ZERO_SHOT.transcript), "", [*SYSTEM, END_OF_PROMPT, *WORDS], SPEECH),
        # Voices that came with the ids of their words, of either edition.
        (COSYVOICE2, voice(text=WORDS), "", WORDS, SPEECH),
        (COSYVOICE3, voice(text=WORDS), "", [*SYSTEM, END_OF_PROMPT, *WORDS], SPEECH),
        (COSYVOICE3, voice(text=[*SYSTEM, END_OF_PROMPT, *WORDS]), "", [*SYSTEM, END_OF_PROMPT, *WORDS], SPEECH),
    ],
)
def test_what_is_asked_is_what_upstream_asks(
    released: Path,
    edition: Edition,
    spoken_in: VoicePrompt,
    instructions: str,
    lead: list[int] | None,
    speech: list[int],
) -> None:
    lead = [*SYSTEM, SPACE, *CANTONESE, END_OF_PROMPT] if lead is None else lead
    found = asked(released, edition, "收到好友从远方寄来的生日礼物。", spoken_in, instructions)
    assert found == [lead, TEXT, speech]


def test_a_text_is_cut_first_and_led_after(released: Path) -> None:
    """Each segment has the whole lead, which counts neither for its length nor for where it is cut."""
    text = "收到好友从远方寄来的生日礼物。" * 12

    async def cut() -> list[str]:
        return [segment.text async for segment in whole(text, first_alone=False, pronounced=True)]

    made = asyncio.run(cut())
    assert len(made) > 1
    for segment in made:
        lead, ids, speech = asked(released, COSYVOICE3, segment, ZERO_SHOT)
        assert (lead, speech) == ([*SYSTEM, END_OF_PROMPT, *WORDS], SPEECH)
        assert ids == TEXT * (len(ids) // len(TEXT))
        assert length_limits(len(ids)) == (2 * len(ids), 20 * len(ids))


def test_phonemes_and_pinyin_are_tokens_of_the_third_edition_alone(released: Path) -> None:
    third, second = (TextTokenizer(released, edition.added) for edition in (COSYVOICE3, COSYVOICE2))
    assert (second.size, third.size) == (151_663, 151_924)
    assert third.encode("道[j][ǐ]予").tolist() == [44793, 151797, 151913, 99944]
    assert third.encode("道[j][i\u030c]予").tolist() == [44793, 151797, 151913, 99944]
    assert third.encode("[HH][AH0][L][OW1]").tolist() == [151706, 151673, 151717, 151723]
    assert third.encode("[breath][mn][AA][ZH][a][ǜ]").tolist() == [151647, 151662, 151664, 151747, 151748, 151923]
    assert int(second.encode("道[j][ǐ]予[HH]").max()) < 151_643


def test_no_text_writes_a_control(released: Path) -> None:
    for edition in EDITIONS.values():
        tokenizer = TextTokenizer(released, edition.added)
        for control in ("<|endofprompt|>", "<|endofsystem|>", "<|im_start|>", "\0<|endofprompt|>"):
            assert int(tokenizer.encode(control).max()) < 151_643
            assert END_OF_PROMPT not in asked(released, edition, f"Hi {control}", voice())[1]


def test_an_instruction_holds_no_second_end_of_its_own(released: Path) -> None:
    lead, _, _ = asked(released, COSYVOICE3, "Hi.", voice(), "a<|endofprompt|>b")
    assert lead.count(END_OF_PROMPT) == 1


def test_the_words_of_a_recording_may_be_pronounced(released: Path) -> None:
    assert uncut("道[j][ǐ]予", pronounced=True) == "道[j][ǐ]予"
    lead, _, _ = asked(released, COSYVOICE3, "Hi.", voice("道[j][ǐ]予"))
    assert lead == [*SYSTEM, END_OF_PROMPT, 44793, 151797, 151913, 99944]
