"""What nvidia-smi was seen to say, said here by a stand-in of that name."""

from pathlib import Path

import pytest

from cosyserve.host import gpu
from cosyserve.host.report import Finding, Verdict
from cosyserve.machine import Machine
from cosyserve.store.manifest import DEFAULT
from tests.test_machine import WSL_KERNEL, machine

H100 = "NVIDIA H100 80GB HBM3, 580.159.04, 9.0, 81559, 81079\n"
H100_HEADING = "| NVIDIA-SMI 580.159.04     Driver Version: 580.159.04     CUDA Version: 13.0     |\n"


def stand_in(root: Path, query: str, heading: str = H100_HEADING, status: int = 0) -> str:
    """A PATH on which nvidia-smi gives these answers."""
    folder = root / "bin"
    folder.mkdir()
    (folder / "query").write_text(query)
    (folder / "heading").write_text(heading)
    script = folder / "nvidia-smi"
    script.write_text(f"#!/bin/sh\ncd {folder}\n[ $# = 0 ] && cat heading || cat query\nexit {status}\n")
    script.chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def states(host: Machine) -> dict[str, Verdict]:
    return {finding.id: finding.state for finding in gpu.examine(host)}


def test_a_real_answer(tmp_path: Path) -> None:
    (card,) = gpu.parse_cards(H100)
    assert card == gpu.Card("NVIDIA H100 80GB HBM3", "580.159.04", 9.0, 81559, 81079)
    assert gpu.parse_cuda(H100_HEADING) == "13.0"
    assert set(states(machine(tmp_path, {}, PATH=stand_in(tmp_path, H100))).values()) == {Verdict.OK}


def test_a_card_is_told_for_how_many_streams_it_has_room(tmp_path: Path) -> None:
    def memory(mib: int, past_seconds: float, model: str = DEFAULT) -> Finding:
        folder = tmp_path / f"{mib}-{past_seconds}-{model}"
        folder.mkdir()
        host = machine(folder, {}, PATH=stand_in(folder, f"A, 580.1, 9.0, {mib}, {mib}\n"))
        return next(each for each in gpu.examine(host, past_seconds, model=model) if each.id == "CS-GPU-004")

    assert "about 11 streams of CosyVoice2 that see 15 s back" in memory(24 << 10, 15).cause
    assert "12 GiB 5, 16 GiB 7, 24 GiB 11, 48 GiB 25" in memory(80 << 10, 15).cause
    none = memory(8 << 10, 0)
    assert (none.state, none.facts["streams"]) == (Verdict.WARN, 0)
    assert "COSYSERVE_PAST_SECONDS" in none.remedy
    assert memory(8 << 10, 5).state is Verdict.OK
    third = memory(24 << 10, 15, "cosyvoice3-0.5b")
    assert "streams of CosyVoice3 that see 15 s back" in third.cause
    assert int(str(third.facts["streams"])) > 0


def test_not_available_is_skipped_not_an_error(tmp_path: Path) -> None:
    answer = "NVIDIA GeForce RTX 3090, 552.22, [N/A], 24576, [Not Supported]\n"
    found = states(machine(tmp_path, {}, PATH=stand_in(tmp_path, answer)))
    assert found["CS-GPU-001"] is Verdict.OK
    assert found["CS-GPU-003"] is found["CS-GPU-004"] is Verdict.SKIPPED


@pytest.mark.parametrize(
    ("visible", "name"),
    [(None, "A"), ("0", "A"), ("1,0", "B"), ("1", "B"), ("2", None), ("", None), ("-1", None), ("GPU-b", "B")],
)
def test_the_first_card_is_cudas(tmp_path: Path, visible: str | None, name: str | None) -> None:
    """An engine is chosen for the card that it will run on."""
    path = stand_in(tmp_path, "A, 580.1, 9.0, 81559, 81079\nB, 580.1, 8.9, 24564, 24000\n")
    (tmp_path / "bin/-i GPU-b").write_text("B, 580.1, 8.9, 24564, 24000\n")
    script = tmp_path / "bin/nvidia-smi"
    script.write_text(script.read_text().replace("cat query", '{ [ -e "$1 $2" ] && cat "./$1 $2" || cat query; }'))
    environ = {"PATH": path} | ({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    first = gpu.first_card(machine(tmp_path, {}, **environ))
    assert (first.name if first else None) == name


def test_an_old_and_a_full_card(tmp_path: Path) -> None:
    found = states(machine(tmp_path, {}, PATH=stand_in(tmp_path, "Tesla V100, 535.1, 7.0, 16384, 900\n")))
    assert found["CS-GPU-003"] is found["CS-GPU-004"] is Verdict.WARN


@pytest.mark.parametrize(
    "answer",
    [
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n",
        "Failed to initialize NVML: Driver/library version mismatch\n",
        "",
        "No devices were found\n",
        ",,,,\n" * 2 + "\0\0",
    ],
)
def test_a_driver_that_does_not_work(tmp_path: Path, answer: str) -> None:
    found = gpu.examine(machine(tmp_path, {}, PATH=stand_in(tmp_path, answer, status=9)))
    assert found[0].state in (Verdict.WARN, Verdict.OK)
    assert all(each.state is not Verdict.FAIL for each in found)


def test_no_card(tmp_path: Path) -> None:
    bare = machine(tmp_path / "bare", {}, PATH="/nowhere")
    assert set(states(bare).values()) == {Verdict.SKIPPED}
    assert gpu.examine(bare, needed=True)[0].state is Verdict.WARN
    no_card_mode = machine(tmp_path / "autodl", {"/root/autodl-tmp/x": ""}, PATH="/nowhere")
    assert set(states(no_card_mode).values()) == {Verdict.SKIPPED}


def test_why_a_card_is_not_used(tmp_path: Path) -> None:
    old = H100_HEADING.replace("13.0", "12.2")
    with_card = machine(tmp_path, {}, PATH=stand_in(tmp_path, H100, old))
    too_new = gpu.why_unused(with_card, "13.0")
    assert too_new is not None
    assert "H100" in too_new.en
    assert "12.2" in too_new.en
    assert "13.0" in too_new.en
    for_processors = gpu.why_unused(with_card, None)
    assert for_processors is not None
    assert "for processors" in for_processors.en
    assert gpu.why_unused(machine(tmp_path / "bare", {}, PATH="/nowhere"), None) is None


def test_wsl_needs_windows_driver_folder(tmp_path: Path) -> None:
    bare = machine(tmp_path / "a", WSL_KERNEL, PATH="/nowhere")
    assert states(bare)["CS-GPU-005"] is Verdict.WARN
    whole = machine(tmp_path / "b", {**WSL_KERNEL, "/usr/lib/wsl/lib/libcuda.so.1": ""}, PATH="/nowhere")
    assert states(whole)["CS-GPU-005"] is Verdict.OK
