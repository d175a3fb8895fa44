"""`cosyserve engines check` against the stand-in: each line as it should be, and made to fail one by one."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from cosyserve.assets.export import head_bias
from cosyserve.check import judged, look
from cosyserve.check.check import Check
from cosyserve.check.executor import execute
from cosyserve.check.lines import Line, exit_status, lines_of, report, same, summary
from cosyserve.check.seen import Imported, Libraries, Pytorch, Spoken, Work
from cosyserve.command import command
from cosyserve.cosyvoice.engine.vocabulary import Vocabulary
from cosyserve.cosyvoice.frontend.tokenizer import TextTokenizer
from cosyserve.host import libpython
from cosyserve.host.report import Verdict
from cosyserve.machine import Machine
from cosyserve.settings import Settings
from cosyserve.store.engines import BIAS, CONFIG, PLAN, Engine, Engines
from cosyserve.store.manifest import DEFAULT, MODEL_FOLDER
from tests.assets.test_engines import KEY
from tests.cosyvoice.trtllm.conftest import environment
from tests.cosyvoice.trtllm.test_commands import Host

FOUND_LIBRARIES = dict.fromkeys((*libpython.NAMES, look.LIBMPI, look.LIBNUMA), "")


def failed(lines: list[Line]) -> dict[str, Verdict]:
    """The names of the lines that are not as they should be; each of them says what to do, in both languages."""
    for line in lines:
        assert bool(line.remedy.en) == bool(line.remedy.zh) == (line.state in (Verdict.WARN, Verdict.FAIL)), line
        for text in (line.did, line.expected, line.found):
            assert text.en
            assert text.zh
    return {line.name: line.state for line in lines if line.state not in (Verdict.OK, Verdict.SKIPPED)}


@pytest.mark.parametrize(
    ("library", "name"),
    [
        (libpython.NAMES[0], "libpython"),
        (libpython.NAMES[1], "libpython-dev"),
        (look.LIBMPI, "libmpi"),
        (look.LIBNUMA, "libnuma"),
    ],
)
def test_each_library_is_missed(library: str, name: str) -> None:
    assert failed(judged.libraries(Libraries(problems=FOUND_LIBRARIES), "1.2.1")) == {}
    missing = Libraries(problems={**FOUND_LIBRARIES, library: "cannot open shared object file"})
    assert failed(judged.libraries(missing, "1.2.1")) == {name: Verdict.FAIL}
    wanted_by_1_0 = {} if name == "libpython-dev" else {name: Verdict.FAIL}
    assert failed(judged.libraries(missing, "1.0.0")) == wanted_by_1_0


def test_a_library_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libpython, "NAMES", ("libc.so.6", "libnowhere.so"))
    problems = look.libraries().problems
    assert problems["libc.so.6"] == ""
    assert "libnowhere.so" in problems["libnowhere.so"]


@pytest.mark.parametrize(
    ("version", "torch", "cuda", "right"),
    [
        ("1.2.1", "2.9.1+cu130", "13.0", True),
        ("1.2.1", "2.9.1+cu128", "12.8", False),
        ("1.2.1", "2.10.0+cu130", "13.0", False),
        ("1.0.0", "2.7.1+cu128", "12.8", True),
        ("1.0.0", "2.7.1+cu126", "12.6", False),
        ("1.0.0", "2.7.1+cpu", "", False),
    ],
)
def test_pytorch_is_the_one_that_tensorrt_llm_wants(version: str, torch: str, cuda: str, right: bool) -> None:
    lines = judged.pytorch(Pytorch(version=torch, cuda=cuda, card="NVIDIA"), version)
    assert failed(lines) == ({} if right else {"pytorch": Verdict.FAIL})


def test_a_card_is_missed() -> None:
    without = Pytorch(version="2.9.1+cu130", cuda="13.0", card="")
    assert failed(judged.pytorch(without, "1.2.1")) == {"card": Verdict.FAIL}


GOOD = Imported(version="1.2.1", libmpi=["/usr/lib/libmpi.so.40"], cuda=[13])


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({"direct": GOOD, "mpirun": GOOD}, {}),
        ({"direct": same("it hangs"), "mpirun": GOOD}, {"import-direct": Verdict.WARN}),
        (
            {"direct": same("it hangs"), "mpirun": same("it hangs")},
            {"import-direct": Verdict.FAIL, "import-mpirun": Verdict.FAIL},
        ),
        (
            {"direct": GOOD.model_copy(update={"libmpi": ["/a/libmpi.so", "/b/libmpi.so"]})},
            {"import-direct": Verdict.FAIL},
        ),
        ({"direct": GOOD.model_copy(update={"cuda": [12, 13]})}, {"import-direct": Verdict.FAIL}),
    ],
)
def test_what_an_import_maps(seen: dict[str, Any], expected: dict[str, Verdict]) -> None:
    assert failed(judged.imports(seen)) == expected


@pytest.mark.parametrize(("size", "expected"), [(1_300, {}), (1_000, {}), (400, {"build": Verdict.FAIL})])
def test_an_engine_is_as_large_as_its_weights(size: int, expected: dict[str, Verdict]) -> None:
    line = judged.built({CONFIG: 10, PLAN: size}, weights=2_000, seconds=90)
    assert failed([line]) == expected
    assert f"{PLAN} " in line.found.en
    assert "90 s" in line.found.en


def built(models: Path, root: Path, **behaviour: float) -> Engine:
    """An engine of the stand-in, without a build."""
    folder = models / MODEL_FOLDER

    def write(into: Path) -> None:
        (into / PLAN).write_bytes(b"stand-in")
        (into / CONFIG).write_text(json.dumps({"asked": {"max_input_len": 2560}}))
        (into / "behaviour.json").write_text(json.dumps({"step_seconds": 0.002, **behaviour}))
        save_file({"bias": Vocabulary(TextTokenizer(folder).size).bias(head_bias(folder))}, into / BIAS)

    return Engines(root).build(KEY, write)


@pytest.mark.usefixtures("with_trtllm")
@pytest.mark.parametrize(
    ("behaviour", "name"),
    [
        ({}, ""),
        ({"length": 16}, "length"),
        ({"unseeded": 1}, "seed"),
        ({"strays": 1.0}, "speech"),
        ({"greedy_unsteady": 1}, "greedy"),
        ({"greedy_wrong_from": 4}, "pytorch-greedy"),
        ({"takes_all": 1}, "refusal"),
        ({"deaf": 1}, "cancel"),
    ],
)
def test_each_answer_of_the_executor_is_judged(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: dict[str, float], name: str
) -> None:
    monkeypatch.setenv("STANDIN_MPI", "none")
    monkeypatch.setenv("COSYSERVE_MODELS_DIR", str(models))
    engine = built(models, tmp_path, **behaviour)
    seen = execute(Work(model=models / MODEL_FOLDER, name=DEFAULT, engine=engine.folder, into=tmp_path / "seen.json"))
    assert failed(judged.executed(seen)) == ({name: Verdict.FAIL} if name else {})


SPOKEN = Spoken(why="by TensorRT-LLM's engine", failed=[], capturing=0, first_ms=90, times_real_time=40)
SLOWER = Spoken(why="by PyTorch", failed=[], capturing=0, first_ms=120, times_real_time=20)


@pytest.mark.parametrize(
    ("seen", "by_pytorch", "expected"),
    [
        ({}, SLOWER, {}),
        ({"why": "by PyTorch"}, SLOWER, {"server": Verdict.FAIL}),
        ({"failed": ["status 500"]}, SLOWER, {"streams": Verdict.FAIL}),
        ({"capturing": 2}, SLOWER, {"captures": Verdict.FAIL}),
        ({"times_real_time": 10}, SLOWER, {"speed": Verdict.WARN}),
        ({}, None, {}),
    ],
)
def test_what_the_streams_say(seen: dict[str, Any], by_pytorch: Spoken | None, expected: dict[str, Verdict]) -> None:
    assert failed(judged.spoken(SPOKEN.model_copy(update=seen), by_pytorch, 16)) == expected


@pytest.fixture
def host(models_with_room: Path) -> Host:
    return Host(models_with_room)


@pytest.fixture
def check(host: Host, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Check]:
    """A check in this process, whose children find the stand-ins."""
    monkeypatch.setenv("PATH", environment()["PATH"])
    monkeypatch.setattr("cosyserve.check.check.supported_version", lambda: "1.2.1")

    def checking(**variables: str) -> Check:
        environ = {**host.environ, **variables}
        return Check(Settings(models_dir=host.models), Machine(environ=environ), 2, lambda text: None)

    return checking


@pytest.mark.mpi
def test_an_import_that_fails_is_seen_on_every_rung(check: Callable[..., Check]) -> None:
    lines = check(STANDIN_LIBPYTHON="9.99").imports()
    assert set(failed(lines).values()) == {Verdict.FAIL}
    assert len(lines) == 4
    assert all("libpython" in line.found.en for line in lines)


@pytest.mark.mpi
def test_a_build_and_an_executor_that_fail(check: Callable[..., Check], models: Path, tmp_path: Path) -> None:
    engine = built(models, tmp_path)
    (engine.folder / PLAN).write_bytes(b"of another card")
    assert failed(check().executor(engine, tmp_path)) == {"executor": Verdict.FAIL}
    folder = tmp_path / "models"
    line, none = check(STANDIN_FAILS="no kernel image is available").build(folder)
    assert failed([line]) == {"build": Verdict.FAIL}
    assert none is None


@pytest.mark.mpi
def test_the_whole_check(host: Host, tmp_path: Path) -> None:
    """Slow: an engine is built and two servers are started. Without a card its own line and PyTorch's fail."""
    file = tmp_path / "report.json"
    before = sorted(host.models.iterdir())
    behaviour = json.dumps({"step_seconds": 0.002})
    asked = ("--lang", "zh", "--report", str(file), "--streams", "2")
    done = host.runs("engines", "check", *asked, STANDIN_BEHAVIOUR=behaviour)
    told = json.loads(file.read_text(encoding="utf-8"))
    states = {line["name"]: line["state"] for line in told["lines"]}
    assert {name for name, state in states.items() if state not in ("ok", "skipped")} <= {"pytorch", "card", "speed"}, (
        done.stdout + done.stderr
    )
    assert {"libnuma", "import-mpirun", "build", "executor", "cancel", "streams", "captures", "speed"} <= states.keys()
    assert done.returncode == 2
    assert "✓ streams: 同时合成 2 路" in done.stdout
    assert sorted(host.models.iterdir()) == before
    assert str(tmp_path.parent) not in file.read_text(encoding="utf-8")
    assert told["machine"]["card"]["name"] == "NVIDIA Stand-in 4090"


def test_a_report_has_no_paths() -> None:
    found = same("/home/somebody/venv/lib/libmpi.so.40: no; ~/.openmpi/x.conf, see http://127.0.0.1:8000/readyz 1/2")
    (line,) = judged.imports({"direct": found})
    text = report([line], {"cosyserve": "1"})
    assert "somebody" not in text
    assert "…/libmpi.so.40: no; …/x.conf, see http://127.0.0.1:8000/readyz 1/2" in text
    assert json.loads(text)["lines"][0]["name"] == "import-direct"


def test_lines_in_both_languages() -> None:
    good, bad = judged.imports({"direct": GOOD, "mpirun": same("it hangs")})
    assert lines_of(good, "en").startswith("✓ import-direct: imported TensorRT-LLM")
    chinese = lines_of(bad, "zh")
    assert chinese.startswith("! import-mpirun: 以“mpirun”方式导入")
    assert re.search(rf"预期: .*\n    结果: it hangs\n    → {re.escape(command())} doctor", chinese)
    assert exit_status([good]) == 0
    assert exit_status([good, bad]) == 1
    assert summary([good], "en") != summary([good], "zh")
