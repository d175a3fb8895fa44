"""What will be done on an instance, and why: pure functions that turn what was found there into scripts and words."""

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from cosyserve import errors
from cosyserve.errors import CosyError
from cosyserve.host.report import Text
from cosyserve.remote import effects
from cosyserve.remote.bundle import Bundle, Flavour
from cosyserve.remote.survey import Instance

DATA_DISK = "/root/autodl-tmp"
DEFAULT_FOLDER = f"{DATA_DISK}/cosyserve"
DEFAULT_PORT = 6008
_UNLESS_WRITTEN = {"PORT": str(DEFAULT_PORT), "HOST": "127.0.0.1", "IDLE_SHUTDOWN_MINUTES": "0"}
# Room for an environment and its downloads. The preview's was measured, the others are estimates.
_NEEDED_MIB: dict[Flavour, int] = {"preview": 500, "slim": 10_000, "cuda12": 25_000, "cuda13": 25_000}


@dataclass(frozen=True)
class Options:
    """The user's options. An empty or None value keeps the instance's setting."""

    folder: str = DEFAULT_FOLDER
    flavour: Flavour | None = None
    port: int | None = None
    public: bool | None = None
    idle_minutes: float | None = None
    indexes: tuple[str, ...] = ()
    torch_index: str | None = None  # for the flavours with TensorRT-LLM


@dataclass(frozen=True)
class Step:
    """A script for the instance's bash. `data` is sent to its standard input; a `followed` one is a job whose output is
    shown until it ends."""

    title: Text
    why: str
    script: str
    data: bytes = b""
    followed: bool = False


@dataclass(frozen=True)
class DeployPlan:
    """`notes` say which settings apply and why, `touched` each file or folder on the instance that will be written, and
    how."""

    before: str | None
    release: str
    flavour: Flavour
    needed_mib: int
    port: int
    steps: tuple[Step, ...]
    notes: tuple[Text, ...] = ()
    touched: Mapping[str, Text] = field(default_factory=dict)


def plan(instance: Instance, bundle: Bundle, options: Options, why_flavour: Text) -> DeployPlan:
    """The steps from the instance's state to a speaking server; none if there is nothing to do. Raises `CS-DEP-009` and
    `-018`."""
    root, asked = options.folder, _asked(options)
    changes = _changes(instance, asked)
    before = instance.settings.get("PORT", "")
    port = options.port or (int(before) if before.isdecimal() else DEFAULT_PORT)
    steps: list[Step] = []
    missing = bundle.name not in instance.complete
    needed = _NEEDED_MIB[bundle.flavour]
    key = _job_key(bundle, options)
    if instance.job is not None and instance.job != key:
        raise CosyError(errors.BUSY, release=instance.job.partition(" ")[0])
    if missing and instance.job is None:
        if (instance.free_mib or 0) + instance.cached_mib < needed:  # what is there already need not fit again
            raise CosyError(
                errors.INSTANCE_FULL,
                folder=root.rpartition("/")[0],
                free=f"{instance.free_mib} MiB",
                needed=f"{needed} MiB",
                flavour=bundle.flavour,
            )
        steps.append(_send(bundle, root))
    if missing or changes or not _at_work(instance, bundle):
        steps.append(_job(bundle, options, changes, key))
    return DeployPlan(
        instance.current,
        bundle.name,
        bundle.flavour,
        needed,
        port,
        tuple(steps),
        (
            Text(f"{bundle.flavour}: {why_flavour.en}", f"{bundle.flavour}：{why_flavour.zh}"),
            *effects.settings(instance, asked, _UNLESS_WRITTEN),
            *_notes(instance, options, port),
        ),
        effects.touched(instance, bundle, root, changes, needed) if steps else {},
    )


def _at_work(instance: Instance, bundle: Bundle) -> bool:
    """Whether it already serves, or will at the next boot with a card."""
    serves = instance.status.get("serving") == bundle.name or instance.status.get("state") == "waits for a GPU"
    return instance.current == bundle.name and serves


def _asked(options: Options) -> dict[str, str]:
    """The settings that are asked for."""
    wanted = {
        "PORT": None if options.port is None else str(options.port),
        "HOST": None if options.public is None else ("0.0.0.0" if options.public else "127.0.0.1"),  # noqa: S104
        "IDLE_SHUTDOWN_MINUTES": None if options.idle_minutes is None else f"{options.idle_minutes:g}",
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _changes(instance: Instance, asked: Mapping[str, str]) -> dict[str, str]:
    """The settings to write: those asked for that differ from the present ones."""
    return {name: value for name, value in asked.items() if value != instance.settings.get(name, _UNLESS_WRITTEN[name])}


def _notes(instance: Instance, options: Options, port: int) -> list[Text]:
    notes = []
    if instance.autodl and port not in (6006, 6008):
        notes.append(
            Text(f"AutoDL can publish 6006 and 6008, not {port}", f"AutoDL 只能公开 6006 和 6008 端口，{port} 不能公开")
        )
    if options.public and not instance.public:
        notes.append(
            Text(
                "no public address is known for this instance: the SSH tunnel works all the same",
                "未发现该实例的公网地址，可使用 SSH 隧道",
            )
        )
    return notes


def _send(bundle: Bundle, root: str) -> Step:
    root, name = shlex.quote(root), shlex.quote(bundle.name)
    return Step(
        Text(f"send the release {bundle.name}", f"上传版本 {bundle.name}"),
        f"{len(bundle.data) / 1024:.0f} KiB: our wheel, hashed requirements, scripts. Unpacked under another name, "
        "which is changed once all of it is there.",
        f"""set -eu
mkdir -p {root}/releases {root}/run {root}/cache
new={root}/cache/new-{name}
rm -rf "$new"; mkdir "$new"
cat >"$new.tar.gz"
echo "{bundle.sha256}  $new.tar.gz" | sha256sum --check --quiet
tar -xzf "$new.tar.gz" -C "$new" --no-same-owner
rm "$new.tar.gz"
[ -d {root}/releases/{name} ] || mv -T "$new" {root}/releases/{name}
rm -rf "$new"
""",
        data=bundle.data,
    )


def _job_key(bundle: Bundle, options: Options) -> str:
    """The release and a digest of its options, so the same command finds its own work again."""
    rest = hashlib.sha256(repr(options).encode()).hexdigest()[:8]
    return f"{bundle.name} {rest}"


def _job(bundle: Bundle, options: Options, changes: dict[str, str], key: str) -> Step:
    root = shlex.quote(options.folder)
    indexes = "".join(f" {shlex.quote(index)}" for index in options.indexes)
    settings = "".join(f" --set {shlex.quote(f'{name}={value}')}" for name, value in changes.items())
    torch = f"TORCH_INDEX={shlex.quote(options.torch_index)} " if options.torch_index else ""
    work = f"""cd {root}/releases/{shlex.quote(bundle.name)} || exit 73
{torch}bash autodl/install.sh{indexes} || exit $?
venv/bin/python -m cosyserve --version || exit 75
exec venv/bin/python -m cosyserve instance --root {root} activate {shlex.quote(bundle.name)}{settings}
"""
    return Step(
        Text("install, check, start, switch", "安装、检查、启动、切换"),
        "Runs on the instance by itself while this computer watches: a connection that breaks costs nothing. "
        "`current` is switched once the new release has passed the doctor and has spoken.",
        f"""set -eu
mkdir -p {root}/run
cd {root}/run
if ! flock -s -n lock true; then
  [ "$(cat job.id)" = {shlex.quote(key)} ] || exit 76
  exit 0
fi
cat >job.new <<'JOB'
{work}JOB
mv job.new job.sh
rm -f job.status
: >job.log
echo {shlex.quote(key)} >job.id
setsid nohup flock -w 10 -o lock bash -c 'bash job.sh; ln -s $? job.status' \\
  >>job.log 2>&1 </dev/null &
until [ -L job.status ] || ! flock -s -n lock true; do sleep 0.05; done
""",
        followed=True,
    )


# Status checks share the lock; the job takes it exclusively and waits for them.
FOLLOW_MARK = b"cosyserve-follow\n"


def follow(folder: str, seen: int) -> str:
    """Show the job's output from byte `seen` on until it ends; the status is the job's, or 77 if it was killed.

    The status is kept as a link, which can be made on a full disk.
    """
    return f"""cd {shlex.quote(folder)}/run || exit 77
echo cosyserve-follow
seen={seen}
show() {{
  size=$(wc -c <job.log)
  if [ "$size" -gt "$seen" ]; then
    tail -c +$((seen + 1)) job.log | head -c $((size - seen))
    seen=$size
  fi
}}
while [ ! -L job.status ]; do
  if flock -s -n lock true && [ ! -L job.status ]; then show; exit 77; fi
  show
  sleep 0.2
done
show
exit "$(readlink job.status)"
"""


def as_text(plan: DeployPlan) -> str:
    """The plan for a person to read: every file and every command, each with its reason."""
    way = f"from {plan.before} to " if plan.before not in (None, plan.release) else ""
    lines = [f"release: {way}{plan.release} ({plan.flavour}), port {plan.port}"]
    for note in plan.notes:
        lines += [f"  {note.en}", f"  {note.zh}"]
    if not plan.steps:
        lines.append("\nnothing to do: it serves already · 无需操作：服务已在运行")
    else:
        lines.append("\nwhat it touches on the instance · 将改动的文件")
    for place, how in plan.touched.items():
        lines += [f"  {place}", f"    {how.en}", f"    {how.zh}"]
    for number, step in enumerate(plan.steps, 1):
        lines += [f"\n{number}. {step.title.en} · {step.title.zh}", f"   {step.why}"]
        lines += [f"   | {line}" for line in step.script.splitlines()]
    return "\n".join(lines) + "\n"
