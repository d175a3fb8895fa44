"""What keeps Triton's kernels from a machine, on stand-ins of it: each reason, and what the doctor says of it."""

import sysconfig
from pathlib import Path

import pytest

from cosyserve.host import gpu, kernels
from cosyserve.host.kernels import KERNELS, Reason, examine, lack
from cosyserve.host.report import Finding, Verdict
from cosyserve.machine import Machine
from cosyserve.settings import Settings
from cosyserve.store.kernel_tests import SelfTest, remember
from cosyserve.store.kernels import folder_of, open_folder
from tests.host.test_gpu import H100, stand_in
from tests.test_machine import machine

HEADERS = f"{sysconfig.get_path('include', 'posix_prefix')}/Python.h"
READS = "exit 0"
MISSES = "echo 'stdin:1:10: fatal error: stdlib.h: No such file or directory' >&2; exit 1"


@pytest.fixture(autouse=True)
def everything_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "find_spec", lambda name: name)


def host(root: Path, answer: str = H100, *, compiler: str | None = READS, headers: bool = True) -> Machine:
    """A machine with a card and what compiles; PATH has nothing else that compiles."""
    folder = stand_in(root, answer).split(":")[0]
    if compiler is not None:
        (root / "bin/gcc").write_text(f"#!/bin/sh\n{compiler}\n")
        (root / "bin/gcc").chmod(0o755)
    (root / "bin/cat").symlink_to("/bin/cat")
    return machine(root, {HEADERS: ""} if headers else {}, PATH=folder)


def reason(found: Machine, capability: float | None = 9.0, dtype: str = "bfloat16") -> Reason | None:
    lacks = lack(found, capability, dtype)
    return None if lacks is None else lacks.reason


def test_they_are_used_where_everything_is_there(tmp_path: Path) -> None:
    assert reason(host(tmp_path)) is None


@pytest.mark.parametrize(("capability", "expected"), [(7.5, "capability"), (8.0, None), (12.0, None), (None, None)])
def test_a_card_before_ampere_has_none(tmp_path: Path, capability: float | None, expected: str | None) -> None:
    assert reason(host(tmp_path), capability) == expected


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_they_are_for_one_type(tmp_path: Path, dtype: str) -> None:
    assert reason(host(tmp_path), dtype=dtype) == "type"


def test_without_triton(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "find_spec", lambda name: None if name == "triton" else name)
    assert reason(host(tmp_path)) == "triton"


def test_without_a_compiler_or_headers(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
    assert reason(host(tmp_path / "a", compiler=None)) == "compiler"
    assert reason(host(tmp_path / "b", headers=False)) == "headers"
    without_library = lack(host(tmp_path / "c", compiler=MISSES), 9.0, "bfloat16")
    assert without_library is not None
    assert (without_library.reason, "stdlib.h" in without_library.cause.en) == ("compiler", True)


def test_the_compiler_is_the_one_that_triton_takes(tmp_path: Path) -> None:
    found = host(tmp_path, compiler=None)
    (tmp_path / "bin/mine").write_text("#!/bin/sh\n")
    (tmp_path / "bin/mine").chmod(0o755)
    assert reason(Machine(found.root, {**found.environ, "CC": "mine"})) is None
    assert reason(Machine(found.root, {**found.environ, "CC": "another"})) == "compiler"
    (tmp_path / "bin/mine").rename(tmp_path / "bin/clang")
    assert reason(found) is None


def asked(found: Machine, state_dir: Path, dtype: str = "auto", device: str = "auto") -> Finding:
    return examine(found, Settings.model_validate({"state_dir": state_dir, "dtype": dtype, "device": device}))


def test_the_doctor_says_what_is_missing_and_what_to_type(tmp_path: Path) -> None:
    finding = asked(host(tmp_path, compiler=None), tmp_path)
    assert (finding.state, finding.facts) == (Verdict.WARN, {"by": "torch", "reason": "compiler"})
    assert "no C compiler" in finding.cause
    assert "没有 C 编译器" in finding.cause_zh
    assert finding.remedy == finding.remedy_zh == "apt-get install gcc libc6-dev"


def test_the_doctor_has_nothing_against_a_wish(tmp_path: Path) -> None:
    finding = asked(host(tmp_path), tmp_path, dtype="float32")
    assert (finding.state, finding.facts["reason"]) == (Verdict.OK, "type")
    assert asked(Machine(tmp_path, {"PATH": f"{tmp_path}/bin"}), tmp_path, device="cpu").state is Verdict.SKIPPED
    assert asked(Machine(tmp_path, {"PATH": "/nowhere"}), tmp_path).state is Verdict.SKIPPED


def test_without_pytorch_there_is_nothing_to_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    assert asked(host(tmp_path), tmp_path).state is Verdict.SKIPPED


@pytest.mark.parametrize(
    ("found", "state", "words", "words_zh"),
    [
        (None, Verdict.OK, "first start", "首次启动"),
        (SelfTest(trying="draw"), Verdict.OK, "first start", "首次启动"),
        (SelfTest(), Verdict.OK, "tested at the last start", "已通过自检"),
        (
            SelfTest(replaced={"draw": "off by 0.5"}),
            Verdict.WARN,
            "PyTorch's instead (draw)",
            "由 PyTorch 代替（draw）",
        ),
        (
            SelfTest(problem="ptxas died"),
            Verdict.WARN,
            "PyTorch's, because Triton's kernels failed",
            "未通过自检（ptxas died）",
        ),
    ],
)
def test_the_doctor_knows_what_the_last_start_found(
    tmp_path: Path, found: SelfTest | None, state: Verdict, words: str, words_zh: str
) -> None:
    here = host(tmp_path)
    card = gpu.first_card(here)
    assert card is not None
    if found is not None:
        folder = folder_of(tmp_path / "state", kernels.key(card))
        open_folder(folder)
        remember(folder, found)
    finding = asked(here, tmp_path / "state")
    assert (finding.id, finding.state) == (KERNELS.id, state)
    assert words in finding.cause
    assert words_zh in finding.cause_zh
    if found is not None and found.replaced:
        assert finding.facts["seen"] == ["draw: off by 0.5"]
