import asyncio
import math

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cosyserve.server.service import Service
from cosyserve.settings import Settings
from cosyserve.speech.choice import Choice
from cosyserve.speech.kernel_choice import KernelsInUse
from tests.conftest import Serving
from tests.standins import FailingSynthesizer, GatedSynthesizer, ToneSynthesizer

SPEECH = "/v1/audio/speech"


def test_readiness_says_what_serves_and_why(client: httpx.Client) -> None:
    assert client.get("/livez").json() == {"status": "alive"}
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["synthesizer"] == "preview"
    assert ready.json()["rung"] == "python"
    assert (ready.json()["longest_text"], ready.json()["needs_key"]) == (20_000, False)
    assert "CosyVoice2" in ready.json()["why"]
    assert "cosyserve fetch" in ready.json()["why_zh"]
    assert client.get("/health").json() == ready.json()


def test_readiness_says_what_a_card_computes_with(serving: Serving) -> None:
    synthesizer = ToneSynthesizer()
    synthesizer.kernels = KernelsInUse("triton", "available", "but for one", "其中一个", {"draw": "off by 0.5"})
    with serving(synthesizer) as url:
        assert httpx.get(f"{url}/readyz").json()["kernels"] == {
            "by": "triton",
            "reason": "available",
            "why": "but for one",
            "why_zh": "其中一个",
            "replaced": {"draw": "off by 0.5"},
        }


class SilentAtFirst(GatedSynthesizer):
    """Stand-in whose first words take as long as the test likes."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = 0


def test_not_ready_before_the_warm_up_has_spoken() -> None:
    async def run() -> None:
        synthesizer = SilentAtFirst()
        service = Service(Settings(), Choice(synthesizer, "", ""))
        warming = asyncio.create_task(service.warm_up())
        await asyncio.sleep(0)
        assert service.state == "starting"
        synthesizer.budget = math.inf
        await warming
        assert service.state == "ready"

    asyncio.run(run())


class Broken(ToneSynthesizer):
    """Stand-in that cannot speak at all."""

    async def between_chunks(self) -> None:
        raise RuntimeError("no sound")


def test_a_failed_warm_up_is_not_ready_and_says_so_to_every_request(serving: Serving) -> None:
    with serving(Broken()) as url, httpx.Client(base_url=url) as client:
        ready = client.get("/readyz")
        assert ready.json()["status"] == "failed"
        assert client.get("/livez").status_code == 200
        refused = client.post(SPEECH, json={"input": "hi"})
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert refused.json()["error"]["code"] == "CS-SRV-005"


def test_metrics_count_outcomes_and_sound(serving: Serving) -> None:
    with serving(FailingSynthesizer()) as url, httpx.Client(base_url=url) as client:
        client.post(SPEECH, json={"input": "abcdefghij", "response_format": "pcm"})
        client.post(SPEECH, json={"input": ""})
        client.post(SPEECH, json={"speed": 1})
        client.post("/tts", data={"text": "fail"})
        samples = {
            (sample.name, sample.labels.get("endpoint"), sample.labels.get("outcome")): sample.value
            for family in text_string_to_metric_families(client.get("/metrics").text)
            for sample in family.samples
            if "le" not in sample.labels
        }
    assert samples["cosyserve_requests_total", SPEECH, "ok"] == 1
    assert samples["cosyserve_requests_total", SPEECH, "refused"] == 2
    assert samples["cosyserve_requests_total", "/tts", "failed"] == 1
    assert samples["cosyserve_audio_seconds_total", None, None] == pytest.approx(1.0)
    assert samples["cosyserve_first_chunk_seconds_count", None, None] == 1
    assert samples["cosyserve_real_time_factor_count", None, None] == 1
    assert samples["cosyserve_active_streams", None, None] == 0
    assert samples["cosyserve_queue_depth", None, None] == 0
    assert samples["cosyserve_rejected_total", None, None] == 0


def test_cors_only_where_it_is_set(serving: Serving) -> None:
    origin = {"Origin": "https://app.example"}
    with serving(ToneSynthesizer()) as url:
        assert "access-control-allow-origin" not in httpx.get(f"{url}/livez", headers=origin).headers
    with serving(ToneSynthesizer(), cors_origins="https://app.example") as url:
        allowed = httpx.get(f"{url}/livez", headers=origin).headers
        assert allowed["access-control-allow-origin"] == "https://app.example"
        other = httpx.get(f"{url}/livez", headers={"Origin": "https://other.example"}).headers
        assert "access-control-allow-origin" not in other
