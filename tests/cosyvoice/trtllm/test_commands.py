"""`cosyserve build`, `engines` and `serve` on a machine with a card and TensorRT-LLM, both stand-ins; MPI is real."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from safetensors import safe_open

from cosyserve.assets.export import export
from cosyserve.store import manifest
from cosyserve.store.engines import BIAS, CONFIG, PLAN, Engine, Engines
from cosyserve.store.manifest import MODEL_FOLDER
from tests.cosyvoice.trtllm.conftest import environment
from tests.launch.supervised import Supervised, speaks
from tests.running import HANGS, eventually

pytestmark = pytest.mark.mpi


class Host:
    """Runs commands where the stand-ins are."""

    def __init__(self, models: Path) -> None:
        self.models, self.engines = models, Engines(models)
        self.folder = models.parent  # where commands are run
        self.count = models.parent / "built"
        self.environ = {
            **os.environ,
            **environment(),
            "COSYSERVE_MODELS_DIR": str(models),
            "COSYSERVE_STATE_DIR": str(models.parent / "state"),
            "STANDIN_COUNT": str(self.count),
        }

    def runs(self, *command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "cosyserve", *command],
            env={**self.environ, **variables},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=HANGS,
        )

    def built(self) -> int:
        return len(self.count.read_text().splitlines()) if self.count.exists() else 0

    def engine(self) -> Engine:
        (engine,) = self.engines.all()
        return engine


@pytest.fixture
def host(models_with_room: Path) -> Host:
    return Host(models_with_room)


@pytest.fixture(scope="module")
def with_an_engine(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """Tests that change something copy it first."""
    folder = tmp_path_factory.mktemp("built") / "models"
    shutil.copytree(models, folder)
    host = Host(folder)
    host.folder = Path("/proc")  # nobody writes here
    done = host.runs("build")
    assert done.returncode == 0, done.stderr
    return host


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, with_an_engine: Host, tmp_path: Path) -> Host:
    """Where servers find the stand-ins, and an engine."""
    shutil.copytree(with_an_engine.models.parent, tmp_path / "host")
    host = Host(tmp_path / "host" / "models")
    for name, value in host.environ.items():
        if not name.startswith("COSYSERVE_"):
            monkeypatch.setenv(name, value)
    return host


def test_an_engine_is_built_once_with_what_it_was_asked_for(host: Host) -> None:
    done = host.runs("build", "--max-batch", "4", "--max-seq", "1024", "--dtype", "float16")
    assert done.returncode == 0, done.stderr
    assert "Total time of building" in done.stderr
    engine = host.engine()
    made = json.loads((engine.folder / CONFIG).read_text())
    assert made["asked"] == {
        "max_input_len": 1024,
        "max_seq_len": 1024,
        "opt_batch_size": 8,
        "max_batch_size": 4,
        "max_beam_width": 1,
        "max_num_tokens": 2048,
        "plugins": {"gemm_plugin": "float16", "paged_kv_cache": True, "tokens_per_block": 32},
        "dtype": "float16",
    }
    assert "lm_head.weight" in made["keys"]
    with safe_open(engine.folder / BIAS, "pt") as file:
        assert str(file.get_tensor("bias").dtype) == "torch.float32"
    assert {path.name for path in engine.folder.iterdir()} == {PLAN, CONFIG, BIAS, "key.json"}  # no export is left
    assert host.runs("build", "--max-batch", "4", "--max-seq", "1024", "--dtype", "float16").returncode == 0
    assert host.built() == 1
    listed = host.runs("engines", "list").stdout
    assert engine.key.digest in listed
    assert "NVIDIA Stand-in 4090" in listed
    assert json.loads(host.runs("engines", "key").stdout)["card"] == "NVIDIA Stand-in 4090"
    assert host.runs("engines", "prune", "--keep", "0").returncode == 0
    assert not host.engines.all()


def test_a_build_leaves_the_working_folder_alone(with_an_engine: Host) -> None:
    """TensorRT-LLM writes its timing cache there unless it is told another place; in the image nobody may write."""
    assert with_an_engine.folder == Path("/proc")
    assert not list(with_an_engine.engine().folder.rglob("*cache*"))


def test_the_plan_builds_nothing(host: Host) -> None:
    done = host.runs("build", "--plan")
    assert done.returncode == 0, done.stderr
    for words in ("to be built", "max_batch_size 16", "direct", "TensorRT-LLM 1.2.1"):
        assert words in done.stdout
    assert host.built() == 0


def test_what_somebody_else_has_exported_is_read_when_it_is_asked_for(host: Host, tmp_path: Path) -> None:
    exported = host.models / "cosyvoice2_llm"
    export(host.models / MODEL_FOLDER, exported)
    known = json.loads(Path(str(manifest.__file__)).with_name("models.json").read_text(encoding="utf-8"))
    for each in known["cosyvoice2-llm"]["files"]:
        each |= {"size": None, "sha256": None}
    (tmp_path / "manifest.json").write_text(json.dumps(known))
    offline = {"_COSYSERVE_MANIFEST": str(tmp_path / "manifest.json"), "HF_HUB_OFFLINE": "1"}
    done = host.runs("build", "--from-hub", **offline)
    assert done.returncode == 0, done.stderr
    assert "exporting" not in done.stderr
    assert "lm_head.weight" in json.loads((host.engine().folder / CONFIG).read_text())["keys"]
    assert exported.exists()


def test_a_build_that_fails_says_why_and_leaves_nothing(host: Host) -> None:
    done = host.runs("build", STANDIN_FAILS="no kernel image is available")
    assert done.returncode == 2
    assert "CS-BUILD-005" in done.stderr
    assert "no kernel image is available" in done.stderr
    assert not host.engines.all()
    assert not [each for each in host.engines.root.iterdir() if each.is_dir()]


def test_a_build_that_takes_too_long_is_ended(host: Host) -> None:
    done = host.runs("build", STANDIN_SECONDS="60", COSYSERVE_BUILD_SECONDS="1")
    assert done.returncode == 2
    assert "CS-BUILD-005" in done.stderr


def test_a_server_speaks_with_the_engine_on_an_mpi_rung(built: Host, tmp_path: Path) -> None:
    with Supervised(tmp_path, models_dir=built.models, mpi="auto", dtype="float32", synthesizer="cosyvoice2") as server:
        assert server.wait_until_it_stands()[0] in ("direct", "mpirun", "isolated")
        state = httpx.get(f"{server.url}/readyz").json()
        assert built.engine().key.digest in state["why"]
        assert speaks(server.url)
        assert server.stop() == 0
        assert "Traceback" not in server.text()


def test_an_engine_that_does_not_load_is_built_anew_once(built: Host, tmp_path: Path) -> None:
    (built.engine().folder / PLAN).write_bytes(b"of another card")
    with Supervised(tmp_path, models_dir=built.models, mpi="auto", synthesizer="cosyvoice2") as server:
        assert built.built() == 2
        assert server.says("CS-ENGINE-002")
        assert built.engine().key.digest in httpx.get(f"{server.url}/readyz").json()["why"]
        assert speaks(server.url)


def test_where_no_engine_loads_pytorch_speaks(built: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow: the server starts three times, with MPI twice, and an engine is built between."""
    (built.engine().folder / PLAN).write_bytes(b"of another card")
    monkeypatch.setenv("STANDIN_UNLOADABLE", "of another card")
    with Supervised(tmp_path, models_dir=built.models, mpi="auto", synthesizer="cosyvoice2") as server:
        assert built.built() == 2
        assert server.wait_until_it_stands()[0] == "without-mpi"
        assert "by PyTorch" in httpx.get(f"{server.url}/readyz").json()["why"]
        assert speaks(server.url)


def test_an_engine_that_breaks_twice_gives_way_to_pytorch(built: Host, tmp_path: Path) -> None:
    behaviour = json.dumps({"breaks_after": 150})  # enough steps for the warm-up
    (built.engine().folder / "behaviour.json").write_text(behaviour)
    with Supervised(tmp_path, models_dir=built.models, mpi="auto", synthesizer="cosyvoice2") as server:
        for starts in (2, 3):
            break_it(server.url)
            server.wait_until_it_stands(starts)
        assert server.wait_until_it_stands(3)[0] == "without-mpi"
        assert server.says("CS-ENGINE-003")
        assert speaks(server.url)


def break_it(url: str) -> None:
    """Speak until the engine is gone; a client is told and not left waiting."""

    def gone() -> bool:
        try:
            body = {"input": "One two three four five six seven.", "response_format": "wav"}
            return httpx.post(f"{url}/v1/audio/speech", json=body, timeout=HANGS).status_code >= 500
        except httpx.TransportError:
            return True

    eventually(gone)


def test_who_asks_for_an_engine_where_none_is_gets_the_command(host: Host) -> None:
    done = host.runs("serve", COSYSERVE_BACKEND="trtllm", COSYSERVE_PORT="0")
    assert done.returncode == 2
    assert "CS-ENGINE-001" in done.stderr
    assert "cosyserve build" in done.stderr


def test_a_stop_is_heard_while_an_engine_is_built_anew(
    built: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (built.engine().folder / PLAN).write_bytes(b"of another card")
    monkeypatch.setenv("STANDIN_SECONDS", "60")
    server = Supervised(tmp_path, models_dir=built.models, mpi="auto", synthesizer="cosyvoice2")
    try:
        eventually(lambda: "building the engine" in server.text())
        assert server.stop() == 0
        assert not server.left()
    finally:
        server.close()
