"""What `make run-local` does between its base environment and the server: ask whether CosyVoice is to speak, and bring
what a server of these settings lacks."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import click

from cosyserve import errors, logs
from cosyserve.cli.assets import fetcher
from cosyserve.cli.shared import listens
from cosyserve.command import command
from cosyserve.errors import CosyError
from cosyserve.files import write_atomically
from cosyserve.host import gpu
from cosyserve.host.report import Text, language
from cosyserve.machine import Machine, on_windows_disk
from cosyserve.server.listening import expect_free
from cosyserve.server.wyoming import address as wyoming
from cosyserve.settings import OFF_WINDOWS, Settings, load_settings, open_telemetry_variables
from cosyserve.store.chosen import chosen, chosen_folder
from cosyserve.store.disk import Folder, human
from cosyserve.traces.start import asked_by

_ENVIRONMENT = os.path.relpath(sys.prefix)  # of the clone that this runs in
_REFUSED = "cosyvoice2-refused"
# Downloads of PyTorch 2.13: the build for processors, as measured, and that for a card, which was not.
_PYTORCH = Text("about 0.2 GB", "约 0.2 GB")
_PYTORCH_FOR_CARD = Text("several GB with NVIDIA's libraries", "含 NVIDIA 的库，数 GB")


@click.command(hidden=True, add_help_option=False, context_settings={"ignore_unknown_options": True})
@listens
@click.option("--replicas", type=int)
@click.argument("others", nargs=-1, type=click.UNPROCESSED)
def set_up(host: str | None, port: int | None, replicas: int | None, others: tuple[str, ...]) -> None:
    """In a clone, install what `serve` needs with the same arguments."""
    settings = load_settings(host=host, port=port, replicas=replicas)
    settings.check_paths()
    wyoming.expect_usable(settings, is_free="--take-over" not in others)
    if "--take-over" not in others:
        expect_free(settings.host, settings.port)
    logs.start(settings, unasked="text")
    _say_where_models_go(settings)
    if settings.synthesizer != "preview":
        _bring_cosyvoice(settings)
    if settings.replicas:
        _script("scripts/setup", _ENVIRONMENT, "main", "scale")
    if asked_by(open_telemetry_variables()):
        _script("scripts/setup", _ENVIRONMENT, "main", "traces")


def _say_where_models_go(settings: Settings) -> None:
    if on_windows_disk(Machine(), Path.cwd()) and settings.models_dir == Path.home() / OFF_WINDOWS:
        click.echo(
            f"set-up: this clone is on a disk of Windows, which is slow; models: {settings.models_dir}", err=True
        )


def _bring_cosyvoice(settings: Settings) -> None:
    """Fetches the model if the user wants it, and what an existing model needs."""
    folder = chosen_folder(settings)
    if not folder.usable and _asks(settings):
        if not _wanted(settings, folder):
            _remember_refusal(settings)
            return
        fetcher(settings, chosen(settings)).run()
    # Replicas on another Python have their packages there.
    if chosen_folder(settings).exists and settings.replica_python is None:
        _script("scripts/setup", _ENVIRONMENT, "main", "cosyvoice2")
        _script("scripts/setup-torch", _ENVIRONMENT, "auto")


def _asks(settings: Settings) -> bool:
    """Whether there is a user to ask who has not refused before."""
    # Whoever starts us without standard descriptors has given Python none of its streams.
    streams = (sys.stdin, sys.stdout, sys.stderr)
    if settings.offer == "never" or not all(stream is not None and stream.isatty() for stream in streams):
        return False
    asked_for = settings.offer == "always" or settings.insists
    return asked_for or not _has_refused(settings)


def _wanted(settings: Settings, folder: Folder) -> bool:
    size = human(sum(file.expected for file in folder.lacking()))
    has_card = bool(gpu.cards(Machine()))
    text = _question(folder, size, _PYTORCH_FOR_CARD if has_card else _PYTORCH, has_card=has_card)
    return click.confirm(text.zh if language() == "zh" else text.en, err=True)


def _question(folder: Folder, size: str, pytorch: Text, *, has_card: bool) -> Text:
    name, place = folder.model.title, folder.path
    slow = "" if has_card else "\n       Without a graphics card it is slow: seconds for each second of speech."
    slow_zh = "" if has_card else "\n     没有显卡时较慢：合成一秒语音需要数秒。"
    return Text(
        f"{name} is not in {place} yet.\n"
        f"  yes  The model ({size}) and PyTorch ({pytorch.en}) are downloaded; then\n"
        f"       {name} speaks.{slow}\n"
        f"  no   The preview voice speaks now: clear, and like a machine.\n"
        f"       {command()} fetch, and a new start, bring {name} later.\n"
        "       COSYSERVE_OFFER=always brings this question back.\n"
        f"Fetch {name} now?",
        f"{place} 中还没有 {name}。\n"
        f"  y  下载模型（{size}）和 PyTorch（{pytorch.zh}），完成后由 {name} 发声。{slow_zh}\n"
        "  n  现在使用预览语音：清晰，但像机器。\n"
        f"     之后可随时运行 {command()} fetch 并重新启动；\n"
        "     设置 COSYSERVE_OFFER=always 会再次询问。\n"
        f"现在下载 {name} 吗？",
    )


def _has_refused(settings: Settings) -> bool:
    with suppress(RuntimeError):  # there is no home
        return (settings.state_dir.expanduser() / _REFUSED).exists()
    return False


def _remember_refusal(settings: Settings) -> None:
    told = (
        "make run-local asked whether to fetch CosyVoice, and the answer was no. COSYSERVE_OFFER=always asks again.\n"
    )
    with suppress(OSError, RuntimeError):  # then it is asked again; the second where there is no home
        write_atomically(settings.state_dir.expanduser() / _REFUSED, told)


def _script(*argv: str) -> None:
    """Runs one of the clone's scripts, which reports for itself what it does and what is wrong."""
    if subprocess.run(argv, check=False).returncode != 0:  # noqa: S603 - our own
        raise CosyError(errors.SET_UP_FAILED)
