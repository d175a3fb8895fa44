"""The load protocol: what listeners hear, when they come, and a short run of all of it on the small model."""

import asyncio
import itertools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.common.listening import (
    DOWN,
    LATE,
    Listener,
    arrivals,
    figures,
    highest,
    next_step,
    percentile,
    rate_of,
    step_below,
)
from bench.common.load_clients import Clients, Gpu
from bench.common.load_picture import picture
from bench.common.load_report import Report, compared
from bench.load import Protocol, from_folder, measured, runtime_of, small
from cosyserve.cosyvoice.model.sampling import length_limits
from cosyserve.cosyvoice.runtime import generation
from cosyserve.speech.audio import SAMPLE_RATE, Pcm
from tests.cosyvoice.folder import make_model, make_model3
from tests.cosyvoice.seeded import SHALLOW
from tests.running import HANGS

TICK = SAMPLE_RATE // 100  # samples; times in the properties are whole hundredths of a second
PIECES = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), min_size=1, max_size=12)  # pauses, durations


def sound(ticks: int, level: float = 0.5) -> Pcm:
    return np.full(ticks * TICK, level, np.float32)


def listener_of(pieces: list[tuple[int, int]]) -> Listener:
    """Each piece comes so many ticks after the one before it."""
    listener, at = Listener(0.0), 0
    for pause, ticks in pieces:
        at += pause
        listener.hear(at / 100, sound(ticks))
    listener.complete = True
    return listener


def quiet_ticks(pieces: list[tuple[int, int]]) -> int:
    """By a clock: in every tick a sample is played if there is one."""
    arrived = list(itertools.accumulate(pause for pause, _ in pieces))
    ticks = [ticks for _, ticks in pieces]
    buffer = quiet = 0
    for now in range(arrived[0], arrived[-1] + 1):
        buffer += sum(count for at, count in zip(arrived, ticks, strict=True) if at == now)
        if now < arrived[-1]:
            quiet += buffer == 0
            buffer = max(0, buffer - 1)
    return quiet


@given(PIECES)
def test_silence_is_what_a_clock_counts(pieces: list[tuple[int, int]]) -> None:
    listener = listener_of(pieces)
    assert listener.silence == pytest.approx(quiet_ticks(pieces) / 100)
    assert listener.sound == pytest.approx(sum(ticks for _, ticks in pieces) / 100)
    assert listener.first_chunk == listener.audible == pytest.approx(pieces[0][0] / 100)
    played = listener.first_chunk + listener.silence + listener.sound
    assert listener.plays_until == pytest.approx(played)


@given(PIECES, st.integers(0, 100))
def test_who_gives_up_has_heard_silence_since_the_last_sound(pieces: list[tuple[int, int]], waited: int) -> None:
    listener = listener_of(pieces)
    silence, until = listener.silence, listener.plays_until
    listener.give_up(until + waited / 100)
    assert listener.silence == pytest.approx(silence + waited / 100)


def test_who_gives_up_before_the_first_chunk_has_waited_for_it() -> None:
    listener = Listener(2.0)
    listener.give_up(5.0)
    found = figures([listener], 2.0, 4.0)
    assert (found.first_chunk_p50_ms, found.audible_p50_ms, found.silence_s, found.unfinished) == (3000, 3000, 0, 1)
    assert not found.carried


@given(st.integers(6, 50), st.integers(1, 50))
def test_silence_before_the_first_sound_is_left_out(quiet: int, loud: int) -> None:
    """But for the 50 ms that a server leaves of it."""
    within, later = Listener(0.0), Listener(0.0)
    within.hear(1.0, np.concatenate((sound(quiet, 0.0), sound(loud))))
    later.hear(1.0, sound(quiet, 0.0))
    later.hear(2.0, sound(loud))
    assert within.audible == pytest.approx(1.05)
    assert later.audible == pytest.approx(2.05)
    assert within.first_chunk == later.first_chunk == 1.0


@given(st.floats(0.5, 20), st.integers(0, 100), st.integers(1, 8))
def test_arrivals_are_the_same_at_every_rate(rate: float, seed: int, voices: int) -> None:
    slow = list(arrivals(rate, 40, (4, 12), voices, seed))
    fast = list(arrivals(2 * rate, 20, (4, 12), voices, seed))
    assert [(each.seconds, each.voice) for each in slow] == [(each.seconds, each.voice) for each in fast]
    assert [each.at for each in slow] == pytest.approx([2 * each.at for each in fast])
    assert slow[0].at == 0 and all(before.at <= after.at < 40 for before, after in itertools.pairwise(slow))
    assert {each.seconds for each in slow} <= {4, 12} and {each.voice for each in slow} <= set(range(voices))


def test_arrivals_are_a_poisson_process() -> None:
    gaps = np.diff([each.at for each in arrivals(5, 4000, (4, 12), 4)])
    assert fmean(gaps) == pytest.approx(1 / 5, rel=0.03)
    assert np.std(gaps) == pytest.approx(1 / 5, rel=0.03)  # as large as the mean, in an exponential distribution


@given(st.integers(-20, 20), st.integers(-20, 20))
def test_the_highest_rate_is_found_unless_it_is_far_below_the_first(limit: int, start: int) -> None:
    carried: dict[int, bool] = {}
    step: int | None = start
    while step is not None:
        assert step not in carried
        carried[step] = step <= limit
        step = next_step(carried)
    assert len(carried) <= max(limit - start + 3, 2 + DOWN)
    if limit >= start - DOWN:
        assert highest(carried) == round(rate_of(limit), 2)
        assert not carried[limit + 1] and not carried[limit + 2]
    else:
        assert highest(carried) is None


@given(st.floats(0.01, 1000))
def test_the_step_below_a_rate(rate: float) -> None:
    step = step_below(rate)
    assert rate_of(step) <= rate * 1.000001 and rate_of(step + 1) > rate * 0.999999


@given(st.lists(st.integers(0, 50), min_size=1), st.sampled_from((0.5, 0.95)))
def test_a_percentile_is_the_least_that_such_a_share_does_not_exceed(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) < share * len(values) + 1e-9


def test_what_a_rate_is_judged_by() -> None:
    well = listener_of([(10, 20), (5, 20)])
    late = listener_of([(round(100 * LATE) + 1, 20)])
    interrupted = listener_of([(10, 20), (25, 20)])
    failed = Listener(0.0)
    failed.failed = True
    assert figures([well], 0.0, 1.0).carried and figures([], 0.0, 1.0).carried
    assert not any(figures([well, other], 0.0, 1.0).carried for other in (late, interrupted, failed))
    assert figures([well, interrupted], 0.0, 0.2).sound_per_s == pytest.approx((0.2 + 0.2 + 0.2) / 0.2)


SHORT = Protocol(
    texts=(0.8, 1.6),
    at_once=(1, 2),
    closed=0.3,
    repeats=1,
    many_voices=3,
    staggered=2,
    staggering=0.6,
    open=0.3,
    open_voices=(1, 2),
    patience=HANGS,
    limit=0.0,  # one rate for each
)


def test_a_short_run_on_the_small_model_finds_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half of its seconds are the small model speaking."""
    config, model = small("cpu", SHALLOW)
    report = Report(tmp_path / "load.json")
    measured(runtime_of(config, model, "cpu", 2), config.llm.vocabulary, SHORT, report, time.perf_counter())
    found: dict[str, Any] = json.loads((tmp_path / "load.json").read_text())
    assert found["complete"] is True
    assert found["protocol"]["texts"] == [0.8, 1.6]
    assert found["alone"]["first_chunk_p50_ms"] > 0 and found["alone"]["second_after_p50_ms"] > 0
    assert found["new voice"].keys() == {"new_first_chunk_p50_ms", "known_first_chunk_p50_ms"}
    assert found["voices"].keys() == {"1", "3", "ratio of sound per second"}
    loops = [*found["closed loop"].values(), found["voices"]["1"], found["voices"]["3"], *found["staggered"].values()]
    rates = [each["rates"] for each in found["open loop"].values()]
    assert [len(each) for each in rates] == [1, 1]
    parts = [*loops, *(each for loop in rates for each in loop.values())]
    assert all(each["unfinished"] == each["failed"] == 0 and each["gpu_busy"] is None for each in parts)
    assert all(each["first_chunk_p50_ms"] <= each["first_chunk_p95_ms"] for each in parts)
    at_least = (1, 2, 4, 4, 2, 1, 1)
    assert all(each["listeners"] >= least for each, least in zip(parts, at_least, strict=True))
    assert [each["text_s"] for each in loops[:4]] == [0.8] * 4
    assert all(0.8 <= each["text_s"] <= 1.6 for each in parts[4:])
    drawn = ElementTree.fromstring(picture(found))  # noqa: S314
    dots = drawn.findall("{http://www.w3.org/2000/svg}circle")
    assert len(dots) == 2 * 3  # both percentiles and the silence, of one rate in each loop
    assert "open loop, 2 voices" in capsys.readouterr().out
    lines = list(compared(found, found))
    assert lines and all(line.endswith("ratio 1.00") for line in lines)
    assert any(line.startswith("closed loop, 2 at once, first_chunk_p50_ms") for line in lines)
    assert not any(line.startswith("protocol") for line in lines)


@pytest.mark.parametrize("make", [make_model, make_model3])
def test_a_text_is_as_long_as_it_is_meant_to_be(
    tmp_path: Path, make: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though this folder's model would end it soon."""
    monkeypatch.setattr(generation, "length_limits", length_limits)  # which is given back
    config, model = from_folder(make(tmp_path / "model"), "cpu", torch.float32)
    runtime = runtime_of(config, model, "cpu", 1)
    try:
        listener = asyncio.run(Clients(runtime, config.llm.vocabulary).listen(0.8, 0, []))
    finally:
        runtime.close()
    assert listener.complete and listener.sound == pytest.approx(0.8)


def test_a_gpu_is_as_busy_as_nvidia_smi_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in, which says what the real one does as long as it runs; and none at all."""
    monkeypatch.setenv("PATH", str(tmp_path))
    gpu = Gpu()
    with gpu.watched():
        assert gpu.busy(0, math.inf) is None
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho 40; echo '[N/A]'; echo 60; exec /bin/sleep 300\n")
    command.chmod(0o755)
    with gpu.watched():
        until = time.monotonic() + HANGS
        while gpu.busy(0, math.inf) != 0.5 and time.monotonic() < until:
            time.sleep(0.01)
    assert gpu.busy(0, math.inf) == 0.5
    assert gpu.busy(0, 0) is None


def test_a_picture_of_a_run_that_was_cut_is_whole() -> None:
    ElementTree.fromstring(picture({"alone": {}}))  # noqa: S314
