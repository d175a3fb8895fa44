"""Failures of the device: memory that runs out costs one request, an error that stays costs the process.

There is no card here. What raises is the real type with the real words; an error that stays is raised by whatever the
device is asked after it, as PyTorch does.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from cosyserve import errors
from cosyserve.cosyvoice.model.hift_stream import HiftStream
from cosyserve.cosyvoice.model.qwen2 import Llm
from cosyserve.cosyvoice.runtime.encoder_batch import EncoderBatch
from cosyserve.cosyvoice.runtime.generation import Generator
from cosyserve.cosyvoice.runtime.health import is_out_of_memory
from cosyserve.cosyvoice.runtime.request import NoRoomError, Slot
from cosyserve.cosyvoice.runtime.vocoder import VocoderBatch
from cosyserve.errors import CosyError
from tests.cosyvoice.seeded import TINY, Model, seeded
from tests.cosyvoice.test_token2wav import Client, Speaking, alike
from tests.launch.faults import PATH as FAULTS
from tests.launch.supervised import Supervised
from tests.running import HANGS

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 MiB. GPU 0 has a total capacity of 79.11 GiB"
ASSERTION = "CUDA error: device-side assert triggered"
# As PyTorch 2.13 goes on after the first line.
ADVICE = (
    "\nCUDA kernel errors might be asynchronously reported at some other API call.\nCompile with TORCH_USE_CUDA_DSA"
)


@pytest.fixture(scope="module")
def model() -> Model:
    return seeded(TINY)


@pytest.fixture
def speaking(model: Model) -> Iterator[Speaking]:
    running = Speaking(model, 3, together=True)
    yield running
    running.runtime.close()


Fault = Callable[[type, str, Callable[[], Exception | None]], None]


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Fault:
    """Before each call of a method, raise what the function gives."""

    def install(owner: type, name: str, problem: Callable[[], Exception | None]) -> None:
        really = getattr(owner, name)

        def work(*arguments: Any, **options: Any) -> Any:
            if (raised := problem()) is not None:
                raise raised
            return really(*arguments, **options)

        monkeypatch.setattr(owner, name, work)

    return install


def ended(listener: Client) -> Exception | None:
    assert listener.ended.wait(HANGS)
    return listener.problem


def fault_of(listener: Client) -> errors.Fault | None:
    problem = ended(listener)
    assert problem is None or isinstance(problem, CosyError), problem
    return None if problem is None else problem.fault


TEXT = 4  # tokens of text, which become 80 of speech and four hops


@pytest.fixture(scope="module")
def alone(model: Model) -> list[list[bytes]]:
    """What three requests sound like without a fault."""
    speaking = Speaking(model, 3, together=True)
    try:
        return [speaking.spoken(TEXT, seed) for seed in range(3)]
    finally:
        speaking.runtime.close()


@pytest.mark.parametrize(
    "problem",
    [
        torch.OutOfMemoryError(OUT_OF_MEMORY),
        torch.AcceleratorError(f"CUDA error: out of memory{ADVICE}"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        MemoryError(),
    ],
)
def test_what_runs_out_is_told_by_what_is_raised(problem: Exception) -> None:
    assert is_out_of_memory(problem)
    assert not is_out_of_memory(RuntimeError(ASSERTION))


@pytest.mark.parametrize(
    ("owner", "name"),
    [(HiftStream, "hop"), (VocoderBatch, "speak"), (EncoderBatch, "push"), (Llm, "decode")],
)
def test_memory_that_runs_out_ends_one_request_and_the_others_sound_as_ever(
    speaking: Speaking, alone: list[list[bytes]], at: Fault, owner: type, name: str
) -> None:
    """In what each stream does by itself, and in the step that all of them share."""
    raised, asked = [torch.OutOfMemoryError(OUT_OF_MEMORY)], list[Client]()
    at(owner, name, lambda: raised.pop() if raised and all_heard(asked) else None)
    asked += [speaking.ask(TEXT, seed)[0] for seed in range(3)]
    faults = [fault_of(listener) for listener in asked]
    assert [fault for fault in faults if fault is not None] == [errors.OUT_OF_MEMORY]
    for listener, fault, before in zip(asked, faults, alone, strict=True):
        if fault is None:
            assert alike([chunk.tobytes() for chunk in listener.chunks], before)
    assert not speaking.runtime.broken
    again = [speaking.ask(TEXT, seed)[0] for seed in range(3)]  # every slot is free again
    assert [ended(listener) for listener in again] == [None, None, None]
    assert not speaking.generator.busy


def all_heard(asked: list[Client]) -> bool:
    return len(asked) == 3 and all(listener.first.is_set() for listener in asked)


def test_what_spoils_a_round_ends_those_in_it_and_no_others(speaking: Speaking, at: Fault) -> None:
    raised, asked = [RuntimeError("spoilt")], list[Client]()
    at(VocoderBatch, "speak", lambda: raised.pop() if raised and all_heard(asked) else None)
    asked += [speaking.ask(TEXT, seed)[0] for seed in range(3)]
    assert any(type(problem) is RuntimeError for problem in map(ended, asked))
    assert speaking.spoken(TEXT)


@pytest.mark.parametrize("kind", [torch.AcceleratorError, RuntimeError])
def test_an_error_that_stays_ends_all_at_once(speaking: Speaking, at: Fault, kind: type[Exception]) -> None:
    """Those who hear something, those who wait, and those who come before the process is gone."""
    asked: list[Client] = []
    lost: list[bool] = []

    def assertion() -> Exception | None:
        if all_heard(asked[:3]):
            lost.append(True)
        return kind(ASSERTION + ADVICE) if lost else None

    for owner, name in ((HiftStream, "hop"), (torch.Tensor, "add_")):
        at(owner, name, assertion)
    asked += [speaking.ask(TEXT, seed)[0] for seed in range(5)]
    assert [fault_of(listener) for listener in asked] == 5 * [errors.ENGINE_FAILED]
    assert speaking.runtime.broken == ASSERTION
    late, _ = speaking.ask(TEXT)
    assert fault_of(late) is errors.ENGINE_FAILED
    assert ASSERTION in str(late.problem)


def test_five_failures_without_a_success_are_no_single_requests_fault(speaking: Speaking, at: Fault) -> None:
    failing = [True]
    at(EncoderBatch, "resume", lambda: RuntimeError("nothing works") if failing[0] else None)
    for _ in range(4):
        assert type(ended(speaking.ask(TEXT)[0])) is RuntimeError
    failing[0] = False
    assert speaking.spoken(TEXT)
    failing[0] = True
    for _ in range(4):
        assert type(ended(speaking.ask(TEXT)[0])) is RuntimeError
    assert str(speaking.runtime.broken) == ""
    assert fault_of(speaking.ask(TEXT)[0]) is errors.ENGINE_FAILED
    assert speaking.runtime.broken == "5 requests failed one after the other, the last with: nothing works"


def test_requests_that_are_no_good_break_nothing(speaking: Speaking) -> None:
    for _ in range(6):
        assert isinstance(ended(speaking.ask(700)[0]), NoRoomError)
    assert not speaking.runtime.broken
    assert speaking.spoken(TEXT)


def test_a_generator_that_is_past_hearing_does_not_end_the_loop(
    speaking: Speaking, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = Generator.remove

    def remove(generator: Generator, slot: Slot) -> None:
        really(generator, slot)
        monkeypatch.undo()
        raise RuntimeError("it is past hearing")

    monkeypatch.setattr(Generator, "remove", remove)
    listener, utterance = speaking.ask(20)
    assert listener.first.wait(HANGS)
    speaking.runtime.cancel(utterance)
    assert speaking.spoken(TEXT)


LONG = "Hi. " * 5


def test_a_server_survives_a_full_card_and_is_started_anew_for_a_lost_one(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the supervisor, so there are two starts of a server with PyTorch."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(FAULTS), os.environ.get("PYTHONPATH", ""))))
    monkeypatch.setenv("STAND_IN_FAULT", "lose")
    asked: dict[str, Any] = {"synthesizer": "cosyvoice2", "models_dir": models, "device": "cpu", "dtype": "float32"}
    with Supervised(tmp_path, mpi="auto", **asked) as supervised:

        def say(text: str) -> httpx.Response:
            body = {"input": text, "response_format": "pcm", "seed": 7}
            return httpx.post(f"{supervised.url}/v1/audio/speech", json=body, timeout=HANGS)

        alone, first = say(LONG).content, supervised.server()
        with ThreadPoolExecutor() as pool:
            beside = pool.submit(say, LONG)
            for _ in range(3):
                full = say("They run out.")
                assert (full.status_code, full.json()["error"]["code"]) == (503, "CS-SRV-007")
                assert full.headers["Retry-After"] == "1"
            assert beside.result().content == alone
        assert supervised.server() == first

        lost = say("They fall off.")
        assert (lost.status_code, lost.json()["error"]["code"]) == (503, "CS-ENGINE-003")
        assert ASSERTION in lost.json()["error"]["message"]
        supervised.wait_until_it_stands(times=2)
        assert supervised.server() != first
        assert say(LONG).content == alone
        ready = httpx.get(f"{supervised.url}/readyz").json()
        assert (ready["restarts"], "lost its engine" in ready["restart_reason"]) == (1, True)
        assert supervised.stop() == 0
