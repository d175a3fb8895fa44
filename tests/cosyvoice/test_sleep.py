"""A server whose weights are let go of while nobody speaks, with either model and either place for them."""

import asyncio
import logging
import shutil
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cosyserve import errors
from cosyserve.cosyvoice.model.config import Config
from cosyserve.errors import CosyError
from cosyserve.settings import Settings
from cosyserve.speech import loaded
from cosyserve.speech.choice import choose
from cosyserve.speech.cosyvoice import CosyVoiceSynthesizer
from cosyserve.speech.kernel_choice import KernelChoice, KernelsInUse
from cosyserve.speech.loaded import Model, streams_beside
from cosyserve.speech.runtime_config import config_for
from cosyserve.speech.synthesizer import Options, voice_of
from cosyserve.store.manifest import MODEL_FOLDER
from tests.conftest import Serving
from tests.running import HANGS, eventually

_SECONDS = 0.05  # without a request


@dataclass
class Served:
    url: str
    synthesizer: CosyVoiceSynthesizer

    def status(self) -> tuple[int, str]:
        answer = httpx.get(f"{self.url}/readyz")
        return answer.status_code, answer.json()["status"]

    def fall_asleep(self) -> None:
        eventually(lambda: self.status() == (200, "asleep"))

    def speak(self, text: str = "Hi.") -> httpx.Response:
        body = {"input": text, "response_format": "pcm", "seed": 7}
        return httpx.post(f"{self.url}/v1/audio/speech", json=body, timeout=HANGS)


@pytest.fixture(scope="module", params=[("cosyvoice2", "memory"), ("cosyvoice3", "disk")], ids=" ".join)
def served(
    request: pytest.FixtureRequest, serving: Serving, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    edition, place = request.param
    models = request.getfixturevalue("models3" if edition == "cosyvoice3" else "models")
    folder = tmp_path_factory.mktemp("asleep")
    told = {"models_dir": models, "state_dir": folder, "voices_dir": folder / "voices"}
    settings = Settings(synthesizer="cosyvoice", dtype="float32", unload_to=place, **told)
    synthesizer = choose(settings).synthesizer
    assert isinstance(synthesizer, CosyVoiceSynthesizer)
    with serving(synthesizer, unload_seconds=_SECONDS, voices_dir=folder / "voices") as url:
        yield Served(url, synthesizer)


@pytest.mark.parametrize("served", [("cosyvoice2", "memory")], indirect=True, ids=" ".join)
def test_where_others_have_the_memory_it_stays_asleep_until_they_give_it_back(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.fall_asleep()
    with monkeypatch.context() as crowded:
        crowded.setattr(loaded, "Parts", out_of_memory)
        told = [served.speak() for _ in range(2)]
        assert {(each.status_code, each.json()["error"]["code"]) for each in told} == {(503, "CS-SLEEP-001")}
        assert all(int(each.headers["Retry-After"]) > 0 for each in told)
        assert served.status() == (200, "asleep")
    assert served.speak().status_code == 200


def test_it_sleeps_says_so_wakes_and_sounds_as_before(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cosyserve")
    before = served.speak()
    assert before.status_code == 200, before.text
    served.fall_asleep()
    eventually(lambda: "Asleep: " in caplog.text)
    assert httpx.get(f"{served.url}/v1/audio/voices").json()["voices"]  # which need no weights
    assert served.status() == (200, "asleep")
    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(lambda _: served.speak(), range(3)))
    assert {(each.status_code, each.content) for each in answers} == {(200, before.content)}
    assert "Awake: " in caplog.text


def out_of_memory(*_: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture
def synthesizer(models: Path, tmp_path: Path) -> Iterator[CosyVoiceSynthesizer]:
    config = replace(config_for(Settings(device="cpu", dtype="float32", state_dir=tmp_path), 1), unload_to="disk")
    with closing(CosyVoiceSynthesizer(models / MODEL_FOLDER, tmp_path / "voices", config)) as made:
        yield made


def test_asleep_nothing_refers_to_the_weights(synthesizer: CosyVoiceSynthesizer) -> None:
    awake = synthesizer.rest.loaded
    assert awake is not None
    assert awake._parts is not None
    parts, tokens = awake._parts, awake.runtime._tokens._generator
    kept = [weakref.ref(each) for each in (parts._flow, parts._vocoder, parts, tokens, awake.runtime)]
    del parts, tokens, awake
    capacity = synthesizer.capacity
    assert asyncio.run(synthesizer.rest.sleep())
    assert [each() for each in kept] == [None] * len(kept)
    assert synthesizer.capacity == capacity  # which it will have again
    assert (synthesizer.broken, synthesizer.preparing) == ("", "")


def test_a_model_that_has_gone_meanwhile_is_named_and_the_process_given_up_in_the_end(
    models: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models / MODEL_FOLDER, folder)
    config = config_for(Settings(device="cpu", dtype="float32", state_dir=tmp_path), 1)
    with closing(CosyVoiceSynthesizer(folder, tmp_path / "voices", config)) as synthesizer:
        (folder / "flow.pt").rename(folder / "flow.gone")
        assert asyncio.run(synthesizer.rest.sleep())

        async def speak() -> None:
            async for _ in synthesizer.synthesize("Hi.", voice_of(synthesizer, ""), Options()):
                pass

        for _ in range(3):
            assert not synthesizer.broken
            with pytest.raises(CosyError, match=r"flow\.pt is missing") as refused:
                asyncio.run(speak())
            assert refused.value.fault is errors.MODEL_UNUSABLE
        assert "flow.pt is missing" in synthesizer.broken  # and the supervisor starts another one


CHOSEN = KernelChoice(None, KernelsInUse("torch", "processor", "because", "因为"))


@given(st.integers(0, 80), st.integers(0, 80), st.sampled_from(["bfloat16", "float32"]))
def test_it_returns_only_where_weights_and_a_stream_fit(free: int, weights: int, dtype: str) -> None:
    config = replace(config_for(Settings(device="cpu"), 1), dtype=getattr(torch, dtype))
    model = Model(Path(), Config(), config, CHOSEN)
    streams = streams_beside(free << 30, weights << 30, model)
    assert streams <= streams_beside((free + 1) << 30, weights << 30, model)
    assert streams >= streams_beside(free << 30, (weights + 1) << 30, model)
    assert streams == 0 or free > weights
    assert streams > 0 or free < weights + 12
