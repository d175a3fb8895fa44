"""Whether Triton's kernels can be used here: what they need of card and machine, found out before any of it is loaded.

Triton compiles at run time, and with each kernel a launcher in C for this Python. That needs a compiler and headers.
"""

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from cosyserve.host import gpu
from cosyserve.host.gpu import Card
from cosyserve.host.report import NOTHING, Check, Finding, Text
from cosyserve.host.system import installed
from cosyserve.machine import Machine
from cosyserve.settings import Settings
from cosyserve.store.kernel_tests import SelfTest, recall
from cosyserve.store.kernels import folder_of

KERNELS = Check("CS-GPU-006", Text("Kernels", "计算内核"))

# Why they are used or not, as a stable id for programs.
Reason = Literal["available", "processor", "type", "capability", "triton", "compiler", "headers", "self_test"]

_CAPABILITY = 8.0  # the oldest whose tensor cores multiply bfloat16
_TYPE = "bfloat16"  # cuBLAS multiplies float32 faster than Triton does
_SECONDS = 30  # for a compiler that reads headers and writes nothing: a tenth of a second where all is well
_REPORT = Text(
    "try another driver or version of PyTorch, and report this line; until then speech is the same, but slower",
    "请尝试其他驱动或 PyTorch 版本，并反馈此行；合成结果不受影响，只是速度较慢",
)


@dataclass(frozen=True)
class Lack:
    """What is missing. `cause` follows "because", `remedy` is a line to paste, empty if nothing is wrong."""

    reason: Reason
    cause: Text
    remedy: Text = NOTHING


PROCESSOR = Lack("processor", Text("speech is made on a processor", "当前在 CPU 上合成"))


def lack(machine: Machine, capability: float | None, dtype: str) -> Lack | None:
    """The first reason why Triton's kernels cannot be used on a card of that compute capability (None: unknown); None
    if there is none."""
    return _of_type(dtype) or _of_card(capability) or _of_triton() or _of_compiler(machine)


def untested(problem: str) -> Lack:
    """No kernel passed the self-test."""
    cause = Text(f"Triton's kernels failed their self-test ({problem})", f"Triton 内核未通过自检（{problem}）")
    return Lack("self_test", cause, _REPORT)


def without_triton(problem: str) -> Lack:
    return Lack(
        "triton",
        Text(f"Triton cannot be loaded ({problem})", f"无法加载 Triton（{problem}）"),
        Text(
            "install PyTorch's build for CUDA again, which brings the Triton that it needs",
            "请重新安装 CUDA 版 PyTorch，它会附带所需的 Triton",
        ),
    )


def key(card: Card) -> Sequence[str]:
    """What compiled code depends on, except its source, which Triton tracks itself."""
    versions = (f"{package}-{installed(package) or 'none'}" for package in ("triton", "torch"))
    return (card.name, str(card.capability), f"driver-{card.driver}", *versions)


def examine(machine: Machine, settings: Settings) -> Finding:
    """What CosyVoice would compute with on the card here, and what the last start found."""
    if settings.device == "cpu":
        return KERNELS.skipped(PROCESSOR.cause)
    card = gpu.first_card(machine)
    if card is None:
        return KERNELS.skipped(Text("no card was found", "没有找到显卡"))
    if find_spec("torch") is None:
        return KERNELS.skipped(Text("PyTorch is not installed", "未安装 PyTorch"))
    found = lack(machine, card.capability, _TYPE if settings.dtype == "auto" else settings.dtype)
    if found is None:
        return _as_tested(_last_test(settings, card))
    return _by_torch(found)


def _by_torch(found: Lack) -> Finding:
    cause = Text(f"PyTorch's, because {found.cause.en}", f"使用 PyTorch 内核：{found.cause.zh}")
    facts = {"by": "torch", "reason": found.reason}
    return KERNELS.ok(cause, **facts) if found.remedy is NOTHING else KERNELS.warn(cause, found.remedy, **facts)


def _as_tested(found: SelfTest | None) -> Finding:
    if found is not None and found.problem:
        return _by_torch(untested(found.problem))
    facts: dict[str, object] = {"by": "triton", "reason": "available"}
    if found is None or found.trying:
        first = Text("Triton's, which the first start compiles and tests", "使用 Triton 内核，首次启动时编译并自检")
        return KERNELS.ok(first, **facts)
    if not found.replaced:
        return KERNELS.ok(Text("Triton's, tested at the last start", "使用 Triton 内核，上次启动时已通过自检"), **facts)
    seen = [f"{name}: {reason}" for name, reason in sorted(found.replaced.items())]
    return KERNELS.warn(but_for(found.replaced), _REPORT, **facts, replaced=dict(found.replaced), seen=seen)


def but_for(replaced: Iterable[str]) -> Text:
    """Describes Triton's kernels when some of them are not used."""
    names = ", ".join(sorted(replaced))
    return Text(
        f"Triton's, except those that failed their self-test, which are PyTorch's instead ({names})",
        f"使用 Triton 内核，其中未通过自检的由 PyTorch 代替（{names}）",
    )


def _last_test(settings: Settings, card: Card) -> SelfTest | None:
    try:
        return recall(folder_of(settings.state_dir, key(card)))
    except RuntimeError:  # there is no home, and nothing is kept
        return None


def _of_type(dtype: str) -> Lack | None:
    if dtype == _TYPE:
        return None
    return Lack(
        "type",
        Text(
            f"Triton's kernels need {_TYPE}, and the number type is {dtype}",
            f"Triton 内核仅用于 {_TYPE}，当前为 {dtype}",
        ),
    )


def _of_card(capability: float | None) -> Lack | None:
    if capability is None or capability >= _CAPABILITY:
        return None
    return Lack(
        "capability",
        Text(
            f"the card has compute capability {capability}, and Triton's kernels need {_CAPABILITY}",
            f"显卡计算能力为 {capability}，Triton 内核需要 {_CAPABILITY}",
        ),
        Text("use a card of the Ampere generation or later", "请更换 Ampere 及更新的显卡"),
    )


def _of_triton() -> Lack | None:
    return None if find_spec("triton") else without_triton("it is not installed")


def _of_compiler(machine: Machine) -> Lack | None:
    """Checks the compiler and the headers where Triton looks for them, and whether the compiler accepts the headers."""
    path, given = machine.environ.get("PATH", ""), machine.environ.get("CC")
    found = [shutil.which(name, path=path) for name in ([given] if given is not None else ["gcc", "clang"])]
    compiler = next(filter(None, found), None)
    if compiler is None:
        looked_for = f"CC={given}" if given is not None else "gcc, clang"
        return _no_compiler(Text(f"there is no C compiler ({looked_for})", f"没有 C 编译器（{looked_for}）"))
    headers = sysconfig.get_path("include", _scheme())
    if not machine.exists(f"{headers}/Python.h"):
        return _no_headers(headers)
    problem = _problem_of(compiler, str(machine.path(headers)), {**machine.environ, "LC_ALL": "C"})
    if problem:
        return _no_compiler(Text(f"{compiler} cannot compile ({problem})", f"{compiler} 无法编译（{problem}）"))
    return None


def _scheme() -> str:
    """The folder of headers that Triton uses. Debian's own scheme names a folder without headers."""
    scheme = sysconfig.get_default_scheme()
    return "posix_prefix" if scheme == "posix_local" else scheme


def _problem_of(compiler: str, headers: str, environ: Mapping[str, str]) -> str:
    """The compiler's complaint about Python's headers and the C library's, which they include; writes no file."""
    argv = [compiler, "-fsyntax-only", "-I", headers, "-x", "c", "-"]
    include = "#include <Python.h>\n"
    try:
        done = subprocess.run(  # noqa: S603 - argv is ours
            argv, input=include, env=environ, capture_output=True, timeout=_SECONDS, text=True
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = next((line for line in done.stderr.splitlines() if "error" in line), f"status {done.returncode}")
    return said.strip()[-160:] if done.returncode else ""


def _no_compiler(cause: Text) -> Lack:
    line = "apt-get install gcc libc6-dev"
    return Lack("compiler", cause, Text(line, line))


def _no_headers(folder: str) -> Lack:
    line = f"apt-get install libpython{sys.version_info.major}.{sys.version_info.minor}-dev"
    return Lack(
        "headers",
        Text(f"Python's headers are missing ({folder}/Python.h)", f"缺少 Python 头文件（{folder}/Python.h）"),
        Text(line, line),
    )
