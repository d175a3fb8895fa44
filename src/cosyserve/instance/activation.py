"""Activates a release: it is checked beside the one that serves, started, and only then made current."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dotenv
import psutil

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.files import write_atomically
from cosyserve.host import gpu, system
from cosyserve.host.report import Report, Verdict
from cosyserve.instance import hook, servers
from cosyserve.instance.home import Home, Release
from cosyserve.instance.servers import Running, Say
from cosyserve.machine import Machine
from cosyserve.settings import PREFIX, Settings, env_text, settings_in
from cosyserve.store.kernels import FOLDER as KERNELS

_CHECK_SECONDS = 180
_BESIDE = 1.2  # free memory, as a share of what the running server has, with which a second one is started
_MODEL_MEMORY = 8 * system.GIB  # what an instance without a card needs for CosyVoice2, and no-GPU mode does not have

_SECRET = 0o600  # keys may stand among the settings

# What a new installation's settings say. The streams of a server that is replaced have all the time they need.
_FIRST_SETTINGS = {"STATE_DIR": "state", "LOG_FILE": "logs/server.log", "LOG_FORMAT": "text", "GRACE_SECONDS": "3600"}


def configure(home: Home, changes: Mapping[str, str]) -> None:
    """Write settings into shared/.env and keep its other lines. An empty value removes a line."""
    file = home.shared / ".env"
    if not file.exists():
        write_atomically(file, "# docs/settings.md lists all settings.\n", _SECRET)
        changes = {**_FIRST_SETTINGS, **changes}
    env_text(file)
    for name, value in changes.items():
        if value:
            dotenv.set_key(file, PREFIX + name, value, quote_mode="never")
        elif PREFIX + name in dotenv.dotenv_values(file):
            dotenv.unset_key(file, PREFIX + name, quote_mode="never")


def waits_for_card(release: Release, machine: Machine) -> bool:
    """Whether this is AutoDL's no-GPU mode, which is too small to do more than fetch and install."""
    if release.flavour == "preview" or gpu.cards(machine):
        return False
    limit = system.memory_limit(machine) or psutil.virtual_memory().total
    return limit < _MODEL_MEMORY


def activate(home: Home, release: Release, changes: Mapping[str, str], say: Say) -> None:
    """Check a complete release and make it the current one, with these settings changed.

    The previous release serves until then. If the new one fails, the previous one continues with its own settings.
    """
    if not release.complete:
        raise CosyError(errors.RELEASE_BROKEN, release=release.name, reason="it is incomplete", log=home.log)
    configure(home, {})
    with _or_as_before(home, say):
        configure(home, changes)
        _refuse_foreign_port(home, settings_in(home.shared))
        say("checking the release · 检查新版本")
        _check(home, release)
        put_to_work(home, release, say)
    home.make_current(release)
    _install_hook(home)
    for name in home.prune({each.release for each in servers.running(home)}):
        say(f"removed the old release {name} · 已删除旧版本 {name}")


def put_to_work(home: Home, release: Release, say: Say, machine: Machine | None = None) -> None:
    """Fetch and build what it lacks, and start it. Without a card, that is left to the next boot with one."""
    wants_model = release.flavour != "preview" and settings_in(home.shared).synthesizer != "preview"
    if wants_model:
        _step(home, release, say, "fetching the model · 下载模型", "fetch")
    if waits_for_card(release, machine or Machine()):
        say("no GPU: the next boot with one builds the engine and starts the server by itself")
        say("无卡模式：引擎构建与启动将在下次有卡开机时自动进行")
        return
    if wants_model:
        _step(home, release, say, "building the engine where one can be · 按需构建引擎", "build", "--if-possible")
    replace(home, release, say)


def roll_back(home: Home, say: Say) -> Release:
    """Go back to the previous release; a second time returns to this one."""
    release = home.previous()
    if release is None:
        raise CosyError(errors.NO_PREVIOUS)
    with _or_as_before(home, say):
        replace(home, release, say)
    home.make_current(release)
    return release


def restart(home: Home, say: Say) -> None:
    """Restarts the current release with its settings as they are now."""
    release = current(home)
    with _or_as_before(home, say):
        replace(home, release, say)


def boot(home: Home, say: Say) -> None:
    """Runs when the instance has been switched on. Does nothing if a server already runs."""
    if not servers.running(home):
        put_to_work(home, current(home), say)


def current(home: Home) -> Release:
    release = home.current()
    if release is None:
        raise CosyError(errors.NOT_INSTALLED, folder=home.root)
    return release


def uninstall(home: Home, *, everything: bool, say: Say) -> None:
    """Remove what was installed; models, voices and settings stay unless `everything` should go."""
    servers.stop(home, servers.running(home), say)
    hook.remove()
    made = ("current", "releases", "run", "tools", "cache", f"shared/{_FIRST_SETTINGS['STATE_DIR']}/{KERNELS}")
    for name in (*made, *(["shared"] if everything else [])):
        path = home.root / name
        path.unlink() if path.is_symlink() else shutil.rmtree(path, ignore_errors=True)
    kept = home.shared if home.shared.exists() else None
    if kept is None and home.root.exists() and not any(home.root.iterdir()):
        home.root.rmdir()
    if kept is None:
        say("nothing is left · 已全部删除")
        return
    say(f"kept: {kept} (models, voices, settings); --all removes them too · 保留：模型、音色与设置，--all 一并删除")


def _refuse_foreign_port(home: Home, settings: Settings) -> None:
    if who := servers.foreign(settings, servers.running(home)):
        raise CosyError(errors.PORT_FOREIGN, port=settings.port, who=who)


def _check(home: Home, release: Release) -> None:
    """Run the doctor, and one synthesis with the preview; raises `CS-DEP-014`."""
    try:
        report = Report.model_validate_json(_output(home, release, "doctor", "--json", "--quick").stdout)
        reasons = [f"{each.id} {each.cause}" for each in report.findings if each.state is Verdict.FAIL]
        if not reasons:
            done = _output(home, release, "say", "你好。", "--output", "-", synthesizer="preview")
            if done.returncode or not any(done.stdout[64:]):
                reasons = [_last_line(done.stderr) or "it made no sound"]
    except (ValueError, OSError, subprocess.SubprocessError) as error:
        reasons = [f"the check itself failed: {error}"]
    if reasons:
        raise CosyError(errors.RELEASE_BROKEN, release=release.name, reason="; ".join(reasons), log=home.log)


def _output(home: Home, release: Release, *command: str, **settings: str) -> "subprocess.CompletedProcess[bytes]":
    given = {PREFIX + name.upper(): value for name, value in settings.items()}
    return subprocess.run(  # noqa: S603 - argv is a release's own interpreter
        [*release.command, *command],
        cwd=home.shared,
        env=release.environ(**given),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_CHECK_SECONDS,
        check=False,
    )


def _last_line(output: bytes) -> str:
    return next(iter(output.decode(errors="replace").strip().splitlines()[-1:]), "")


def _step(home: Home, release: Release, say: Say, title: str, *command: str) -> None:
    """Run a command of the release that reports its own failures, which do not keep a server from starting."""
    say(title)
    argv = [*release.command, *command]
    subprocess.run(argv, cwd=home.shared, env=release.environ(), stdin=subprocess.DEVNULL, check=False)  # noqa: S603


def replace(home: Home, release: Release, say: Say) -> None:
    """Start the release's server. The running one goes on until the new one speaks, unless both do not fit."""
    settings = settings_in(home.shared)
    old = servers.running(home)
    _refuse_foreign_port(home, settings)
    if old and not _can_run_beside(old, settings):
        say("there is no room for both: the old server ends first · 资源不足，先停止旧服务")
        servers.stop(home, old, say)
    say(f"starting the server on port {settings.port} · 在端口 {settings.port} 启动服务")
    new = servers.start(home, release, settings)
    try:
        key = servers.key_of(settings)
        servers.wait_until_ready(home, new, key, say)
        delay, seconds = servers.speak(settings.host, settings.port, key)
    except (CosyError, OSError) as error:
        servers.stop(home, [new], say)
        if isinstance(error, CosyError):
            raise
        raise CosyError(errors.RELEASE_BROKEN, release=release.name, reason=error, log=home.log) from error
    say(f"it speaks: {seconds:.1f} s of sound, the first of it after {delay:.2f} s · 合成正常")
    servers.stop(home, [each for each in old if each.port != settings.port], say)


def _can_run_beside(old: list[Running], settings: Settings) -> bool:
    """Whether another server fits into free memory, and does not need the same port on another address. The port for
    the Wyoming protocol is handed over with the other one, and never alone."""
    same_port, same_host = old[-1].port == settings.port, old[-1].host == settings.host
    if (same_port and not same_host) or (settings.wyoming_port and not same_port):
        return False
    used = sum(process.memory_info().rss for process in servers.family(old))
    cards = [(card.total_mib, card.free_mib) for card in gpu.cards(Machine()) if card.total_mib and card.free_mib]
    return fits(used, system.free_memory(Machine()), cards)


def fits(used: int, free: int, cards: list[tuple[int, int]]) -> bool:
    """Whether as much as a running server has is free again: bytes of memory, and of each card the total and the free
    MiB, where what is not free counts as the server's."""
    return used * _BESIDE <= free and all((total - free_mib) * _BESIDE <= free_mib for total, free_mib in cards)


@contextmanager
def _or_as_before(home: Home, say: Say) -> Iterator[None]:
    """If the body fails, restores the settings and the release that served before."""
    old = servers.running(home)
    before = env_text(home.shared / ".env")
    try:
        yield
    except BaseException:
        write_atomically(home.shared / ".env", before, _SECRET)
        if old and servers.readiness(old[-1].host, old[-1].port, key="").get("status") not in servers.READY:
            say("starting the old release again · 重新启动旧版本")
            servers.start(home, home.release(old[-1].release), settings_in(home.shared))
        raise


def _install_hook(home: Home) -> None:
    """Without the boot hook the server still runs, so a failure is reported as an error and stops nothing."""
    script = home.root / "current/autodl/boot.sh"
    try:
        hook.install(script)
    except OSError as error:
        error_text = CosyError(errors.NO_HOOK, file=hook.BOOT_FILE, reason=error.strerror, script=script)
        print(error_text, file=sys.stderr, flush=True)
