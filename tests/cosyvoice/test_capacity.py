"""How many are spoken to at once: as many as there is room for, and nobody more is let in."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.cosyvoice.model.config import DitFlowConfig, FlowConfig
from cosyserve.cosyvoice.model.dit import Modulation
from cosyserve.cosyvoice.model.flow import DitFlow
from cosyserve.cosyvoice.runtime.batched import BatchedToken2Wav
from cosyserve.cosyvoice.runtime.editions import mean_batch
from cosyserve.cosyvoice.runtime.flow_batch import FlowBatch
from cosyserve.cosyvoice.runtime.generation import Generator
from cosyserve.cosyvoice.runtime.hops import Hops
from cosyserve.cosyvoice.runtime.memory import (
    ENCODER_TOKENS,
    encoder_bytes,
    page_bytes,
    pages_behind,
    shared_out,
    streams_on,
)
from cosyserve.cosyvoice.runtime.runtime import Made
from cosyserve.cosyvoice.runtime.token2wav import SingleToken2Wav
from cosyserve.settings import Settings
from cosyserve.speech.capacity import Bound, Capacity, by_memory, by_processor, by_setting, capacity_of
from cosyserve.speech.cosyvoice import CosyVoiceSynthesizer
from cosyserve.speech.parts import Parts
from cosyserve.speech.runtime_config import config_for
from cosyserve.store.manifest import MODEL_FOLDER
from tests.conftest import Serving
from tests.cosyvoice.seeded import SHALLOW3, TINY, Model, Model3, seeded, seeded3
from tests.running import HANGS, Server, eventually

SPEECH = "/v1/audio/speech"
LONG = "One two three four five six seven eight nine ten. " * 300


def test_two_are_spoken_to_on_a_processor_the_next_waits_and_one_more_is_turned_away(
    models: Path, tmp_path: Path
) -> None:
    with (
        Server(tmp_path, synthesizer="cosyvoice2", models_dir=models, max_queue=1, queue_seconds=HANGS) as server,
        httpx.Client(base_url=server.url, timeout=HANGS) as client,
        ThreadPoolExecutor() as threads,
        ExitStack() as listening,
    ):
        capacity = client.get("/readyz").json()["capacity"]
        assert (capacity["streams"], capacity["bound_by"], capacity["voices"]) == (2, "processor", 1)
        assert "cores" in capacity["why"]
        for _ in range(2):
            stream = listening.enter_context(client.stream("POST", SPEECH, json={"input": LONG}))
            assert stream.status_code == 200
        waits = threads.submit(client.post, SPEECH, json={"input": "Hi."})
        eventually(lambda: client.get("/readyz").json()["waiting"] == 1)
        state = client.get("/readyz").json()
        assert (state["active_streams"], state["max_streams"]) == (2, 2)
        turned_away = client.post(SPEECH, json={"input": "Hi."})
        assert turned_away.status_code == 429
        assert int(turned_away.headers["retry-after"]) > 0
        assert not waits.done()
        listening.close()
        assert waits.result(HANGS).status_code == 200


BOUNDS = st.builds(Bound, st.integers(1, 64), st.sampled_from(["setting", "memory", "engine"]), st.text(), st.text())


@given(st.lists(BOUNDS, min_size=1, max_size=4), st.integers(1, 8))
def test_the_tightest_bound_is_the_one_that_is_told(bounds: list[Bound], replicas: int) -> None:
    capacity = capacity_of(bounds, voices=4)
    assert capacity.streams == min(bound.streams for bound in bounds)
    assert capacity.why in [bound.why for bound in bounds if bound.streams == capacity.streams]
    together = capacity.times(replicas)
    assert (together.streams, together.bound_by) == (replicas * capacity.streams, capacity.bound_by)
    assert together.why.endswith(capacity.why)


def test_every_bound_says_why_in_both_languages() -> None:
    for bound in (by_setting(16), by_processor(2), by_memory(5, 17 << 30, 1.7 * 2**30, 15.0)):
        assert str(bound.streams if bound.by != "memory" else "17.0 GiB") in bound.why
        assert str(bound.streams if bound.by != "memory" else "17.0 GiB") in bound.why_zh


def test_a_page_takes_what_is_told_before_there_is_one() -> None:
    def held(pages: int) -> int:
        return FlowBatch(seeded(TINY).flow, 1, pages, 600).memory.nbytes

    assert page_bytes(TINY.flow, 4) == held(20) - held(19)
    assert round(page_bytes(FlowConfig()) / 1e6) == 115


def test_a_page_of_cosyvoice3_takes_what_is_told_before_there_is_one() -> None:
    def held(pages: int) -> int:
        return FlowBatch(seeded3(SHALLOW3).flow, 1, pages, 600).memory.nbytes

    assert page_bytes(SHALLOW3.flow, 4) == held(20) - held(19)
    assert round(page_bytes(DitFlowConfig()) / 1e6) == 90


def test_what_makes_the_mean_keeps_what_is_told_before_it_is_there() -> None:
    flows = (seeded(TINY).flow, TINY.flow), (seeded3(SHALLOW3).flow, SHALLOW3.flow)
    for flow, config in flows:
        one, two = (mean_batch(flow, slots, None) for slots in (1, 2))
        assert encoder_bytes(config, ENCODER_TOKENS, 4) == two.nbytes - one.nbytes


def test_nothing_is_left_of_what_cosyvoice3_s_times_are_made_by() -> None:
    """Of the released sizes: two fifths of all weights, which no card has to hold."""
    with torch.device("meta"):
        flow = DitFlow(DitFlowConfig())
    before = sum(each.numel() for each in flow.parameters())
    for each in flow.estimator.modules():
        if isinstance(each, Modulation):
            each.forget()
    assert round(before / 1e6) == 332
    assert round((before - sum(each.numel() for each in flow.parameters())) / 1e6) == 141


def test_what_a_card_speaks_is_told_before_the_model_is_there() -> None:
    """With 15 s behind each stream, in voices of 5 s, which are known beside them."""
    assert [streams_on(gib * 2**30, 15) for gib in (6, 8, 12, 16, 24, 48, 80)] == [1, 3, 5, 7, 11, 25, 44]
    assert [streams_on(gib * 2**30, 15, steps=5) for gib in (6, 24)] == [3, 23]  # half the memory for each
    of_cosyvoice3 = [streams_on(gib * 2**30, 15, model=DitFlowConfig) for gib in (6, 8, 12, 16, 24, 48, 80)]
    assert of_cosyvoice3 == [2, 4, 6, 9, 15, 34, 60]


@given(st.floats(0, 1e12), st.integers(1, 9000), st.sampled_from([FlowConfig(), DitFlowConfig()]))
def test_streams_and_voices_fit_into_the_room(there: float, frames: int, flow: FlowConfig | DitFlowConfig) -> None:
    share = shared_out(there, flow, frames)
    assert share.voices >= 1
    page = page_bytes(flow)
    assert share.streams == 0 or (share.pages + 1) * page + share.streams * (share.stream_bytes % page) <= there
    assert share.streams == 0 or share.pages >= pages_behind(frames)


def test_parts_are_made_of_either_generation() -> None:
    config = config_for(Settings(device="cpu", dtype="float32"), 1)
    for sizes, model in ((TINY, seeded(TINY)), (SHALLOW3, seeded3(SHALLOW3))):

        def generator(streams: int, model: Model | Model3 = model) -> Generator:
            return Generator(model.llm, streams, 256)

        (tokens, token2wav), capacity = Parts(generator, sizes, model.flow, model.hift, config).made()
        assert tokens.slots == capacity.streams
        assert isinstance(token2wav, SingleToken2Wav)


class Card(Parts):
    """A stand-in for a card of which another process holds the most until it `has_gone`."""

    has_gone = threading.Event()

    @property
    def shared(self) -> bool:
        return True

    @property
    def streams(self) -> int:
        return 3 if self.has_gone.is_set() else 1

    def made(self, least: int = 1) -> tuple[Made, Capacity]:
        assert self.streams >= least
        streams, pages = self.streams, pages_behind(600)
        token2wav = BatchedToken2Wav(self._flow, self._vocoder, Hops(), streams, (streams + 2) * pages, 600)
        bounds = [by_memory(streams, streams * 2.0**30, 2.0**30, 12)]
        return (self._generator(streams), token2wav), capacity_of(bounds, voices=1, past_seconds=12)


def test_more_are_let_in_once_who_held_the_card_has_gone(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serving: Serving
) -> None:
    monkeypatch.setattr("cosyserve.speech.loaded.Parts", Card)
    monkeypatch.setattr("cosyserve.speech.loaded._LOOK_SECONDS", 0.02)
    config = config_for(Settings(device="cpu", dtype="float32"), 1)
    synthesizer = CosyVoiceSynthesizer(models / MODEL_FOLDER, tmp_path / "voices", config)
    with (
        serving(synthesizer, max_queue=0) as url,
        httpx.Client(base_url=url) as client,
        ThreadPoolExecutor() as threads,
    ):

        def capacity() -> tuple[int, str]:
            told = client.get("/readyz").json()
            return told["max_streams"], told["capacity"]["why"]

        assert capacity()[0] == 1
        with client.stream("POST", SPEECH, json={"input": LONG}) as speaking:
            assert speaking.status_code == 200
            Card.has_gone.set()
            assert client.post(SPEECH, json={"input": "Hi."}).status_code == 429
            assert capacity()[0] == 1  # nobody is cut off for it
        eventually(lambda: capacity()[0] == 3)
        assert "3.0 GiB" in capacity()[1]
        answers = list(threads.map(lambda _: client.post(SPEECH, json={"input": "Hi there."}), range(3)))
        assert [each.status_code for each in answers] == [200, 200, 200]
