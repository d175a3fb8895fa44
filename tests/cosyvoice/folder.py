"""Model folders of the released layouts with small, seeded weights: what loads them is what loads the real ones.

Its ONNX files are stand-ins of the released ones' interface: the tokenizer's ids follow the loudness of the mel, the
speaker's embedding is a fixed projection of the mean filter bank.
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import pre_tokenizers

from cosyserve.cosyvoice.model.config import SPEECH_TOKENS, Config, Config3
from tests.cosyvoice.seeded import SIZES3, TINY, Model, Model3, seeded, seeded3

_IR, _OPSET = 9, 17  # old enough for every onnxruntime in the lock files
_SPEAKER = 192
_TINY3 = SIZES3["tiny3"]
SMALL3 = dataclasses.replace(_TINY3, llm=dataclasses.replace(_TINY3.llm, vocabulary=1024))
_STOPS = 5.0  # added to the score of the end: about every fifth token then ends the speech


def make_model(folder: Path) -> Path:
    """The folder, with everything that a synthesizer needs."""
    folder.mkdir(parents=True)
    model = seeded(TINY)
    with torch.no_grad():  # it ends soon after the least length, as speech does; drawn at random it would hardly ever
        model.llm.llm_decoder.bias[SPEECH_TOKENS] += _STOPS
    _write_weights(folder, model, TINY)
    write_tokenizer(folder)
    onnx.save(speech_tokenizer(), folder / "speech_tokenizer_v2.onnx")
    onnx.save(speaker_encoder(), folder / "campplus.onnx")
    return folder


def make_model3(folder: Path) -> Path:
    """The same for CosyVoice3. One of its 200 stops comes soon by itself."""
    folder.mkdir(parents=True)
    _write_weights(folder, seeded3(SMALL3), SMALL3)
    write_tokenizer(folder)
    onnx.save(speech_tokenizer(scale=2e4), folder / "speech_tokenizer_v3.onnx")
    onnx.save(speaker_encoder(), folder / "campplus.onnx")
    return folder


def _write_weights(folder: Path, model: Model | Model3, sizes: Config | Config3) -> None:
    for name, module in (("llm", model.llm), ("flow", model.flow), ("hift", model.hift)):
        torch.save(module.state_dict(), folder / f"{name}.pt")
    (folder / "sizes.json").write_text(json.dumps(dataclasses.asdict(sizes)))


def write_tokenizer(folder: Path) -> None:
    """Every byte is a token, and two pairs are."""
    place = folder / "CosyVoice-BlankEN"
    place.mkdir()
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "he", "ll"]
    (place / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (place / "merges.txt").write_text("#version: 0.2\nh e\nl l\n")


def speech_tokenizer(mels: int = 128, scale: float = 1e4) -> onnx.ModelProto:
    """(1, 128, T) and its length to ids (1, T / 4)."""
    constants = {
        "axis": np.array([1]),
        "starts": np.array([0]),
        "ends": np.array([2**31]),
        "steps": np.array([4]),
        "scale": np.array(scale, np.float32),
        "ids": np.array(SPEECH_TOKENS, np.int32),
    }
    nodes = [
        helper.make_node("ReduceMean", ["feats"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Slice", ["mean", "starts", "ends", "axis", "steps"], ["each"]),
        helper.make_node("Mul", ["each", "scale"], ["large"]),
        helper.make_node("Abs", ["large"], ["positive"]),
        helper.make_node("Cast", ["positive"], ["whole"], to=TensorProto.INT32),
        helper.make_node("Mod", ["whole", "ids"], ["indices"]),
    ]
    inputs = [
        helper.make_tensor_value_info("feats", TensorProto.FLOAT, [1, mels, "T"]),
        helper.make_tensor_value_info("feats_length", TensorProto.INT32, [1]),
    ]
    return _model(nodes, inputs, helper.make_tensor_value_info("indices", TensorProto.INT32, [1, "N"]), constants)


def speaker_encoder(size: int = _SPEAKER) -> onnx.ModelProto:
    """(1, T, 80) to (1, 192)."""
    projection = np.random.default_rng(0).standard_normal((80, size)).astype(np.float32)
    nodes = [
        helper.make_node("Abs", ["input"], ["positive"]),
        helper.make_node("ReduceMean", ["positive"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "projection"], ["output"]),
    ]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, "T", 80])]
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, size])
    return _model(nodes, inputs, output, {"projection": projection})


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    output: onnx.ValueInfoProto,
    constants: dict[str, NDArray[np.generic]],
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "stand-in", inputs, [output], tensors)
    return helper.make_model(graph, ir_version=_IR, opset_imports=[helper.make_opsetid("", _OPSET)])


if __name__ == "__main__":
    import sys

    print(make_model(Path(sys.argv[1])))
