"""How many are spoken to at once: as many as there is room for, and nobody more is let in."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import torch
from hypothesis import given
from hypothesis import strategies as st

from cosyserve.cosyvoice.runtime.memory import shared_out, slot_bytes, streams_on
from cosyserve.cosyvoice.runtime.slots import FlowSlots
from cosyserve.speech.capacity import Bound, by_memory, by_processor, by_setting, capacity_of
from tests.cosyvoice.seeded import TINY, seeded
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
    for bound in (by_setting(16), by_processor(2), by_memory(5, 17 << 30, 1.7 * 2**30, 15.0, 4)):
        assert str(bound.streams if bound.by != "memory" else "17.0 GiB") in bound.why
        assert str(bound.streams if bound.by != "memory" else "17.0 GiB") in bound.why_zh


def test_a_slot_takes_what_is_told_before_there_is_one() -> None:
    def held(slots: int) -> int:
        """Bytes of the largest tensor, which the keys and values are in."""
        made = vars(FlowSlots(seeded(TINY).flow, slots, 600)).values()
        return max(each.nbytes for each in made if isinstance(each, torch.Tensor))

    assert slot_bytes(TINY.flow, 600, 4) == held(2) - held(1)


def test_what_a_card_speaks_is_told_before_the_model_is_there() -> None:
    """Of 8, 12, 16, 24 and 80 GiB, with 15 s behind each stream; the first has no room."""
    assert [streams_on(gib * 2**30, 15) for gib in (8, 12, 16, 24, 80)] == [0, 2, 4, 6, 31]
    assert streams_on(8 * 2**30, 5) >= 2


@given(st.floats(0, 1e12), st.integers(1, 10**10))
def test_streams_and_voices_fit_into_the_room(there: float, slot: int) -> None:
    streams, voices = shared_out(there, slot)
    assert voices >= 1
    assert streams == 0 or (streams + voices + 1) * slot <= there
