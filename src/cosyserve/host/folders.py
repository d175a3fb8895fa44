"""Whether folders can be written to: a volume often belongs to another user."""

import os
from pathlib import Path

from cosyserve.errors import CosyError
from cosyserve.host.ownership import expect_ours, expect_readable, mending
from cosyserve.host.report import Check, Finding, Text
from cosyserve.machine import Machine, is_container, nearest
from cosyserve.settings import KEY_FILE, Settings

FOLDERS = Check("CS-HOST-013", Text("Folders", "数据目录"))
VOLUME = Check("CS-HOST-014", Text("Volume", "数据卷"))


def folders(settings: Settings, machine: Machine, *, key_is_made: bool) -> Finding:
    """`key_is_made` tells that a server without a place for its key, or without that key, cannot start."""
    asked = {
        "COSYSERVE_MODELS_DIR": settings.models_dir,
        "COSYSERVE_VOICES_DIR": settings.voices_dir,
        "COSYSERVE_STATE_DIR": _home(settings.state_dir),
    }
    state = asked["COSYSERVE_STATE_DIR"]
    try:
        settings.check_paths()
        expect_ours(settings)
        if key_is_made and state is not None:
            expect_readable(state / KEY_FILE)
    except CosyError as error:
        return FOLDERS.fail(Text(error.cause, error.cause_zh), Text(error.remedy, error.remedy_zh))
    refused = {name: folder for name, folder in asked.items() if folder is not None and not _writable(folder)}
    if not refused:
        names = ", ".join(str(folder) for folder in asked.values() if folder is not None)
        return FOLDERS.ok(Text(f"{names}: writable", f"{names}：可写"))
    name, folder = ("COSYSERVE_STATE_DIR", state)
    if name not in refused:
        name, folder = next(iter(refused.items()))
    place = nearest(folder or Path())
    owner, own = place.stat().st_uid, os.geteuid()
    cause = Text(
        f"{folder} ({name}) cannot be written to: {place} belongs to user {owner}, and this is user {own}",
        f"{folder}（{name}）无法写入：{place} 属于用户 {owner}，当前用户为 {own}",
    )
    line = mending(place, machine)
    remedy = Text(
        f"run `{line}` on the machine that has it, or choose another folder with {name}",
        f"在文件所在的机器上运行 `{line}`，或用 {name} 指定其他目录",
    )
    report = FOLDERS.fail if key_is_made and "COSYSERVE_STATE_DIR" in refused else FOLDERS.warn
    return report(cause, remedy, refused={name: str(folder) for name, folder in refused.items()})


def volume(machine: Machine, folder: Path) -> Finding:
    """Whether what is fetched and built outlives the container."""
    if not is_container(machine):
        return VOLUME.skipped(Text("no container", "不在容器中"))
    place = nearest(folder)
    while not os.path.ismount(place):
        place = place.parent
    if place == Path("/"):
        return VOLUME.warn(
            Text(
                f"{folder} is inside the container: models, engines and voices are lost with it",
                f"{folder} 位于容器内部：模型、引擎和音色会随容器一起丢失",
            ),
            Text("docker run -v cosyserve:/data …", "docker run -v cosyserve:/data …"),
        )
    return VOLUME.ok(Text(f"{folder} on {place}", f"{folder} 位于 {place}"))


def _home(folder: Path) -> Path | None:
    try:
        return folder.expanduser()
    except RuntimeError:  # there is no home, and nothing is kept
        return None


def _writable(folder: Path) -> bool:
    return os.access(nearest(folder), os.W_OK | os.X_OK)
