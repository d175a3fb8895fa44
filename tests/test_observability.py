"""The dashboard draws what the server measures, and nothing else."""

import json
import re

import httpx

from tests.running import ROOT

BOARD = json.loads((ROOT / "docker" / "observability" / "dashboard.json").read_text(encoding="utf-8"))


def test_every_panel_asks_for_what_there_is(client: httpx.Client) -> None:
    client.post("/v1/audio/speech", json={"input": "Hello."})
    measured = set(re.findall(r"^(\w+)", client.get("/metrics").text, flags=re.M))
    asked = {
        name
        for panel in BOARD["panels"]
        for target in panel["targets"]
        for name in re.findall(r"cosyserve_\w+", target["expr"])
    }
    assert len(asked) > 6
    assert asked <= measured
