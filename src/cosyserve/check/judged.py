"""Compares what was seen with what TensorRT-LLM's source and documentation promise. Pure, one function per line of the
report."""

from collections.abc import Mapping
from dataclasses import replace

from cosyserve.assets.engine_key import PYTORCH
from cosyserve.check import look
from cosyserve.check.lines import Line, Trial, same
from cosyserve.check.seen import (
    CANCEL_AFTER,
    COMPARED,
    TEXT_IDS,
    TOO_LONG,
    Executed,
    Imported,
    Libraries,
    Pytorch,
    Spoken,
)
from cosyserve.command import command
from cosyserve.cosyvoice.model.sampling import length_limits
from cosyserve.host import libpython
from cosyserve.host.report import Text, Verdict
from cosyserve.store.disk import human
from cosyserve.store.engines import PLAN

_SET_UP = "scripts/setup-tensorrt-llm"
_SMALLEST = 4  # weights are released in float32 and built in half of that; less than half of it is not whole
_LOADS = Text("it loads", "可以加载")
_SAME = Text("the same tokens", "结果相同")


def minor(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def libraries(seen: Libraries, version: str) -> list[Line]:
    """`version` is TensorRT-LLM's."""
    versioned, plain = libpython.NAMES
    package = plain.removesuffix(".so")
    lines = [
        _library(seen, versioned, "libpython", f"apt-get install {package}"),
        _library(seen, plain, "libpython-dev", f"apt-get install {package}-dev"),
        _library(seen, look.LIBMPI, "libmpi", "apt-get install openmpi-bin; pip install 'mpi4py>=4.1'"),
        _library(seen, look.LIBNUMA, "libnuma", "apt-get install libnuma1"),
    ]
    if minor(version) < (1, 1):
        why = Text(f"TensorRT-LLM {version} does not load it", f"TensorRT-LLM {version} 不加载它")
        lines[1] = _trial_of_library(plain, "libpython-dev", "").skipped(why)
    return lines


def _trial_of_library(library: str, name: str, remedy: str) -> Trial:
    return Trial(name, Text(f"loaded {library}", f"加载 {library}"), _LOADS, same(remedy))


def _library(seen: Libraries, library: str, name: str, remedy: str) -> Line:
    problem = seen.problems.get(library, "?")
    return _trial_of_library(library, name, remedy).judged(not problem, same(problem) if problem else _LOADS)


def pytorch(seen: Pytorch, version: str) -> list[Line]:
    wanted, cuda = PYTORCH[minor(version)]
    build = Trial(
        "pytorch",
        Text("asked PyTorch what it was built for", "查询 PyTorch 的构建版本"),
        Text(f"{wanted} for CUDA {cuda}", f"{wanted}，CUDA {cuda}"),
        Text(f"{_SET_UP} brings both in the right order", f"{_SET_UP} 会按正确顺序安装两者"),
    )
    card = Trial(
        "card",
        Text("asked PyTorch for a graphics card", "查询 PyTorch 可见的显卡"),
        Text("there is one", "有显卡"),
        Text(
            f"{command()} doctor: its lines CS-GPU-… say what is missing",
            f"{command()} doctor：CS-GPU-… 各行会说明缺少什么",
        ),
    )
    right = seen.version.split("+")[0] == wanted and seen.cuda == cuda
    return [
        build.judged(
            right, Text(f"{seen.version} for CUDA {seen.cuda or '–'}", f"{seen.version}，CUDA {seen.cuda or '–'}")
        ),
        card.judged(bool(seen.card), same(seen.card) if seen.card else Text("there is none", "没有显卡")),
    ]


def imports(seen: Mapping[str, Imported | Text]) -> list[Line]:
    """For each rung the mapped libraries, or why the import failed. One working rung is enough to serve."""
    works = any(isinstance(each, Imported) for each in seen.values())
    return [_import(rung, each, Verdict.WARN if works else Verdict.FAIL) for rung, each in seen.items()]


def _import(rung: str, seen: Imported | Text, otherwise: Verdict) -> Line:
    trial = Trial(
        f"import-{rung}",
        Text(f"imported TensorRT-LLM with launch method '{rung}'", f"以“{rung}”方式导入 TensorRT-LLM"),
        Text("one libmpi, one major version of CUDA", "只有一个 libmpi，只有一个 CUDA 主版本"),
        Text(f"{command()} doctor: its lines CS-MPI-… say why", f"{command()} doctor：CS-MPI-… 各行会说明原因"),
    )
    if isinstance(seen, Text):
        return trial.judged(False, seen, otherwise=otherwise)
    libmpi, cuda = ", ".join(seen.libmpi) or "–", ", ".join(map(str, seen.cuda)) or "–"
    found = Text(f"{seen.version}; libmpi: {libmpi}; CUDA: {cuda}", f"{seen.version}；libmpi：{libmpi}；CUDA：{cuda}")
    if len(seen.libmpi) > 1:
        install = "pip install --force-reinstall mpi4py"
        remedy = Text(f"{install}, in an environment without conda's MPI", f"在没有 conda MPI 的环境中 {install}")
        return replace(trial, remedy=remedy).judged(False, found)
    remedy = Text(f"a new environment; {_SET_UP} brings all for one CUDA", f"新建环境；{_SET_UP} 会统一 CUDA 版本")
    return replace(trial, remedy=remedy).judged(len(seen.cuda) <= 1, found)


BUILD = Trial(
    "build",
    Text("built an engine into a temporary folder", "在临时目录中构建引擎"),
    Text("rank0.engine, not much smaller than the model's weights", "rank0.engine，不明显小于模型权重"),
    Text("COSYSERVE_BACKEND=torch meanwhile; the lines above say why", "暂用 COSYSERVE_BACKEND=torch；原因见上方输出"),
)


def built(sizes: Mapping[str, int], weights: int, seconds: float) -> Line:
    """`sizes` of the engine's files and of the `weights` as they were released, in bytes."""
    told = ", ".join(f"{name} {human(size)}" for name, size in sizes.items())
    large = sizes.get(PLAN, 0) >= weights / _SMALLEST
    return BUILD.judged(large, Text(f"{told}; {seconds:.0f} s", f"{told}；{seconds:.0f} 秒"))


EXECUTOR = Trial(
    "executor",
    Text("loaded the engine into an executor", "将引擎加载到执行器"),
    _LOADS,
    Text("nvidia-smi: end what else uses the card", "nvidia-smi：结束占用显卡的其他程序"),
)
_ODD = Text("file an issue with this report: the engine's tokens cannot be trusted", "请附此报告反馈：引擎的输出不可信")


def executed(seen: Executed) -> list[Line]:
    fewest, most = length_limits(TEXT_IDS)
    first, again = seen.seeded
    greedy, greedy_again = seen.greedy
    engine, ours = seen.against_pytorch.engine, seen.against_pytorch.pytorch
    equal = sum(1 for _ in _while_equal(engine, ours))
    return [
        EXECUTOR.judged(True, Text(f"in {seen.seconds:.1f} s", f"{seen.seconds:.1f} 秒")),
        Trial(
            "length",
            Text(f"asked for a text of {TEXT_IDS} ids", f"请求 {TEXT_IDS} 个文本 id"),
            Text(f"{fewest} to {most} tokens", f"{fewest} 至 {most} 个 token"),
            _ODD,
        ).judged(fewest <= seen.length <= most, _tokens(seen.length)),
        Trial("seed", Text("asked again with the same seed", "用同一种子再次请求"), _SAME, _ODD).judged(
            first == again, _equal(first, again)
        ),
        Trial(
            "speech",
            Text("looked for ids that are no speech", "检查非语音 id"),
            Text("none: the head's bias rules them out", "没有：输出偏置已将其排除"),
            _ODD,
        ).judged(seen.strays == 0, same(str(seen.strays))),
        Trial("greedy", Text("asked twice for the likeliest tokens", "两次请求最可能的 token"), _SAME, _ODD).judged(
            greedy == greedy_again, _equal(greedy, greedy_again)
        ),
        Trial(
            "refusal",
            Text(
                f"sent a prompt of {TOO_LONG} ids, then another request", f"发送 {TOO_LONG} 个 id 的提示，再发一个请求"
            ),
            Text("an error of the first alone", "仅前者报错"),
            _ODD,
        ).judged(
            bool(seen.refusal) and seen.after_refusal > 0,
            Text(
                f"{seen.refusal or 'no error'}; {seen.after_refusal} tokens",
                f"{seen.refusal or '没有报错'}；{seen.after_refusal} 个 token",
            ),
        ),
        Trial(
            "cancel",
            Text(f"cancelled a request after {CANCEL_AFTER} tokens", f"在 {CANCEL_AFTER} 个 token 后取消请求"),
            Text(f"it ends before its {most} tokens", f"在 {most} 个 token 之前结束"),
            _ODD,
        ).judged(CANCEL_AFTER <= seen.cancelled < most - 1, _tokens(seen.cancelled)),
        Trial(
            "pytorch-greedy",
            Text("compared the likeliest tokens with PyTorch's", "与 PyTorch 比较最可能的 token"),
            Text(f"the first {COMPARED} are equal", f"前 {COMPARED} 个相同"),
            Text(
                f"{command()} build --force; then file an issue with this report",
                f"{command()} build --force；仍不同请附此报告反馈",
            ),
        ).judged(equal == COMPARED, Text(f"the first {equal}", f"前 {equal} 个")),
    ]


def _while_equal(one: list[int], other: list[int]) -> list[int]:
    length = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    return one[: min(len(one), len(other)) if length is None else length]


def _equal(one: list[int], other: list[int]) -> Text:
    if one == other:
        return _SAME
    place = len(_while_equal(one, other))
    return Text(f"another token from place {place} on", f"从第 {place} 个起不同")


def _tokens(count: int) -> Text:
    return Text(f"{count} tokens", f"{count} 个 token")


SERVER = Trial(
    "server",
    Text("started a server with the engine", "用该引擎启动服务器"),
    Text("the engine speaks", "由引擎合成"),
    Text("COSYSERVE_BACKEND=torch; the log above says why", "COSYSERVE_BACKEND=torch；原因见上方日志"),
)
_ENGINE_SPEAKS = "TensorRT-LLM"


def spoken(seen: Spoken, by_pytorch: Spoken | None, streams: int) -> list[Line]:
    by_engine = _ENGINE_SPEAKS in seen.why
    failed = len(seen.failed)
    lines = [
        SERVER.judged(by_engine, Text("it does", "是") if by_engine else Text("PyTorch speaks", "由 PyTorch 合成")),
        Trial(
            "streams",
            Text(f"spoke {streams} streams at once", f"同时合成 {streams} 路"),
            Text("none fails", "无失败"),
            Text("COSYSERVE_BACKEND=torch; file an issue with this report", "COSYSERVE_BACKEND=torch；请附此报告反馈"),
        ).judged(not failed, Text(f"{failed} failed{_first(seen.failed)}", f"{failed} 路失败{_first(seen.failed)}")),
        Trial(
            "captures",
            Text("looked for disturbed captures in the log", "在日志中查找受干扰的图捕获"),
            Text("no line 'stream is capturing'", "没有“stream is capturing”"),
            Text("file an issue with this report", "请附此报告反馈"),
        ).judged(not seen.capturing, Text(f"{seen.capturing} lines", f"{seen.capturing} 行")),
    ]
    speed = Trial(
        "speed",
        Text("spoke the same with PyTorch alone", "仅用 PyTorch 合成同样内容"),
        Text("the engine is the faster one", "引擎更快"),
        Text("COSYSERVE_BACKEND=torch serves better here", "此处更适合 COSYSERVE_BACKEND=torch"),
    )
    if by_pytorch is None:
        return [*lines, speed.skipped(Text("PyTorch's server did not start", "PyTorch 服务器未启动"))]
    both = (seen, by_pytorch)
    rates = " : ".join(f"{each.times_real_time:.1f} ×" for each in both)
    firsts = " : ".join(f"{each.first_ms:.0f} ms" for each in both)
    found = Text(
        f"engine : PyTorch, {rates} real time, first sound after {firsts}",
        f"引擎 : PyTorch，实时的 {rates}，首音 {firsts}",
    )
    faster = seen.times_real_time >= by_pytorch.times_real_time
    return [*lines, speed.judged(faster, found, otherwise=Verdict.WARN)]


def _first(failed: list[str]) -> str:
    return f" ({failed[0]})" if failed else ""
