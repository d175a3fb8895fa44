"""The exported language model is the original: as transformers reads it, and as the bias makes of its scores."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoTokenizer, Qwen2ForCausalLM

from cosyserve import errors
from cosyserve.assets.export import export, head_bias
from cosyserve.cosyvoice.engine.vocabulary import Vocabulary
from cosyserve.cosyvoice.frontend.tokenizer import TextTokenizer
from cosyserve.cosyvoice.model.config import SPEECH_TOKENS, STOP_TOKENS, LlmConfig
from cosyserve.cosyvoice.model.loading import load_config, load_llm
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.errors import CosyError
from cosyserve.store.manifest import MODEL_FOLDER

_SPEECH = SPEECH_TOKENS + len(STOP_TOKENS)
RELEASED = Vocabulary(151_663)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    return models / MODEL_FOLDER


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> tuple[Path, Vocabulary]:
    into = tmp_path_factory.mktemp("export") / "exported"
    return into, export(folder, into, torch.float32)


def ours(folder: Path, text: Tensor, speech: Tensor) -> Tensor:
    """The scores (6564,) that our own decoder has after a prompt."""
    llm = load_llm(folder, load_config(folder))
    prompt = llm.prompt(text, speech)
    return llm.prefill(prompt, llm.cache(1, len(prompt) + 1), 0)


def theirs(into: Path, prompt: list[int]) -> Tensor:
    """The scores (vocabulary,) that transformers has, whose head has no bias, just as TensorRT-LLM's has none."""
    model = Qwen2ForCausalLM.from_pretrained(into, dtype=torch.float32)
    with torch.inference_mode():
        return model(torch.tensor([prompt])).logits[0, -1]


PROMPTS = [([65, 66, 67, 300], [5, 6, 6560, 0]), ([97], []), (list(range(40)), list(range(1000, 1200)))]


@pytest.mark.parametrize(("text", "speech"), PROMPTS)
def test_the_scores_are_the_originals(
    folder: Path, exported: tuple[Path, Vocabulary], text: list[int], speech: list[int]
) -> None:
    into, vocabulary = exported
    ids = torch.tensor(text) % vocabulary.text, torch.tensor(speech, dtype=torch.long)
    original = ours(folder, *ids)
    scores = theirs(into, vocabulary.prompt(ids[0].tolist(), speech)) + vocabulary.bias(head_bias(folder))
    within = scores[vocabulary.text : vocabulary.text + _SPEECH]
    assert (within - original).norm() / original.norm() <= 1e-5
    torch.testing.assert_close(scores.softmax(0)[vocabulary.text : vocabulary.text + _SPEECH], original.softmax(0))
    outside = torch.cat((scores.softmax(0)[: vocabulary.text], scores.softmax(0)[vocabulary.begin :]))
    assert outside.max() == 0


def test_without_the_bias_the_distribution_is_another(folder: Path, exported: tuple[Path, Vocabulary]) -> None:
    """Why it must not be lost: text ids, whose rows of the head are zero, would take a share of the draw."""
    into, vocabulary = exported
    scores = theirs(into, vocabulary.prompt([65], []))
    assert scores.softmax(0)[: vocabulary.text].sum() > 0.01


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_what_is_drawn_is_distributed_as_the_original(
    folder: Path, exported: tuple[Path, Vocabulary], temperature: float
) -> None:
    into, vocabulary = exported
    text, speech = torch.tensor([65, 66]), torch.tensor([7, 8])
    bias = vocabulary.bias(head_bias(folder))
    mine = ((theirs(into, vocabulary.prompt(text.tolist(), speech.tolist())) + bias) / temperature).softmax(0)
    original = (ours(folder, text, speech) / temperature).softmax(0)
    draws = torch.multinomial(mine, 20_000, replacement=True, generator=torch.Generator().manual_seed(1))
    assert all(vocabulary.text <= draw < vocabulary.text + _SPEECH for draw in draws.tolist())
    # Total variation between what was drawn and the original, against that of a sample of the original itself.
    again = torch.multinomial(original, 20_000, replacement=True, generator=torch.Generator().manual_seed(2))
    found = torch.bincount(draws - vocabulary.text, minlength=_SPEECH) / 20_000
    expected = torch.bincount(again, minlength=_SPEECH) / 20_000
    assert (found - original).abs().sum() < 1.1 * (expected - original).abs().sum()


def test_the_bias_survives_half_precision(folder: Path, exported: tuple[Path, Vocabulary]) -> None:
    bias = exported[1].bias(head_bias(folder))
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.isfinite(bias.to(dtype)).all()
        assert bias.to(dtype).float()[0].exp() == 0


def test_ids_are_those_of_the_public_export() -> None:
    names = RELEASED.names()
    assert (names["<|s_0|>"], names["<|s_6560|>"]) == (151_663, 158_223)
    assert (names["<|eos1|>"], names["<|eos2|>"], names["<|eos3|>"]) == (158_224, 158_225, 158_226)
    assert (names["<|sos|>"], names["<|task_id|>"], RELEASED.size) == (158_227, 158_228, 158_336)
    assert len(names) == len(set(names.values())) == 6566


def test_names_shapes_and_size_are_those_of_the_public_export(exported: tuple[Path, Vocabulary], folder: Path) -> None:
    """The released file's size is known to the byte, and holds nothing but the table of contents and the numbers."""
    config = LlmConfig()
    table, hidden = RELEASED.size, config.hidden
    with torch.device("meta"):
        layers = {
            key.removeprefix("llm.model."): list(value.shape)
            for key, value in Llm(config).state_dict().items()
            if key.startswith("llm.model.model.") and "embed_tokens" not in key
        }
    shapes = layers | {
        "model.embed_tokens.weight": [table, hidden],
        "lm_head.weight": [table, hidden],
        "lm_head.bias": [table],
    }
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, shape in sorted(shapes.items()):
        end = place + 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [place, end]}
        place = end
    contents = len(json.dumps(header, separators=(",", ":")))
    assert 8 + -(-contents // 8) * 8 + place == 1_283_621_816
    into, _ = exported
    with safe_open(into / "model.safetensors", "pt") as file:
        small = set(file.keys())
    assert {name.split(".layers.")[0] for name in small} == {name.split(".layers.")[0] for name in shapes}


def test_text_becomes_the_same_ids_with_the_exported_tokenizer(folder: Path, exported: tuple[Path, Vocabulary]) -> None:
    into, vocabulary = exported
    tokenizer = AutoTokenizer.from_pretrained(into)
    mine = TextTokenizer(folder)
    for text in ("Hello, world 3.14!", "你好，世界。", "ha [laughter] ha"):
        chat = tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False)
        ids = tokenizer(chat, add_special_tokens=False).input_ids
        assert ids == vocabulary.prompt(mine.encode(text).tolist(), [])


def test_a_damaged_model_is_refused_with_a_remedy(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    (copy / "llm.pt").write_bytes((copy / "llm.pt").read_bytes()[:1000])
    with pytest.raises(CosyError) as caught:
        export(copy, tmp_path / "exported")
    assert caught.value.fault is errors.EXPORT_UNUSABLE


def test_the_export_at_full_size_stays_small_in_memory(tmp_path: Path) -> None:
    """2.5 GB are allowed; the file has 2.0 GB in and 1.3 GB out."""
    found = tmp_path / "found.json"
    subprocess.run([sys.executable, "-m", "bench.export", str(tmp_path), "--json", str(found)], check=True)
    figures = {each["name"]: each["value"] for each in json.loads(found.read_text())["figures"]}
    assert figures["peak"] < 2500 / 1.048576
    assert figures["written"] == 1_283_621_816
