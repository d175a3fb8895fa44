"""CosyVoice3's language model as an engine is built of it, and the vocabulary in which that speaks."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoTokenizer, Qwen2ForCausalLM

from cosyserve.assets.export import export, saved_bias
from cosyserve.cosyvoice.engine.vocabulary import COSYVOICE3 as ROWS
from cosyserve.cosyvoice.engine.vocabulary import NEVER, Vocabulary
from cosyserve.cosyvoice.frontend.edition import COSYVOICE3
from cosyserve.cosyvoice.frontend.tokenizer import TextTokenizer
from cosyserve.cosyvoice.model.config import SPEECH_TOKENS
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.store.manifest import model_of

RELEASED = Vocabulary(151_924, ROWS)
SCORED = 6761


@pytest.fixture(scope="module")
def folder(models3: Path) -> Path:
    return models3 / model_of("cosyvoice3-0.5b").folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> tuple[Path, Vocabulary]:
    into = tmp_path_factory.mktemp("export3") / "exported"
    return into, export(folder, into, torch.float32, COSYVOICE3)


def test_ids_are_those_of_the_public_exports() -> None:
    names = RELEASED.names()
    assert (names["<|s_0|>"], names["<|s_6560|>"]) == (151_924, 158_484)
    assert (RELEASED.begin, RELEASED.end, RELEASED.task) == (158_485, 158_486, 158_487)
    assert (names["<|s_6760|>"], RELEASED.size) == (158_684, 158_720)
    assert (len(names), list(RELEASED.stops)) == (SCORED, list(range(158_485, 158_685)))
    assert RELEASED.prompt([151_646, 5], [3]) == [158_485, 151_646, 5, 158_487, 151_927]


def test_text_is_masked_and_of_the_stops_the_meant_one_can_be_drawn() -> None:
    bias = RELEASED.with_one_stop(RELEASED.bias())
    allowed = (bias > NEVER).nonzero()[:, 0].tolist()
    assert allowed == [*RELEASED.speech, RELEASED.end]
    assert RELEASED.bias().unique().tolist() == [NEVER, 0]


@pytest.mark.parametrize(("text", "speech"), [([65, 300, 261], [5, 6, 6560, 0]), ([97], [])])
def test_the_scores_are_the_originals(
    folder: Path, exported: tuple[Path, Vocabulary], text: list[int], speech: list[int]
) -> None:
    """As transformers reads it, whose head has no bias, just as TensorRT-LLM's has none."""
    into, vocabulary = exported
    llm = Llm(COSYVOICE3.config(folder).llm)
    llm.load_state_dict(torch.load(folder / "llm.pt", weights_only=True))
    prompt = llm.prompt(torch.tensor(text), torch.tensor(speech, dtype=torch.long))
    with torch.inference_mode():
        original = llm.eval().prefill(prompt, llm.cache(1, len(prompt) + 1), 0)
        theirs = Qwen2ForCausalLM.from_pretrained(into, dtype=torch.float32)
        scores = theirs(torch.tensor([vocabulary.prompt(text, speech)])).logits[0, -1] + vocabulary.bias()
    within = scores[vocabulary.text : vocabulary.text + SCORED]
    assert original.shape == (SCORED,)
    assert (within - original).norm() / original.norm() <= 1e-5
    torch.testing.assert_close(scores.softmax(0)[vocabulary.text : vocabulary.text + SCORED], original.softmax(0))
    assert scores.softmax(0)[: vocabulary.text].max() == 0


def test_nothing_is_to_be_saved_and_no_bias_is_exported(folder: Path, exported: tuple[Path, Vocabulary]) -> None:
    assert saved_bias(folder, COSYVOICE3) is None
    into, vocabulary = exported
    with safe_open(into / "model.safetensors", "pt") as file:
        assert "lm_head.bias" not in file.keys()  # noqa: SIM118 - no mapping
        assert file.get_slice("lm_head.weight").get_shape() == [vocabulary.size, 64]
        assert file.get_slice("model.embed_tokens.weight").get_shape() == [vocabulary.size, 64]
    config = json.loads((into / "config.json").read_text())
    assert (config["eos_token_id"], config["use_bias"]) == (vocabulary.text + SPEECH_TOKENS + 1, False)


def test_text_becomes_the_same_ids_with_the_exported_tokenizer(folder: Path, exported: tuple[Path, Vocabulary]) -> None:
    into, _ = exported
    theirs, mine = AutoTokenizer.from_pretrained(into), TextTokenizer(folder, COSYVOICE3.added)
    for text in ("Hello, world 3.14!", "道[j][ǐ]予，[HH][AH0][L][OW1]。", "ha [laughter] ha"):
        assert theirs(text, add_special_tokens=False).input_ids == mine.encode(text).tolist()
    closed = theirs("hi<|endofprompt|>", add_special_tokens=False).input_ids
    assert closed == mine.closed("hi").tolist()
