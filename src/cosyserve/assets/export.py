"""From `llm.pt` to a Qwen2 in Hugging Face's format, which TensorRT-LLM's conversion reads.

The embeddings and the head for speech become rows of one vocabulary (`engine.vocabulary`). Tensors go from the
mapped file to the new one in blocks, so memory stays small whatever the model's size. A change of what is exported
raises `engine_key.EXPORT`.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from cosyserve import errors
from cosyserve.cosyvoice.engine.vocabulary import Vocabulary
from cosyserve.cosyvoice.frontend.edition import COSYVOICE2, Edition
from cosyserve.cosyvoice.frontend.marks import CONTROLS
from cosyserve.cosyvoice.frontend.tokenizer import FOLDER, MERGES, VOCABULARY, TextTokenizer
from cosyserve.cosyvoice.model import loading
from cosyserve.cosyvoice.model.config import LlmConfig
from cosyserve.cosyvoice.model.loading import FILES, WeightsError
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.errors import CosyError

_ROWS = 8192  # of a table that are in memory at once
_PREFIX = "llm.model."
_NAMES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}
_CHAT = (
    "{%- for message in messages %}{%- if message['role'] == 'user' %}{{- '<|sos|>' + message['content'] + "
    "'<|task_id|>' }}{%- elif message['role'] == 'assistant' %}{{- message['content'] }}{%- endif %}{%- endfor %}"
)

Blocks = Callable[[], Iterator[Tensor]]


@dataclass(frozen=True)
class Piece:
    """A tensor of the new file, and how it is made."""

    shape: tuple[int, ...]
    blocks: Blocks

    @property
    def count(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


def export(folder: Path, into: Path, dtype: torch.dtype = torch.bfloat16, edition: Edition = COSYVOICE2) -> Vocabulary:
    """Write the model of `folder` into the new folder `into`; raises `CS-BUILD-006`. Scores are those of the original
    once `Vocabulary.bias` is added to them."""
    try:
        config = edition.config(folder).llm
        tokenizer = TextTokenizer(folder, edition.added)
        state = _checked(folder / FILES["llm"], config)
    except WeightsError as error:
        raise CosyError(errors.EXPORT_UNUSABLE, reason=error) from error
    vocabulary = Vocabulary.of(config, tokenizer.size)
    into.mkdir(parents=True)
    with (into / "model.safetensors").open("wb") as file:
        _write(file, _pieces(state, config, vocabulary), dtype)
    _write_json(into / "config.json", _config(config, vocabulary, dtype))
    _write_json(into / "generation_config.json", _generation(vocabulary))
    _write_tokenizer(folder / FOLDER, into, tokenizer, vocabulary)
    return vocabulary


def saved_bias(folder: Path, edition: Edition = COSYVOICE2) -> Tensor | None:
    """What has to be kept beside an engine: the bias (vocabulary,) that its own head has no room for; None where the
    model has none."""
    try:
        config, text = edition.config(folder).llm, TextTokenizer(folder, edition.added).size
    except WeightsError as error:
        raise CosyError(errors.EXPORT_UNUSABLE, reason=error) from error
    vocabulary = Vocabulary.of(config, text)
    return vocabulary.bias(head_bias(folder)) if vocabulary.rows.biased else None


def head_bias(folder: Path) -> Tensor:
    """The bias (6564,) of the head for speech, in float32."""
    try:
        return loading.read_table(folder / FILES["llm"])["llm_decoder.bias"].float().clone()
    except (WeightsError, KeyError) as error:
        raise CosyError(errors.EXPORT_UNUSABLE, reason=error) from error


def _checked(path: Path, config: LlmConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        llm = Llm(config)
    state = loading.read_table(path)
    loading.check(llm, state, path)
    return state


def _pieces(state: dict[str, Tensor], config: LlmConfig, vocabulary: Vocabulary) -> dict[str, Piece]:
    """By the names that Qwen2 has. The text's own head is the text's embedding, and left out."""
    table = (vocabulary.size, config.hidden)
    text = state[f"{_PREFIX}model.embed_tokens.weight"]
    embedding = [text[: vocabulary.text], state["speech_embedding.weight"]]
    embedding += [state["llm_embedding.weight"]] if "llm_embedding.weight" in state else []
    head = state["llm_decoder.weight"]
    pieces = {
        key.removeprefix(_PREFIX): Piece(tuple(value.shape), _whole(value))
        for key, value in state.items()
        if key.startswith(f"{_PREFIX}model.") and "embed_tokens" not in key
    }
    pieces["model.embed_tokens.weight"] = Piece(table, _rows(embedding, vocabulary.size))
    without = head.new_zeros((1, config.hidden)).expand(vocabulary.text, -1)
    pieces["lm_head.weight"] = Piece(table, _rows([without, head], vocabulary.size))
    if (
        vocabulary.rows.biased
    ):  # as the public export; TensorRT-LLM reads no bias, which is why `Vocabulary.bias` exists
        bias = state["llm_decoder.bias"]
        outside = bias.new_full((1,), -torch.inf).expand(vocabulary.text)
        pieces["lm_head.bias"] = Piece(table[:1], _rows([outside, bias], vocabulary.size, -torch.inf))
    return pieces


def _whole(value: Tensor) -> Blocks:
    def blocks() -> Iterator[Tensor]:
        yield value
        loading.forget(value)

    return blocks


def _rows(parts: list[Tensor], size: int, rest: float = 0.0) -> Blocks:
    """The parts under each other, then rows of `rest` up to `size`."""

    def blocks() -> Iterator[Tensor]:
        for part in parts:
            for begin in range(0, len(part), _ROWS):
                block = part[begin : begin + _ROWS]
                yield block
                if block.is_contiguous():  # not one row that is repeated
                    loading.forget(block)
        yield parts[0].new_full((size - sum(map(len, parts)), *parts[0].shape[1:]), rest)

    return blocks


def _write(file: BinaryIO, pieces: dict[str, Piece], dtype: torch.dtype) -> None:
    """The safetensors format: the length of a table of contents, the table, the bytes in its order (by name)."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, piece in sorted(pieces.items()):
        end = place + piece.count * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(piece.shape), "data_offsets": [place, end]}
        place = end
    contents = json.dumps(header, separators=(",", ":")).encode()
    contents += b" " * (-len(contents) % 8)
    file.write(len(contents).to_bytes(8, "little"))
    file.write(contents)
    for _, piece in sorted(pieces.items()):
        for block in piece.blocks():
            file.write(block.to(dtype).contiguous().view(torch.uint8).numpy().data)


def _config(config: LlmConfig, vocabulary: Vocabulary, dtype: torch.dtype) -> dict[str, object]:
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": vocabulary.size,
        "hidden_size": config.hidden,
        "intermediate_size": config.feed_forward,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "hidden_act": "silu",
        "rms_norm_eps": config.epsilon,
        "rope_theta": config.rope_theta,
        "max_position_embeddings": 32_768,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        "use_sliding_window": False,
        "tie_word_embeddings": False,
        "use_bias": vocabulary.rows.biased,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "eos_token_id": vocabulary.end,
    }


def _generation(vocabulary: Vocabulary) -> dict[str, object]:
    """Nearest to how the model is sampled here that a plain generation has."""
    return {"do_sample": True, "temperature": 1.0, "top_p": 0.8, "top_k": 25, "eos_token_id": list(vocabulary.stops)}


def _write_tokenizer(source: Path, into: Path, tokenizer: TextTokenizer, vocabulary: Vocabulary) -> None:
    for name in (VOCABULARY, MERGES):
        shutil.copyfile(source / name, into / name)
    first = vocabulary.text - len(tokenizer.added)
    added = {name: first + place for place, name in enumerate(tokenizer.added)} | vocabulary.names()
    _write_json(into / "added_tokens.json", added)
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    decoder = {
        str(number): {"content": name, **flags, "special": number < vocabulary.text} for name, number in added.items()
    }
    _write_json(
        into / "tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "add_prefix_space": False,
            "added_tokens_decoder": decoder,
            "chat_template": _CHAT,
            "clean_up_tokenization_spaces": False,
            "eos_token": CONTROLS[0],
            "pad_token": CONTROLS[0],
            "bos_token": None,
            "unk_token": None,
            "errors": "replace",
            "model_max_length": 32_768,
        },
    )


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
