"""What is special about WSL2: the driver's folder, Windows' disks, and how Windows reaches a server. Pure decisions."""

from pathlib import Path

from cosyserve.host.report import Check, Finding, Text
from cosyserve.machine import Machine, is_container, is_wsl, on_windows_disk

NETWORK = Check("CS-WSL-001", Text("WSL2 networking", "WSL2 网络"))
DISK = Check("CS-WSL-002", Text("WSL2 disk", "WSL2 磁盘"))

LIBRARIES = "/usr/lib/wsl/lib"
_MIRRORED = "/sys/class/net/loopback0"  # an interface that only mirrored networking has


def driver_folder(machine: Machine) -> str:
    """The folder in which Windows puts the driver's libraries; empty if there are none. A linker may not search it by
    itself."""
    return LIBRARIES if is_wsl(machine) and machine.exists(f"{LIBRARIES}/libcuda.so.1") else ""


def is_mirrored(machine: Machine) -> bool:
    """Whether WSL2 shares Windows' addresses, instead of having some of its own behind NAT."""
    return machine.exists(_MIRRORED)


def windows_address(machine: Machine, port: int) -> str:
    """The address at which a browser in Windows finds a server of this machine; empty if this is not WSL2, or is a
    container in it."""
    return f"http://localhost:{port}/" if is_wsl(machine) and not is_container(machine) else ""


def examine(machine: Machine, models: Path, port: int) -> list[Finding]:
    if not is_wsl(machine):
        return []
    return [_network(machine, port), _disk(machine, models)]


def _network(machine: Machine, port: int) -> Finding:
    if is_mirrored(machine):
        return NETWORK.ok(
            Text(
                "mirrored: Windows and other machines reach a server as if it were Windows' own. A probe of MPI for X "
                "displays, which hangs on mirrored loopback, is switched off in every start",
                "镜像模式：Windows 和其他机器可直接访问服务器。MPI 对 X 显示的探测会在镜像回环上挂起，"
                "每次启动均已关闭该探测",
            ),
            mirrored=True,
        )
    return NETWORK.ok(
        Text(
            f"NAT: in Windows http://localhost:{port}/; other machines need networkingMode=mirrored in "
            "%UserProfile%\\.wslconfig, or: netsh interface portproxy",
            f"NAT：在 Windows 中访问 http://localhost:{port}/；其他机器访问需在 %UserProfile%\\.wslconfig 中设置 "
            "networkingMode=mirrored，或使用 netsh interface portproxy",
        ),
        mirrored=False,
    )


def _disk(machine: Machine, models: Path) -> Finding:
    if on_windows_disk(machine, models):
        return DISK.warn(
            Text(
                f"{models} lies on a disk of Windows: loading a model takes many times longer there",
                f"{models} 位于 Windows 磁盘上：加载模型会慢很多倍",
            ),
            Text(
                "COSYSERVE_MODELS_DIR=~/.local/share/cosyserve/models, and better: clone into your Linux home",
                "COSYSERVE_MODELS_DIR=~/.local/share/cosyserve/models，最好将仓库克隆到 Linux 主目录",
            ),
        )
    return DISK.ok(Text(f"{models} on a disk of WSL2's own", f"{models} 位于 WSL2 自己的磁盘"))
