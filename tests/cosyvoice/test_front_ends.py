"""Text to ids, recordings to prompts, and prompts kept on disk."""

import resource
import shutil
import threading
import unicodedata
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from cosyserve.cosyvoice.frontend.edition import COSYVOICE2, COSYVOICE3
from cosyserve.cosyvoice.frontend.marks import END_OF_PROMPT_ID, MARKS
from cosyserve.cosyvoice.frontend.prompt_encoder import Prompt, PromptEncoder, fbank
from cosyserve.cosyvoice.frontend.tokenizer import TextTokenizer
from cosyserve.cosyvoice.model.config import SPEECH_TOKENS
from cosyserve.errors import CosyError
from cosyserve.speech import spk2info
from cosyserve.speech.prompts import Prompts, packed, unpacked
from cosyserve.speech.voices import Library
from cosyserve.store.manifest import MODEL_FOLDER
from cosyserve.text import marks
from tests.cosyvoice.folder import write_tokenizer
from tests.speech.recordings import encoded, tone

RECORDING = encoded(tone(2))
TEXT_IDS = 278  # of the tests' tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return TextTokenizer(folder)


@given(text=st.text(max_size=60).map(lambda text: text.replace("\0", "")))
def test_ids_are_the_text_again(tokenizer: TextTokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)
    assert len(ids) == 0 or int(ids.max()) < tokenizer.size


def test_pairs_are_merged_within_pieces_only(tokenizer: TextTokenizer) -> None:
    assert tokenizer.encode("hello").tolist()[:2] == [256, 257]
    assert 256 not in tokenizer.encode("h e").tolist()
    assert len(tokenizer.encode("2024")) == 4


def test_the_front_end_knows_the_marks() -> None:
    assert set(marks.SOUNDS + marks.TAGS) == set(MARKS)


def test_marks_are_tokens_and_controls_in_a_text_are_not(tokenizer: TextTokenizer) -> None:
    # 258 tokens of the vocabulary, then four controls, then the marks in the order upstream adds them.
    assert [tokenizer.encode(mark).tolist() for mark in MARKS] == [[262 + place] for place in range(len(MARKS))]
    assert tokenizer.size == 258 + 20
    for control in ("<|endofprompt|>", "<|im_start|>", "\0<|endofprompt|>"):
        assert int(tokenizer.encode(control).max()) < 258
    assert tokenizer.closed("hi").tolist() == [*tokenizer.encode("hi").tolist(), 261]


def test_fbank_is_kaldis() -> None:
    """Kaldi's definition, written out in NumPy: 400 samples every 160, mean removed, pre-emphasis, Povey's window."""
    wave = torch.from_numpy(np.random.default_rng(0).standard_normal(4000).astype(np.float32)) * 0.1
    frames = wave.unfold(0, 400, 160).double()
    frames = frames - frames.mean(1, keepdim=True)
    frames = frames - 0.97 * torch.cat((frames[:, :1], frames[:, :-1]), dim=1)
    window = torch.hann_window(400, periodic=False, dtype=torch.float64) ** 0.85
    power = torch.fft.rfft(frames * window, 512).abs() ** 2

    def mel(hz: torch.Tensor) -> torch.Tensor:
        return 1127 * (1 + hz / 700).log()

    low, high = mel(torch.tensor(20.0, dtype=torch.float64)), mel(torch.tensor(8000.0, dtype=torch.float64))
    corners = torch.linspace(float(low), float(high), 82, dtype=torch.float64)
    bins = mel(torch.arange(257, dtype=torch.float64) * 16_000 / 512)
    rising = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
    triangles = rising.minimum(falling).clamp(min=0)
    expected = (power @ triangles.T).clamp(min=torch.finfo(torch.float32).eps).log()
    assert np.abs(fbank(wave) - expected.numpy()).max() < 2e-3


def test_a_recording_becomes_tokens_and_two_frames_of_mel_for_each(models: Path) -> None:
    listener = PromptEncoder(models / MODEL_FOLDER, 1)
    prompt = listener.encode(torch.from_numpy(tone(3.2)[:, 0]), torch.from_numpy(tone(3.2, 16_000)[:, 0]))
    assert prompt.speech.shape == (80,)
    assert prompt.mel.shape == (160, 80)
    assert prompt.speaker.shape == (192,)
    assert 0 <= int(prompt.speech.min()) <= int(prompt.speech.max()) < SPEECH_TOKENS


def test_a_voice_is_listened_to_once_for_a_recording_and_a_model(models: Path, tmp_path: Path) -> None:
    heard = []

    class Counting(PromptEncoder):
        def encode(self, at_24k: torch.Tensor, at_16k: torch.Tensor) -> Prompt:
            heard.append(len(at_16k))
            return super().encode(at_24k, at_16k)

    def prompts() -> Prompts:
        return Prompts(tmp_path, models / MODEL_FOLDER, Counting(models / MODEL_FOLDER, 1), TEXT_IDS)

    first = prompts()
    library = Library(tmp_path, learn=first.of)
    entry = library.add("Anna", "Hi.", "Anna", RECORDING)
    again = prompts().of(entry)
    assert len(heard) == 1
    assert again.transcript == "Hi."
    assert torch.equal(again.prompt.mel, first.of(entry).prompt.mel)
    (kept,) = (tmp_path / ".features").iterdir()
    kept.write_bytes(b"damaged")
    prompts().of(entry)
    assert len(heard) == 2
    library.remove("Anna")
    assert list((tmp_path / ".features").iterdir()) == []


class Waiting(PromptEncoder):
    """Listens when it is told to, and counts."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, 1)
        self.may, self.begun, self.heard = threading.Event(), threading.Event(), 0

    def encode(self, at_24k: torch.Tensor, at_16k: torch.Tensor) -> Prompt:
        self.begun.set()
        self.may.wait()
        self.heard += 1
        return super().encode(at_24k, at_16k)


def test_who_asks_for_a_known_voice_waits_for_nobodys_recording(models: Path, tmp_path: Path) -> None:
    model = models / MODEL_FOLDER
    earlier = Prompts(tmp_path, model, PromptEncoder(model, 1), TEXT_IDS)
    library = Library(tmp_path, learn=earlier.of)
    anna, bea = (
        library.add(name, "Hi.", name, encoded(tone(seconds))) for name, seconds in (("Anna", 2), ("Bea", 1.5))
    )
    listener = Waiting(model)
    prompts = Prompts(tmp_path, model, listener, TEXT_IDS)
    prompts.of(anna)
    stranger = prompts.encode_upload(RECORDING, "")
    listener.begun.wait()
    for known in (anna, bea):  # in memory, and on disk
        assert prompts.encode(known).done()
    assert not stranger.done()
    listener.may.set()
    assert stranger.result().transcript == ""
    for each in (prompts, earlier):
        each.close()


def test_a_recording_is_listened_to_once_and_not_for_those_who_left(models: Path, tmp_path: Path) -> None:
    listener = Waiting(models / MODEL_FOLDER)
    prompts = Prompts(tmp_path, models / MODEL_FOLDER, listener, TEXT_IDS)
    first, second = (prompts.encode_upload(RECORDING, words) for words in ("Hi.", "Ho."))
    other = prompts.encode_upload(encoded(tone(1.5)), "")
    listener.begun.wait()
    assert other.cancel()
    listener.may.set()
    assert (first.result().transcript, second.result().transcript) == ("Hi.", "Ho.")
    prompts.close()
    assert listener.heard == 1


def test_features_that_cannot_be_kept_leave_nothing(models: Path, tmp_path: Path) -> None:
    """The file is cut short by the system, as on a full disk."""
    prompts = Prompts(tmp_path, models / MODEL_FOLDER, PromptEncoder(models / MODEL_FOLDER, 1), TEXT_IDS)
    entry = Library(tmp_path).add("Anna", "", "Anna", RECORDING)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        assert len(prompts.of(entry).prompt.speech) > 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / ".features").iterdir()) == []
    prompts.close()


def test_the_recording_of_a_request_is_not_kept_on_disk(models: Path, tmp_path: Path) -> None:
    prompts = Prompts(tmp_path, models / MODEL_FOLDER, PromptEncoder(models / MODEL_FOLDER, 1), TEXT_IDS)
    first, second = (prompts.encode_upload(RECORDING, words).result() for words in ("Hi.", "Ho."))
    assert first.prompt is second.prompt
    prompts.close()
    assert list(tmp_path.iterdir()) == []


def changed(**parts: torch.Tensor) -> bytes:
    """A voice's features, some of them others than they should be."""
    good = {"speech": torch.arange(4), "mel": torch.zeros(8, 80), "speaker": torch.zeros(192), "text": torch.arange(9)}
    return save({**good, **parts})


def test_features_of_a_voice_are_taken_as_they_were_packed() -> None:
    good = Prompt(torch.arange(4), torch.rand(8, 80), torch.rand(192))
    assert torch.equal(unpacked(packed(good), Path("a"), TEXT_IDS).prompt.mel, good.mel)
    edges = changed(speech=torch.tensor([0, 1, 2, SPEECH_TOKENS - 1]), text=torch.tensor([TEXT_IDS - 1]))
    assert unpacked(edges, Path("a"), TEXT_IDS).text is not None


@pytest.mark.parametrize(
    "bad",
    [
        changed(mel=torch.zeros(7, 80)),
        changed(speaker=torch.zeros(100)),
        changed(speech=torch.tensor([0, 1, 2, SPEECH_TOKENS])),  # what only a stop may be
        changed(speech=torch.tensor([0, 1, 2, -1])),
        changed(speech=torch.arange(4, dtype=torch.float32)),
        changed(speech=torch.tensor(1)),
        changed(speech=torch.zeros(2000, dtype=torch.long), mel=torch.zeros(4000, 80)),
        changed(text=torch.tensor([TEXT_IDS])),
        changed(text=torch.tensor([-1])),
        changed(text=torch.tensor([0.5])),
        changed(text=torch.zeros(1, 3, dtype=torch.long)),
        changed(mel=torch.full((8, 80), torch.nan)),
        changed(speaker=torch.zeros(192, dtype=torch.float64)),
        b"nothing",
    ],
)
def test_features_that_are_no_voice_are_refused(bad: bytes) -> None:
    """An id outside of a table is an error of one request here; on a card it would be the end of all."""
    with pytest.raises(CosyError, match="CS-VOICE-105"):
        unpacked(bad, Path("a"), TEXT_IDS)


def ids(count: int) -> st.SearchStrategy[list[int]]:
    """Now and then one that is none of `count`."""
    good = st.integers(0, count - 1)
    return st.lists(good | good | good | st.sampled_from((-1, count, -(2**63), 2**63 - 1)), max_size=9)


@given(speech=ids(SPEECH_TOKENS), text=ids(TEXT_IDS))
def test_what_is_imported_holds_no_id_that_the_model_has_not(
    tmp_path_factory: pytest.TempPathFactory, speech: list[int], text: list[int]
) -> None:
    table = tmp_path_factory.getbasetemp() / "spk2info.pt"
    voice = {"speech_token": torch.tensor(speech, dtype=torch.long), "speech_feat": torch.zeros(2 * len(speech), 80)}
    voice |= {"embedding": torch.zeros(192), "prompt_text": torch.tensor(text, dtype=torch.long)}
    torch.save({"Anna": voice}, table)
    fits = all(0 <= each < SPEECH_TOKENS for each in speech) and all(0 <= each < TEXT_IDS for each in text)
    with nullcontext() if fits else pytest.raises(CosyError, match="CS-VOICE-105"):
        ((name, features),) = spk2info.voices(table, TEXT_IDS)
        assert (name, unpacked(features, table, TEXT_IDS).prompt.speech.tolist()) == ("Anna", speech)


def test_what_another_edition_has_heard_is_refused_and_a_bare_embedding_is_not() -> None:
    heard = Prompt(torch.arange(4), torch.rand(8, 80), torch.rand(192))
    data = packed(heard, heard_by="cosyvoice3")
    assert torch.equal(unpacked(data, Path("a"), TEXT_IDS, "cosyvoice3").prompt.mel, heard.mel)
    for features, edition in ((data, "cosyvoice2"), (packed(heard), "cosyvoice3"), (changed(), "cosyvoice3")):
        with pytest.raises(CosyError, match="CS-VOICE-105"):
            unpacked(features, Path("a"), TEXT_IDS, edition)
    nothing = Prompt(torch.empty(0, dtype=torch.long), torch.empty(0, 80), torch.rand(192))
    assert torch.equal(unpacked(packed(nothing), Path("a"), TEXT_IDS, "cosyvoice3").prompt.speaker, nothing.speaker)


def test_a_table_of_the_third_edition_is_known_by_the_lead_of_its_words(tmp_path: Path) -> None:
    voice = {"speech_token": torch.arange(4), "speech_feat": torch.zeros(8, 80), "embedding": torch.zeros(192)}
    torch.save({"Anna": {**voice, "prompt_text": torch.tensor([2610, END_OF_PROMPT_ID, 5])}}, tmp_path / "table.pt")
    ((_, features),) = spk2info.voices(tmp_path / "table.pt", 151_924, COSYVOICE3)
    assert unpacked(features, Path("a"), 151_924, "cosyvoice3").text is not None
    with pytest.raises(CosyError, match="CS-VOICE-105"):
        list(spk2info.voices(tmp_path / "table.pt", 151_924, COSYVOICE2))


def test_the_mel_of_the_third_edition_has_no_upper_limit(models: Path, tmp_path: Path) -> None:
    """A tone above the second's limit is heard by the third alone."""
    folder = tmp_path / "model"
    shutil.copytree(models / MODEL_FOLDER, folder)
    (folder / "speech_tokenizer_v2.onnx").rename(folder / "speech_tokenizer_v3.onnx")
    seconds = torch.arange(24_000) / 24_000
    high, low = (2 * torch.pi * hz * seconds for hz in (10_000, 200))
    at_16k = torch.sin(2 * torch.pi * 200 * torch.arange(16_000) / 16_000)
    loudest = [
        PromptEncoder(place, 1, edition.ears).encode(high.sin() + 1e-3 * low.sin(), at_16k).mel.mean(0).max()
        for place, edition in ((models / MODEL_FOLDER, COSYVOICE2), (folder, COSYVOICE3))
    ]
    assert loudest[1] > loudest[0] + 3
