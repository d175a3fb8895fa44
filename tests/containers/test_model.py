"""From an empty volume to CosyVoice2 speech: the model comes from a hub on this machine, with nothing typed but the run
line and its environment."""

import hashlib
import json
from pathlib import Path

import httpx
import numpy as np
import pytest

from cosyserve.server.run import listen
from tests.assets.hub import COMMIT, REPOSITORY, Hub
from tests.containers.conftest import Start
from tests.cosyvoice.folder import make_model
from tests.running import HANGS
from tests.signals import from_wav

pytestmark = pytest.mark.containers


def manifest_of(model: Path) -> tuple[dict[str, object], dict[str, bytes]]:
    files = {str(path.relative_to(model)): path.read_bytes() for path in sorted(model.rglob("*")) if path.is_file()}
    hubs = {"huggingface": {"repository": REPOSITORY, "revision": COMMIT}}
    listed = [
        {"path": path, "part": "test", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for path, data in files.items()
    ]
    return {"cosyvoice2-0.5b": {"about": "", "folder": "CosyVoice2-0.5B", "hubs": hubs, "files": listed}}, files


def test_an_empty_volume_becomes_a_voice_and_a_second_start_does_no_work_again(
    slim: str, run: Start, folder: Path
) -> None:
    """Slow: an image with PyTorch is built, and CosyVoice2 starts in it twice."""
    manifest, files = manifest_of(make_model(folder / "model"))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    volume = {
        "cosyserve-test-model": {"bind": "/data", "mode": "rw"},
        str(folder / "manifest.json"): {"bind": "/manifest.json", "mode": "ro"},
    }
    environment = {
        "HF_ENDPOINT": "",
        "_COSYSERVE_MANIFEST": "/manifest.json",
        "COSYSERVE_SYNTHESIZER": "cosyvoice2",
        "COSYSERVE_HOST": "127.0.0.1",
        "COSYSERVE_PORT": str(port),
        "COSYSERVE_MPI": "always",
    }
    with Hub(files) as hub:
        environment["HF_ENDPOINT"] = hub.url
        first = run(slim, environment=environment, volumes=volume, network_mode="host")
        try:
            first.url = f"http://127.0.0.1:{port}"
            first.wait_for("healthy")
            state = httpx.get(f"{first.url}/readyz").json()
            assert (state["synthesizer"], state["rung"], state["device"]) == ("cosyvoice2", "mpirun", "cpu")
            body = {"input": "你好。Hello.", "response_format": "wav", "seed": 1}
            spoken = httpx.post(f"{first.url}/v1/audio/speech", json=body, timeout=HANGS)
            assert spoken.status_code == 200
            assert len(from_wav(spoken.content)) > 24_000 / 4
            first.container.stop(timeout=HANGS)
            asked = len(hub.asked)
            first.container.start()
            first.wait_for("healthy")
            assert len(hub.asked) == asked
            again = httpx.post(f"{first.url}/v1/audio/speech", json=body, timeout=HANGS)
            assert np.array_equal(from_wav(again.content), from_wav(spoken.content))  # their labels have other ids
        finally:
            first.container.remove(force=True)
            first.container.client.volumes.get("cosyserve-test-model").remove(force=True)
