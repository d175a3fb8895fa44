"""Which synthesizer speaks, and why."""

import logging
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from cosyserve import errors
from cosyserve.assets.backend import ENGINE
from cosyserve.command import command
from cosyserve.errors import CosyError
from cosyserve.host import gpu
from cosyserve.host.report import NOTHING, Text
from cosyserve.launch.ladder import WITHOUT_MPI
from cosyserve.machine import IMAGE, Machine
from cosyserve.settings import Settings
from cosyserve.speech.preview import PreviewSynthesizer
from cosyserve.speech.synthesizer import Synthesizer
from cosyserve.store.chosen import chosen
from cosyserve.store.disk import FileState, Folder
from cosyserve.store.manifest import BASE, SPEAKING, model_of, models

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """What was chosen, and the reason as a user should read it, with the way to something better."""

    synthesizer: Synthesizer
    why: str
    why_zh: str


def choose(settings: Settings, threads: int = 1, *, relieves: bool = False) -> Choice:
    """The synthesizer that `settings.synthesizer` asks for. Nothing is guessed silently: `why` says it.

    Only `auto` falls back to the preview, so that there is a server that speaks; who names CosyVoice gets it or an
    error. A server that `relieves` another one does not fall back for want of memory, which the other one has: it
    raises `CS-GPU-102`, and the other one goes on.
    """
    if settings.synthesizer == "preview":
        return Choice(
            PreviewSynthesizer(),
            "The preview voice (eSpeak NG), because COSYSERVE_SYNTHESIZER=preview asks for it.",
            "预览语音（eSpeak NG），因为设置了 COSYSERVE_SYNTHESIZER=preview。",
        )
    name = chosen(settings)
    folder = Folder(settings.models_dir, model_of(name))
    if settings.insists:
        return _cosyvoice(settings, name, folder, threads)
    try:
        _expect_torch_in_image()
    except CosyError as error:
        return Choice(
            PreviewSynthesizer(),
            f"The preview voice (eSpeak NG). {error.cause} {error.remedy}",
            f"预览语音（eSpeak NG）。{error.cause_zh}{error.remedy_zh}",
        )
    if not folder.exists:
        return Choice(
            PreviewSynthesizer(),
            f"The preview voice (eSpeak NG), because there is no {folder.model.title} model in {folder.path}. "
            f"To download it, run: {command()} fetch; then start again.",
            f"预览语音（eSpeak NG），因为 {folder.path} 中没有 {folder.model.title} 模型。"
            f"如需下载，请运行：{command()} fetch，然后重新启动。",
        )
    try:
        return _cosyvoice(settings, name, folder, threads)
    except CosyError as error:
        if error.fault is errors.ENGINE_UNUSABLE or (relieves and error.fault is errors.GPU_MEMORY):
            raise  # the supervisor knows more ways than the preview, or there is a server that speaks
        log.error("%s", error)
        return Choice(
            PreviewSynthesizer(),
            f"The preview voice (eSpeak NG), because {folder.model.title} cannot speak: {error.cause} {error.remedy}",
            f"预览语音（eSpeak NG），因为 {folder.model.title} 无法工作：{error.cause_zh}{error.remedy_zh}",
        )


def _expect_torch_in_image() -> None:
    """Raises `CS-SYN-006` where this is a container of an image that no model can speak in."""
    if (image := os.environ.get(IMAGE)) and find_spec("torch") is None:
        raise CosyError(errors.IMAGE_WITHOUT_TORCH, image=image)


def _cosyvoice(settings: Settings, name: str, folder: Folder, threads: int) -> Choice:
    _expect_torch_in_image()
    if not folder.usable:
        files = ", ".join(file.path for file in folder.lacking() if folder.state(file) is not FileState.UNVERIFIED)
        raise CosyError(errors.NOT_FETCHED, model=folder.model.folder, folder=folder.path, files=files)
    # Before torch is loaded: oneDNN keeps what it has compiled for 1024 shapes, which looks like a leak of 100 MiB.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
    try:
        from cosyserve.cosyvoice.frontend.edition import EDITIONS
        from cosyserve.speech.cosyvoice import CosyVoiceSynthesizer
        from cosyserve.speech.runtime_config import config_for
    except ModuleNotFoundError as error:
        if error.name == "torch":
            raise CosyError(errors.TORCH_MISSING) from error
        raise CosyError(errors.PARTS_MISSING, package=error.name) from error
    config = config_for(settings, threads)
    engine = None if WITHOUT_MPI in os.environ else os.environ.get(ENGINE)
    place = Path(engine) if engine else None
    synthesizer = CosyVoiceSynthesizer(folder.path, settings.voices_dir, config, place, EDITIONS[name])
    by = f"TensorRT-LLM's engine {place.name} and PyTorch" if place else "PyTorch"
    by_zh = f"TensorRT-LLM 引擎 {place.name} 和 PyTorch" if place else "PyTorch"
    title = folder.model.title if folder.variant == BASE else f"{folder.model.title} ({folder.variant})"
    others, unused = _others(settings, name), _unused_card(settings, config.device)
    return Choice(
        synthesizer,
        f"{title} from {folder.path}, by {by} on {synthesizer.device} in {config}. "
        f"{config.why.en}{others.en}{unused.en}",
        f"{title}（{folder.path}），由 {by_zh} 在 {synthesizer.device} 上以 {config} 运行。"
        f"{config.why.zh}{others.zh}{unused.zh}",
    )


def _others(settings: Settings, name: str) -> Text:
    """What else could speak, where nobody has said which."""
    there = [each for each in SPEAKING if each in models() and Folder(settings.models_dir, model_of(each)).exists]
    if settings.named_model or there in ([], [name]):
        return NOTHING
    other = next(each for each in there if each != name)
    return Text(
        f" {SPEAKING[other]} is there, too: COSYSERVE_MODEL={other} would have it speak.",
        f"{SPEAKING[other]} 也已存在：设置 COSYSERVE_MODEL={other} 可改用它。",
    )


def _unused_card(settings: Settings, device: str) -> Text:
    """A card that somebody pays for and nobody uses is not kept quiet."""
    import torch

    if device != "cpu" or settings.device == "cpu":
        return NOTHING
    why = gpu.why_unused(Machine(), torch.version.cuda)
    if why is None:
        return NOTHING
    return Text(
        f" {why.en}. Update the driver, or install PyTorch for it: uv pip install --torch-backend auto torch.",
        f"{why.zh}。请更新驱动，或安装与之匹配的 PyTorch：uv pip install --torch-backend auto torch。",
    )
