"""The machine under the server: platform, Python, processor, memory, disk, ports, clock, locale."""

import ipaddress
import locale
import math
import os
import platform as python_platform
import shutil
import socket
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from cosyserve.host.report import Check, Finding, Text
from cosyserve.machine import Machine, Platform, is_container, nearest, platform_of
from cosyserve.store.manifest import SPEAKING, model_of

PLATFORM = Check("CS-HOST-001", Text("Platform", "平台"))
SYSTEM = Check("CS-HOST-002", Text("Operating system", "操作系统"))
PYTHON = Check("CS-HOST-003", Text("Python", "Python"))
PROCESSOR = Check("CS-HOST-004", Text("Processor", "处理器"))
MEMORY = Check("CS-HOST-005", Text("Memory", "内存"))
SHARED_MEMORY = Check("CS-HOST-006", Text("Shared memory", "共享内存"))
DISK = Check("CS-HOST-007", Text("Disk", "磁盘"))
PORT = Check("CS-HOST-008", Text("Port", "端口"))
CLOCK = Check("CS-HOST-009", Text("Clock", "时钟"))
LOCALE = Check("CS-HOST-010", Text("Locale", "区域设置"))

GIB, MIB = 1 << 30, 1 << 20
_ENGINE_DISK = 5 * GIB  # beside the weights: the LLM export 1.3 GB, the engine 1.3 GB, and as much for the build
_MODEL_MEMORY = 8 * GIB
_SERVE_MEMORY = 512 * MIB  # the preview peaks under 100 MiB
_SHARED = 64 * MIB  # Docker's default
# TensorRT-LLM's wheels from 0.16 on exist for these Pythons only.
_TENSORRT_LLM_PYTHONS = ((3, 10), (3, 12))
_RELEASED = time.mktime((2026, 1, 1, 0, 0, 0, 0, 0, 0))

_PLATFORM_NAMES = {
    Platform.AUTODL: Text("an AutoDL instance", "AutoDL 实例"),
    Platform.WSL2: Text("WSL2", "WSL2"),
    Platform.KUBERNETES: Text("a Kubernetes pod", "Kubernetes Pod"),
    Platform.CONTAINER: Text("a container", "容器"),
    Platform.BARE: Text("a machine of its own", "独立主机"),
}


def platform(machine: Machine) -> Finding:
    found = platform_of(machine)
    return PLATFORM.ok(_PLATFORM_NAMES[found], platform=found.value, container=is_container(machine))


def system(machine: Machine, *, for_engine: bool = True) -> Finding:
    """`for_engine` says that TensorRT-LLM may be used here; without it, its special needs cause no warnings."""
    lines = (line.partition("=") for line in machine.read("/etc/os-release").splitlines())
    release = {name: value.strip('"') for name, _, value in lines}
    name = release.get("PRETTY_NAME", sys.platform)
    architecture = python_platform.machine()
    facts = {"name": name, "kernel": python_platform.release(), "architecture": architecture}
    if for_engine and (sys.platform, architecture) != ("linux", "x86_64"):
        return SYSTEM.warn(
            Text(
                f"TensorRT-LLM has wheels for Linux on x86_64 only, and this is {sys.platform} on {architecture}",
                f"TensorRT-LLM 仅提供 Linux x86_64 的安装包，当前为 {sys.platform} {architecture}",
            ),
            Text(
                "nothing to do for the preview; CosyVoice with TensorRT-LLM needs another machine",
                "预览语音无需处理；使用 TensorRT-LLM 的 CosyVoice 需要换一台机器",
            ),
            **facts,
        )
    return SYSTEM.ok(Text(f"{name}, kernel {facts['kernel']}", f"{name}，内核 {facts['kernel']}"), **facts)


def installed(package: str) -> str | None:
    """The version from its metadata, because importing some of these packages may hang."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def python(*, for_engine: bool = True) -> Finding:
    here = sys.version_info[:2]
    facts = {
        "version": python_platform.python_version(),
        "executable": sys.executable,
        "tensorrt_llm": installed("tensorrt-llm"),
        "torch": installed("torch"),
    }
    if for_engine and here not in _TENSORRT_LLM_PYTHONS:
        return PYTHON.warn(
            Text(
                f"{facts['version']}: TensorRT-LLM has wheels for Python 3.10 and 3.12 only",
                f"{facts['version']}：TensorRT-LLM 仅提供 Python 3.10 和 3.12 的安装包",
            ),
            Text(
                "for TensorRT-LLM: uv venv --python 3.12; everything else works as it is",
                "如需 TensorRT-LLM：uv venv --python 3.12；其他功能不受影响",
            ),
            **facts,
        )
    return PYTHON.ok(Text(str(facts["version"]), str(facts["version"])), **facts)


def cpu_quota(machine: Machine) -> float | None:
    """Number of cores that the control group grants; None without a limit. Version 2, then 1."""
    quota, _, period = machine.read("/sys/fs/cgroup/cpu.max").strip().partition(" ")
    if not period:
        quota = machine.read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").strip()
        period = machine.read("/sys/fs/cgroup/cpu/cpu.cfs_period_us").strip()
    if quota.isdecimal() and period.isdecimal() and int(period):
        return int(quota) / int(period)
    return None


def usable_cores(machine: Machine) -> float:
    """The number of cores that affinity and quota leave; the machine may have more."""
    allowed = float(len(os.sched_getaffinity(0)))
    return min(allowed, cpu_quota(machine) or allowed)


def processor(machine: Machine) -> Finding:
    allowed, quota, cores = len(os.sched_getaffinity(0)), cpu_quota(machine), usable_cores(machine)
    facts = {"cores": cores, "allowed": allowed, "present": os.cpu_count(), "quota": quota}
    threads = [name for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if _number(machine.environ.get(name)) > cores]
    if threads:
        return PROCESSOR.warn(
            Text(
                f"{cores:g} cores to use, but {' and '.join(threads)} ask for more threads",
                f"可用 {cores:g} 核，但 {'、'.join(threads)} 设置了更多线程",
            ),
            Text(
                "export " + " ".join(f"{name}={max(1, int(cores))}" for name in threads),
                "export " + " ".join(f"{name}={max(1, int(cores))}" for name in threads),
            ),
            **facts,
        )
    if cores < 2:
        return PROCESSOR.warn(
            Text(f"{cores:g} cores: audio may be made slower than it plays", f"仅 {cores:g} 核：合成可能慢于播放"),
            Text("give the machine or container two cores or more", "请为机器或容器分配两个以上的核"),
            **facts,
        )
    return PROCESSOR.ok(
        Text(f"{cores:g} cores to use of {facts['present']}", f"共 {facts['present']} 核，可用 {cores:g} 核"), **facts
    )


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def memory_limit(machine: Machine) -> int | None:
    """Bytes that the control group grants; None without a limit."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = machine.read(path).strip()
        if text.isdecimal() and int(text) < 1 << 50:  # version 1 writes 'no limit' as a huge number
            return int(text)
    return None


def free_memory(machine: Machine) -> int:
    """Bytes that another process could still use: the machine's free memory, within the control group's limit."""
    available, limit = psutil.virtual_memory().available, memory_limit(machine)
    if limit is None:
        return available
    return min(available, limit - _held(machine))


def _held(machine: Machine) -> int:
    """Bytes that the control group uses, without caches that are freed on demand. Version 2, then 1."""
    for folder, used, cache in (
        ("/sys/fs/cgroup", "memory.current", "inactive_file"),
        ("/sys/fs/cgroup/memory", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        if (held := machine.read(f"{folder}/{used}").strip()).isdecimal():
            statistics = dict(line.split() for line in machine.read(f"{folder}/memory.stat").splitlines())
            return int(held) - int(statistics.get(cache, 0))
    return 0


def memory(machine: Machine, *, for_model: bool = True) -> Finding:
    available, limit = psutil.virtual_memory().available, memory_limit(machine)
    usable = min(available, limit) if limit else available
    facts = {"usable": usable, "available": available, "limit": limit}
    text = Text(f"{usable / GIB:.1f} GiB to use", f"可用 {usable / GIB:.1f} GiB")
    if usable < _SERVE_MEMORY:
        return MEMORY.fail(
            text,
            Text("end other programs, or give the container more", "请结束其他程序，或为容器分配更多内存"),
            **facts,
        )
    if for_model and usable < _MODEL_MEMORY:
        return MEMORY.warn(
            Text(
                f"{text.en}; CosyVoice wants {_MODEL_MEMORY // GIB}",
                f"{text.zh}；CosyVoice 建议 {_MODEL_MEMORY // GIB} GiB",
            ),
            Text(
                "the preview needs no more; on WSL2 raise memory= in %UserProfile%\\.wslconfig",
                "预览语音已够用；WSL2 可在 %UserProfile%\\.wslconfig 中调大 memory=",
            ),
            **facts,
        )
    return MEMORY.ok(text, **facts)


def shared_memory(machine: Machine) -> Finding:
    try:
        space = os.statvfs(machine.path("/dev/shm"))  # noqa: S108 - only its size is read
        size = space.f_blocks * space.f_frsize
    except OSError:
        size = 0
    text = Text(f"{size / MIB:.0f} MiB", f"{size / MIB:.0f} MiB")
    if size < _SHARED:
        return SHARED_MEMORY.warn(
            Text(f"only {text.en}", f"只有 {text.zh}"),
            Text("docker run --shm-size 1g …", "docker run --shm-size 1g …"),
            size=size,
        )
    return SHARED_MEMORY.ok(text, size=size)


def disk(machine: Machine, folder: Path, model: str | None = None) -> Finding:
    """Room where weights and engines of the `model` go, if one is wanted."""
    folder = nearest(folder)
    free = shutil.disk_usage(folder).free
    facts = {"folder": str(folder), "free": free}
    needed = model_of(model).size + _ENGINE_DISK if model else 0
    if model and free < needed:
        place = Text("free some, or move the folder to a larger disk", "请清理空间，或将目录移到更大的磁盘")
        if platform_of(machine) is Platform.AUTODL:
            place = Text("use the data disk: cd /root/autodl-tmp", "请使用数据盘：cd /root/autodl-tmp")
        return DISK.warn(
            Text(
                f"{free / GIB:.1f} GiB free in {folder}; {SPEAKING[model]} needs {math.ceil(needed / GIB)}",
                f"{folder} 剩余 {free / GIB:.1f} GiB；{SPEAKING[model]} 需要 {math.ceil(needed / GIB)} GiB",
            ),
            place,
            **facts,
        )
    return DISK.ok(Text(f"{free / GIB:.0f} GiB free in {folder}", f"{folder} 剩余 {free / GIB:.0f} GiB"), **facts)


def listeners(host: str = "") -> dict[int, int | None]:
    """The TCP ports on which something listens, with its process if that can be seen. With `host`, only those that a
    server there cannot use."""
    return {
        connection.laddr.port: connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr
        and (not host or _excludes(connection.laddr.ip, host))
    }


def _excludes(taken: str, host: str) -> bool:
    """Whether a port in use at `taken` cannot be used at `host`. A listener on :: has IPv4 as well."""
    try:
        pair = ipaddress.ip_address(taken), ipaddress.ip_address(socket.getaddrinfo(host, None)[0][4][0])
    except (OSError, ValueError):  # of a name that nobody knows, nothing is known
        return True
    return pair[0] == pair[1] or any(
        each.is_unspecified and (each.version == 6 or other.version == 4) for each, other in (pair, pair[::-1])
    )


def port(host: str, number: int) -> Finding:
    """Whether the server's port is free, and who has it."""
    taken = listeners(host)
    if number not in taken:
        return PORT.ok(Text(f"{number} is free", f"{number} 空闲"), port=number)
    pid = taken[number]
    who = command_of(pid)
    if "cosyserve serve" in who:  # not any command with that folder in its path
        return PORT.ok(Text(f"{number} is CosyServe's already", f"{number} 已由 CosyServe 使用"), port=number, pid=pid)
    if pid is None:  # only root sees whose it is
        whose, remedy = "其他用户的进程", Text("find it: sudo ss -ltnp", "查找该进程：sudo ss -ltnp")
    else:
        whose, remedy = who, Text(f"end process {pid}", f"结束进程 {pid}")
    other = f"COSYSERVE_PORT={number + 1000}"
    return PORT.fail(
        Text(f"{number} is taken by {who}", f"{number} 被 {whose} 占用"),
        Text(f"{other}, or {remedy.en}", f"{other}，或{remedy.zh}"),
        port=number,
        pid=pid,
    )


def command_of(pid: int | None) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())[:120] if pid else "a process of another user"
    except psutil.Error:
        return "a process of another user"


def clock() -> Finding:
    now = time.time()
    if now < _RELEASED:
        return CLOCK.warn(
            Text(
                "it shows a time before this version was released, so secure connections will fail",
                "系统时间早于本版本的发布时间，安全连接会失败",
            ),
            Text(
                "date -s '…', or hwclock --hctosys; on WSL2: wsl --shutdown",
                "date -s '…' 或 hwclock --hctosys；WSL2 请执行 wsl --shutdown",
            ),
            now=now,
        )
    return CLOCK.ok(Text(time.strftime("%Y-%m-%d %H:%M:%S %z"), time.strftime("%Y-%m-%d %H:%M:%S %z")), now=now)


def text_encoding() -> Finding:
    encoding = locale.getpreferredencoding(False)
    if encoding.lower().replace("-", "") != "utf8":
        return LOCALE.warn(
            Text(f"text is read as {encoding}, which has no Chinese", f"文本编码为 {encoding}，不支持中文"),
            Text("export LANG=C.UTF-8", "export LANG=C.UTF-8"),
            encoding=encoding,
        )
    return LOCALE.ok(Text(encoding, encoding), encoding=encoding)
