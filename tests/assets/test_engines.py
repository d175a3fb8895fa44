"""The cache of engines: what its key depends on, and that a folder in it is whole, whatever happens to its builders.

The builders here are stand-ins: they write files, and take their time.
"""

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosyserve import errors
from cosyserve.assets import engine_key
from cosyserve.assets.engine_key import key_here
from cosyserve.errors import CosyError
from cosyserve.machine import Machine
from cosyserve.store.engines import BIAS, CONFIG, PLAN, Engines, Key, Shape
from tests.running import HANGS

KEY = Key(
    weights="w" * 64,
    shape=Shape(),
    export=1,
    tensorrt_llm="1.2.1",
    tensorrt="10.14.1",
    cuda=13,
    capability=8.9,
    card="NVIDIA GeForce RTX 4090",
    system="linux-x86_64",
)
SPAWN = multiprocessing.get_context("spawn")

texts = st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=20)
others = {
    "weights": texts,
    "shape": st.builds(
        Shape,
        dtype=st.sampled_from(["bfloat16", "float16"]),
        max_batch=st.integers(1, 256),
        max_seq=st.integers(256, 32768),
    ),
    "export": st.integers(0, 1000),
    "tensorrt_llm": texts,
    "tensorrt": texts,
    "cuda": st.integers(0, 20),
    "capability": st.floats(7, 13, allow_nan=False),
    "card": texts,
    "system": texts,
}


@given(st.sampled_from(sorted(Key.model_fields)), st.data())
def test_every_field_changes_the_key(field: str, data: st.DataObject) -> None:
    value = data.draw(others[field])
    other = KEY.model_copy(update={field: value})
    assert (other.digest == KEY.digest) == (value == getattr(KEY, field))
    assert Key.model_validate_json(other.model_dump_json()).digest == other.digest


def test_the_fields_of_the_key_are_those_an_engine_depends_on() -> None:
    assert set(Key.model_fields) == set(others)


def write(folder: Path, content: bytes = b"plan") -> None:
    (folder / PLAN).write_bytes(content)
    (folder / CONFIG).write_text("{}")
    (folder / BIAS).write_bytes(b"bias")


def write_slowly(models: Path, began: Event, content: bytes, seconds: float) -> None:
    def builder(folder: Path) -> None:
        began.set()
        (folder / PLAN).write_bytes(content[: len(content) // 2])
        time.sleep(seconds)  # the stand-in's own pace
        write(folder, content)

    Engines(models).build(KEY, builder)


@pytest.mark.parametrize("moment", range(10))
@pytest.mark.parametrize("old", [False, True])
def test_a_builder_that_is_killed_leaves_the_old_engine_or_none(tmp_path: Path, moment: int, old: bool) -> None:
    engines, old_key = Engines(tmp_path), KEY.model_copy(update={"tensorrt": "10.11.0"})
    if old:
        engines.build(old_key, write)
    began = SPAWN.Event()
    builder = SPAWN.Process(target=write_slowly, args=(tmp_path, began, b"x" * 1_000_000, 0.05))
    builder.start()
    assert began.wait(HANGS)
    builder.join(moment * 0.008)
    if builder.pid and builder.is_alive():
        os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    found = engines.find(KEY)
    assert found is None or (found.folder / PLAN).read_bytes() == b"x" * 1_000_000
    assert (engines.find(old_key) is not None) == old
    engines.build(KEY, write)
    assert engines.find(KEY) is not None
    assert not list(engines.root.glob(".building-*"))


def test_two_builders_build_once(tmp_path: Path) -> None:
    built, waited = [], []

    def builder(folder: Path) -> None:
        built.append(folder)
        write(folder)

    threads = [
        threading.Thread(target=lambda: Engines(tmp_path).build(KEY, builder, lambda: waited.append(1)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


def test_a_new_one_takes_the_place_of_an_old_one_only_when_it_is_whole(tmp_path: Path) -> None:
    engines = Engines(tmp_path)
    engines.build(KEY, write)

    def fails(folder: Path) -> None:
        assert engines.find(KEY)
        raise CosyError(errors.BUILD_FAILED, reason="a test wants it")

    with pytest.raises(CosyError):
        engines.build(KEY, fails, anew=True)
    assert engines.find(KEY)
    engine = engines.build(KEY, lambda folder: write(folder, b"new"), anew=True)
    assert (engine.folder / PLAN).read_bytes() == b"new"


def test_an_engine_for_something_else_is_never_found(tmp_path: Path) -> None:
    engines = Engines(tmp_path)
    engine = engines.build(KEY, write)
    assert engines.find(KEY) == engine
    for other in (
        KEY.model_copy(update={"tensorrt_llm": "1.0.0"}),
        KEY.model_copy(update={"card": "NVIDIA A100", "capability": 8.0}),
        KEY.model_copy(update={"weights": "v" * 64}),
    ):
        assert engines.find(other) is None
        assert engines.usable(other) is None
    engine.folder.rename(engines.root / KEY.model_copy(update={"cuda": 12}).digest)  # moved by hand: its key tells
    assert engines.find(KEY.model_copy(update={"cuda": 12})) is None


def test_an_engine_of_another_shape_serves_all_the_same(tmp_path: Path) -> None:
    engines = Engines(tmp_path)
    larger = engines.build(KEY.model_copy(update={"shape": Shape(max_batch=32)}), write)
    assert engines.find(KEY) is None
    assert engines.usable(KEY) == larger


def test_an_engine_without_its_plan_is_none(tmp_path: Path) -> None:
    engines = Engines(tmp_path)
    with pytest.raises(CosyError) as caught:
        engines.build(KEY, lambda folder: None)
    assert caught.value.fault is errors.BUILD_FAILED
    assert not [each for each in engines.root.iterdir() if each.is_dir()]
    (engines.build(KEY, write).folder / PLAN).unlink()
    assert engines.find(KEY) is None
    assert engines.build(KEY, write)


def test_a_failed_load_is_worth_one_more_build_until_it_works_again(tmp_path: Path) -> None:
    engines = Engines(tmp_path)
    assert engines.give_up(engines.build(KEY, write))
    assert engines.find(KEY) is None
    assert not engines.give_up(engines.build(KEY, write))
    engines.use(engines.build(KEY, write))
    assert engines.give_up(engines.build(KEY, write))


def test_the_least_lately_used_are_pruned(tmp_path: Path) -> None:
    engines = Engines(tmp_path)
    built = [engines.build(KEY.model_copy(update={"cuda": number}), write) for number in range(4)]
    for place, engine in enumerate(built):
        os.utime(engine.folder / "key.json", (place, place))
    engines.use(built[0])
    assert {engine.key.cuda for engine in engines.prune(2)} == {1, 2}
    assert [engine.key.cuda for engine in engines.all()] == [0, 3]


@pytest.mark.parametrize(
    ("version", "fault"),
    [(None, errors.TRTLLM_MISSING), ("1.3.0rc20", errors.TRTLLM_VERSION), ("0.20.0", errors.TRTLLM_VERSION)],
)
def test_what_cannot_build_engines_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, version: str | None, fault: errors.Fault
) -> None:
    monkeypatch.setattr(engine_key, "installed", lambda package: version)
    with pytest.raises(CosyError) as caught:
        key_here("w", Shape(), Machine(environ={"PATH": "/nowhere"}))
    assert caught.value.fault is fault


def test_without_a_card_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_key, "installed", lambda package: "1.2.1")
    with pytest.raises(CosyError) as caught:
        key_here("w", Shape(), Machine(environ={"PATH": "/nowhere"}))
    assert caught.value.fault is errors.BUILD_WITHOUT_CARD
    assert "no-card mode" in caught.value.remedy
