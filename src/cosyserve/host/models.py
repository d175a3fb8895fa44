"""Models and engines on disk: present, of the right size, and of the installed version."""

import json
import os
from pathlib import Path

from cosyserve.command import command
from cosyserve.host.report import Check, Finding, Text
from cosyserve.host.system import installed
from cosyserve.settings import Settings
from cosyserve.store.chosen import chosen_folder
from cosyserve.store.disk import FileState
from cosyserve.store.manifest import BASE

WEIGHTS = Check("CS-MODEL-001", Text("Weights", "模型权重"))
ENGINES = Check("CS-MODEL-002", Text("Engines", "引擎"))


def are_there(settings: Settings) -> bool:
    """Whether any file of the chosen model is there. Waits for a disk that hangs."""
    return chosen_folder(settings).exists


def weights(settings: Settings) -> Finding:
    folder = chosen_folder(settings)
    name = folder.model.title if folder.variant == BASE else f"{folder.model.title} ({folder.variant})"
    if not folder.exists:
        return WEIGHTS.skipped(
            Text(f"none in {folder.path}; the preview voice needs none", f"{folder.path} 中没有；预览语音不需要")
        )
    facts = {"folder": str(folder.path), "model": name}
    if folder.of_another_size:
        return WEIGHTS.ok(
            Text(f"{name} of other sizes in {folder.path}", f"{folder.path} 中为其他规格的 {name}"), **facts
        )
    wrong = [file.path for file in folder.model.files if folder.state(file) in (FileState.MISSING, FileState.CHANGED)]
    if wrong:
        return WEIGHTS.warn(
            Text(
                f"{name}, missing or incomplete in {folder.path}: {', '.join(wrong)}",
                f"{name}，{folder.path} 中缺失或不完整：{'、'.join(wrong)}",
            ),
            Text(f"{command()} fetch", f"{command()} fetch"),
            **facts,
            wrong=wrong,
        )
    return WEIGHTS.ok(Text(f"{name}, complete in {folder.path}", f"{name}，{folder.path} 中完整"), **facts)


def engines(folder: Path) -> Finding:
    """An engine names the TensorRT-LLM it was built with in its config.json; another version cannot load it."""
    places = folder.glob("**/config.json") if os.access(folder, os.R_OK | os.X_OK) else ()
    found = sorted(config for config in places if (config.parent / "rank0.engine").exists())
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


def _built_with(config: Path) -> str:
    try:
        return str(json.loads(config.read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return "?"
