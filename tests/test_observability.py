"""The dashboard draws what the server measures, and nothing else."""

import json
import re

import httpx

from cosyserve.settings import KEY_FILE
from tests.running import ROOT, eventually

BOARD = json.loads((ROOT / "docker" / "observability" / "dashboard.json").read_text(encoding="utf-8"))


def test_every_panel_asks_for_what_there_is(client: httpx.Client) -> None:
    client.post("/v1/audio/speech", json={"input": "Hello."})

    def measured() -> set[str]:
        return set(re.findall(r"^(\w+)", client.get("/metrics").text, flags=re.M))

    asked = {
        name
        for panel in BOARD["panels"]
        for target in panel["targets"]
        for name in re.findall(r"cosyserve_\w+", target["expr"])
    }
    assert len(asked) > 6
    eventually(lambda: asked <= measured())  # a request is counted once its client has it all


def test_prometheus_reads_the_key_that_the_server_makes() -> None:
    """The volume is mounted at /data in one and at /etc/cosyserve in the other."""
    docker = ROOT / "docker"
    mounts = {"compose.yaml": "data:/data\n", "compose.observability.yaml": "data:/etc/cosyserve:ro"}
    assert all(mount in (docker / file).read_text(encoding="utf-8") for file, mount in mounts.items())
    state = re.search(r"COSYSERVE_STATE_DIR=/data/(\S+)", (docker / "Dockerfile").read_text(encoding="utf-8"))
    assert state
    prometheus = (docker / "observability/prometheus.yaml").read_text(encoding="utf-8")
    assert f"credentials_file: /etc/cosyserve/{state[1]}/{KEY_FILE}\n" in prometheus
