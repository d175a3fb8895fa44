"""The graphics card, according to nvidia-smi; nothing of CUDA is loaded."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from cosyserve.cosyvoice.model.config import DitFlowConfig, FlowConfig
from cosyserve.cosyvoice.runtime.memory import FlowSizes, streams_on
from cosyserve.host.report import Check, Finding, Text
from cosyserve.host.system import installed
from cosyserve.machine import Machine, Platform, is_wsl, platform_of
from cosyserve.store.manifest import DEFAULT, SPEAKING

DEVICE = Check("CS-GPU-001", Text("Graphics card", "显卡"))
DRIVER = Check("CS-GPU-002", Text("Driver and CUDA", "驱动与 CUDA"))
CAPABILITY = Check("CS-GPU-003", Text("Compute capability", "计算能力"))
FREE_MEMORY = Check("CS-GPU-004", Text("Free graphics memory", "空闲显存"))
WSL_LIBRARY = Check("CS-GPU-005", Text("WSL2 driver folder", "WSL2 驱动目录"))

_QUERY = ("name", "driver_version", "compute_cap", "memory.total", "memory.free")
_SECONDS = 10
_WSL_FOLDER = "/usr/lib/wsl/lib"
_AMPERE = 8.0  # TensorRT-LLM's oldest
_SIZES = (12, 16, 24, 48, 80)  # GiB of cards that people rent
_FLOWS: Mapping[str, type[FlowSizes]] = {DEFAULT: FlowConfig, "cosyvoice3-0.5b": DitFlowConfig}
_MODEL_MIB = 5000  # CosyVoice2 with a TensorRT-LLM engine was seen to take 4.7 GB

# CUDA that a package was built for, by the NVIDIA runtime wheel it brings.
_RUNTIMES = {"nvidia-cuda-runtime-cu12": 12, "nvidia-cuda-runtime": 13, "nvidia-cuda-runtime-cu13": 13}


@dataclass(frozen=True)
class Card:
    """One card. Numbers are None if the driver answers N/A, which happens for some on WSL2."""

    name: str
    driver: str
    capability: float | None
    total_mib: int | None
    free_mib: int | None


def parse_cards(text: str) -> list[Card]:
    """The answer of `nvidia-smi --query-gpu=… --format=csv,noheader,nounits`, in the order of `_QUERY`."""
    rows = [
        [cell.strip() for cell in line.split(",")] for line in text.splitlines() if line.count(",") == len(_QUERY) - 1
    ]
    return [
        Card(name, driver, _number(capability), _whole(total), _whole(free))
        for name, driver, capability, total, free in rows
    ]


def parse_cuda(text: str) -> str | None:
    """The newest CUDA the driver allows, from nvidia-smi's heading."""
    found = re.search(r"CUDA (?:UMD )?Version:\s*(\d+\.\d+)", text)
    return found[1] if found else None


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text.strip()) else None


def _whole(text: str) -> int | None:
    number = _number(text)
    return None if number is None else int(number)


def cards(machine: Machine) -> list[Card]:
    """The cards that the driver lists; none where there is no driver, or it does not answer."""
    tool = _tool(machine)
    return parse_cards(_query(tool)) if tool else []


def why_unused(machine: Machine, built_for: str | None) -> Text | None:
    """Why a PyTorch that was `built_for` a CUDA version (None: for processors only) does not see the card that the
    driver lists; None if there is no card."""
    tool = _tool(machine)
    if tool is None or not (found := cards(machine)):
        return None
    allows = parse_cuda(_ask(tool)) or "?"
    name = found[0].name
    if built_for is None:
        return Text(f"{name} is not used: this PyTorch is for processors", f"未使用 {name}：当前 PyTorch 仅支持 CPU")
    return Text(
        f"{name} is not used: its driver allows CUDA {allows}, and this PyTorch is built for {built_for}",
        f"未使用 {name}：驱动支持 CUDA {allows}，而当前 PyTorch 基于 {built_for} 构建",
    )


def cuda_of_packages() -> int | None:
    """The CUDA that the installed packages were built for."""
    return max((major for package, major in _RUNTIMES.items() if installed(package)), default=None)


def first_card(machine: Machine) -> Card | None:
    """The card that CUDA calls 0, on which an engine runs: the first of `CUDA_VISIBLE_DEVICES`, else the first of all.
    The numbers are nvidia-smi's, because every process that is started here counts cards in the same order
    (`CUDA_DEVICE_ORDER`)."""
    found, visible = cards(machine), machine.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return next(iter(found), None)
    first = visible.split(",")[0].strip()
    if first.isdecimal():
        return next(iter(found[int(first) :]), None)
    tool = _tool(machine)
    named = parse_cards(_query(tool, first)) if tool and first.startswith("GPU-") else []
    return next(iter(named), None)


def _tool(machine: Machine) -> str | None:
    return shutil.which("nvidia-smi", path=f"{machine.environ.get('PATH', '')}:{_WSL_FOLDER}")


def _query(tool: str, card: str = "") -> str:
    only = ("-i", card) if card else ()
    return _ask(tool, *only, f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader,nounits")


def has_device(machine: Machine) -> bool:
    """Whether the system has a card, whatever its driver says."""
    return machine.exists("/dev/nvidia0") or machine.exists("/dev/dxg")


def examine(
    machine: Machine, past_seconds: float = 15, flow_steps: int = 10, *, model: str = DEFAULT, needed: bool = False
) -> list[Finding]:
    """All findings about the card. Checks that cannot be made are skipped with a reason, and so is a card that is
    neither there nor `needed`. A stream of `model` sees `past_seconds` back, in each of `flow_steps`."""
    findings = [_wsl_library(machine)] if is_wsl(machine) else []
    tool = _tool(machine)
    if tool is None and not has_device(machine):
        return [_absent(machine, needed), *_unasked(), *findings]
    answer = _query(tool) if tool else ""
    found_cards = parse_cards(answer)
    if not found_cards:
        return [_silent(tool, answer), *_unasked(), *findings]
    cuda = parse_cuda(_ask(str(tool)))
    names = ", ".join(card.name for card in found_cards)
    found = DEVICE.ok(Text(names, names), cards=[vars(card) for card in found_cards])
    return [
        found,
        _driver(found_cards[0], cuda),
        _capability(found_cards),
        _free_memory(found_cards, past_seconds, flow_steps, model),
        *findings,
    ]


def _ask(tool: str, *options: str) -> str:
    try:
        done = subprocess.run([tool, *options], capture_output=True, timeout=_SECONDS, text=True)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout + done.stderr


def _absent(machine: Machine, needed: bool) -> Finding:
    if platform_of(machine) is Platform.AUTODL:
        return DEVICE.skipped(Text("none: the instance runs in AutoDL's no-card mode", "无：实例处于 AutoDL 无卡模式"))
    if not needed:
        return DEVICE.skipped(
            Text(
                "none, and none is needed: the preview speaks, and CosyVoice on the processor, slowly",
                "无，也不需要：可使用预览语音；CosyVoice 可在 CPU 上运行（较慢）",
            )
        )
    return DEVICE.warn(
        Text("none, but the settings or packages here need one", "无，但当前的配置或软件包需要显卡"),
        Text(
            "in Docker: docker run --gpus all …; else install NVIDIA's driver",
            "Docker 中请使用 docker run --gpus all …；否则请安装 NVIDIA 驱动",
        ),
    )


def _silent(tool: str | None, answer: str) -> Finding:
    if tool is None:
        return DEVICE.warn(
            Text("there is a device but no nvidia-smi", "有显卡设备，但没有 nvidia-smi"),
            Text(
                f"export PATH=$PATH:{_WSL_FOLDER} on WSL2; in Docker: -e NVIDIA_DRIVER_CAPABILITIES=compute,utility",
                f"WSL2：export PATH=$PATH:{_WSL_FOLDER}；Docker：-e NVIDIA_DRIVER_CAPABILITIES=compute,utility",
            ),
        )
    last = (answer.strip().splitlines() or ["no answer"])[-1][:160]
    return DEVICE.warn(
        Text(f"nvidia-smi says: {last}", f"nvidia-smi 返回：{last}"),
        Text(
            "nvidia-smi, and reinstall or restart the driver until it lists the card",
            "请运行 nvidia-smi，并重装或重启驱动，直到能列出显卡",
        ),
    )


def _unasked() -> list[Finding]:
    text = Text("no card was found", "没有找到显卡")
    return [check.skipped(text) for check in (DRIVER, CAPABILITY, FREE_MEMORY)]


def _driver(card: Card, cuda: str | None) -> Finding:
    facts = {"driver": card.driver, "cuda": cuda}
    wanted = [(package, major) for package, major in _RUNTIMES.items() if installed(package)]
    if cuda and wanted and int(cuda.split(".")[0]) < max(major for _, major in wanted):
        package, major = max(wanted, key=lambda each: each[1])
        return DRIVER.fail(
            Text(
                f"driver {card.driver} allows CUDA {cuda}, but {package} is installed and needs {major}",
                f"驱动 {card.driver} 支持 CUDA {cuda}，但已安装的 {package} 需要 {major}",
            ),
            Text(
                f"install a driver for CUDA {major}, or packages for CUDA {cuda.split('.')[0]}",
                f"请安装支持 CUDA {major} 的驱动，或安装 CUDA {cuda.split('.')[0]} 版本的软件包",
            ),
            **facts,
        )
    allows = cuda or "?"
    return DRIVER.ok(Text(f"{card.driver}, up to CUDA {allows}", f"{card.driver}，最高支持 CUDA {allows}"), **facts)


def _capability(cards: list[Card]) -> Finding:
    known = [card.capability for card in cards if card.capability is not None]
    if not known:
        return CAPABILITY.skipped(Text("the driver answers N/A", "驱动返回 N/A"))
    text = ", ".join(str(each) for each in known)
    if min(known) < _AMPERE:
        return CAPABILITY.warn(
            Text(f"{text}: TensorRT-LLM needs {_AMPERE} or newer", f"{text}：TensorRT-LLM 需要 {_AMPERE} 或更高"),
            Text(
                "use the torch backend, or a card of the Ampere generation or later",
                "请使用 torch 后端，或更换 Ampere 及更新的显卡",
            ),
            capabilities=known,
        )
    return CAPABILITY.ok(Text(text, text), capabilities=known)


def _free_memory(cards: list[Card], past_seconds: float, flow_steps: int, model: str) -> Finding:
    known = [card.free_mib for card in cards if card.free_mib is not None]
    if not known:
        return FREE_MEMORY.skipped(Text("the driver answers N/A", "驱动返回 N/A"))
    free = max(known)
    if free < _MODEL_MIB:
        return FREE_MEMORY.warn(
            Text(f"{free} MiB, and CosyVoice takes about {_MODEL_MIB}", f"{free} MiB，CosyVoice 约需 {_MODEL_MIB} MiB"),
            Text(
                "nvidia-smi shows which programs use it; end those that you do not need",
                "可用 nvidia-smi 查看占用者，并结束不需要的程序",
            ),
            free_mib=free,
        )
    title, flow = SPEAKING[model], _FLOWS[model]
    streams = max(0, streams_on(free * 2**20, past_seconds, flow_steps, flow))
    back = f"{past_seconds:g} s" if past_seconds else "60 s"
    table = ", ".join(f"{gib} GiB {streams_on(gib * 2**30, past_seconds, flow_steps, flow)}" for gib in _SIZES)
    told = Text(
        f"{free} MiB: room for about {streams} streams of {title} that see {back} back ({table})",
        f"{free} MiB：约可同时合成 {streams} 路 {title}，每路回看 {back}（{table}）",
    )
    if not streams:
        return FREE_MEMORY.warn(
            told,
            Text(
                "lower COSYSERVE_PAST_SECONDS, such as to 5, or end what else uses the card (nvidia-smi shows it)",
                "请调小 COSYSERVE_PAST_SECONDS（例如 5），或结束占用显卡的程序（nvidia-smi 可查看）",
            ),
            free_mib=free,
            streams=streams,
        )
    return FREE_MEMORY.ok(told, free_mib=free, streams=streams)


def _wsl_library(machine: Machine) -> Finding:
    if not machine.exists(f"{_WSL_FOLDER}/libcuda.so.1"):
        return WSL_LIBRARY.warn(
            Text(f"{_WSL_FOLDER}/libcuda.so.1 is missing", f"缺少 {_WSL_FOLDER}/libcuda.so.1"),
            Text(
                "install NVIDIA's driver in Windows, never in WSL2, then: wsl --shutdown",
                "请在 Windows 中（而非 WSL2 中）安装 NVIDIA 驱动，然后执行 wsl --shutdown",
            ),
        )
    if _WSL_FOLDER not in machine.environ.get("LD_LIBRARY_PATH", ""):
        return WSL_LIBRARY.ok(
            Text(
                f"{_WSL_FOLDER} (not in LD_LIBRARY_PATH; most programs find it)",
                f"{_WSL_FOLDER}（不在 LD_LIBRARY_PATH 中，多数程序仍可找到）",
            )
        )
    return WSL_LIBRARY.ok(Text(_WSL_FOLDER, _WSL_FOLDER))
