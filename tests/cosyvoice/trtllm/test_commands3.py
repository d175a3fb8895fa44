"""`cosyserve build` and `serve` with CosyVoice3, where a card and TensorRT-LLM are, both stand-ins; MPI is real."""

import json
import shutil
from pathlib import Path

import httpx
import pytest

from cosyserve.store.engines import CONFIG, PLAN
from tests.cosyvoice.trtllm.test_commands import Host
from tests.launch.supervised import Supervised, speaks

pytestmark = pytest.mark.mpi


@pytest.fixture
def host(models3: Path, tmp_path: Path) -> Host:
    shutil.copytree(models3, tmp_path / "host" / "models")
    return Host(tmp_path / "host" / "models")


def test_an_engine_is_built_without_a_bias_and_speaks(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = host.runs("build", "--from-hub")
    assert (refused.returncode, "CS-BUILD-007" in refused.stderr) == (2, True)
    done = host.runs("build")
    assert done.returncode == 0, done.stderr
    engine = host.engine()
    assert {path.name for path in engine.folder.iterdir()} == {PLAN, CONFIG, "key.json"}
    assert "lm_head.weight" in json.loads((engine.folder / CONFIG).read_text())["keys"]
    assert "lm_head.bias" not in json.loads((engine.folder / CONFIG).read_text())["keys"]
    assert json.loads(host.runs("engines", "key").stdout)["digest"] == engine.key.digest
    for name, value in host.environ.items():
        if not name.startswith("COSYSERVE_"):
            monkeypatch.setenv(name, value)
    with Supervised(tmp_path, models_dir=host.models, mpi="auto", dtype="float32", synthesizer="cosyvoice") as server:
        state = httpx.get(f"{server.url}/readyz").json()
        assert state["model"] == "cosyvoice3-0.5b"
        assert engine.key.digest in state["why"]
        assert speaks(server.url)
        assert server.stop() == 0
        assert "Traceback" not in server.text()
