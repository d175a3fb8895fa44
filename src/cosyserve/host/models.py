"""Models and engines on disk: there, whole by their size, and of the version that is installed."""

import json
from pathlib import Path

from cosyserve.host.report import Check, Finding, Text
from cosyserve.host.system import installed

WEIGHTS = Check("CS-MODEL-001", Text("Weights", "模型权重"))
ENGINES = Check("CS-MODEL-002", Text("Engines", "引擎"))

# Sizes in bytes as published for CosyVoice2-0.5B (Hugging Face revision eec1ae6c).
COSYVOICE2 = {
    "llm.pt": 2_023_316_821,
    "flow.pt": 450_575_567,
    "hift.pt": 83_390_254,
    "speech_tokenizer_v2.onnx": 496_082_973,
    "campplus.onnx": 28_303_423,
}


def weights(folder: Path) -> Finding:
    model = folder / "CosyVoice2-0.5B"
    if not model.is_dir():
        return WEIGHTS.skipped(
            Text(f"none in {model}; the preview voice needs none", f"{model} 中没有；预览语音不需要")
        )
    wrong = [name for name, size in COSYVOICE2.items() if _size(model / name) != size]
    if wrong:
        return WEIGHTS.warn(
            Text(f"missing or not whole in {model}: {', '.join(wrong)}", f"{model} 中缺失或不完整：{'、'.join(wrong)}"),
            Text("delete these files and download them again", "请删除这些文件并重新下载"),
            folder=str(model),
            wrong=wrong,
        )
    return WEIGHTS.ok(Text(f"whole in {model}", f"{model} 中完整"), folder=str(model))


def engines(folder: Path) -> Finding:
    """An engine names the TensorRT-LLM it was built with in its config.json; another version cannot load it."""
    found = sorted(config for config in folder.glob("**/config.json") if (config.parent / "rank0.engine").exists())
    if not found:
        return ENGINES.skipped(Text(f"none in {folder}", f"{folder} 中没有"))
    here = installed("tensorrt-llm")
    built = {str(config.parent): _built_with(config) for config in found}
    wrong = {place: version for place, version in built.items() if here and version != here}
    if wrong:
        place, version = next(iter(wrong.items()))
        return ENGINES.warn(
            Text(
                f"{place} was built with TensorRT-LLM {version}, and {here} is installed",
                f"{place} 由 TensorRT-LLM {version} 构建，当前安装的是 {here}",
            ),
            Text(f"rm -r {place}, and build it again", f"rm -r {place}，然后重新构建"),
            engines=built,
        )
    return ENGINES.ok(Text(", ".join(built), "、".join(built)), engines=built)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _built_with(config: Path) -> str:
    try:
        return str(json.loads(config.read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return "?"
