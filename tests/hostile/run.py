"""Starts servers, has them attacked, and says what came of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from cosyserve.store.manifest import MODEL_FOLDER
from tests.cosyvoice.folder import make_model
from tests.hostile.attacks import AT_THE_DOOR, ON_THE_MODEL, Attack, Target, voice
from tests.hostile.watch import Noticed, Watch
from tests.hostile.wyoming import AT_THE_WYOMING_PORT
from tests.running import HANGS, Server, eventually
from tests.speech.recordings import speech

LIMIT_SECONDS = 0.5  # for /livez at its 99th percentile, and for a running stream beyond its own pace
_LEFT = 100 * 2**20  # bytes that may still be held afterwards
_STALL_SECONDS = 3.0
_KEY = "sesame"

Tell = Callable[[str], None]


@dataclass
class Outcome:
    """Of all attacks on one server. Bytes of memory before, and after it has come to rest; `pace` is how long a stream
    waits, in seconds, while nothing but another one is spoken: on a processor they share it."""

    noticed: Noticed = field(default_factory=Noticed)
    pace: float = 0.0
    before: int = 0
    after: int = 0
    restarts: int = 0
    problems: list[str] = field(default_factory=list)


def attacked(folder: Path, names: Sequence[str] = (), tell: Tell = lambda line: None) -> dict[str, Outcome]:
    """The outcome of all attacks, or of those that are named, by who speaks in the server."""
    make_model(folder / "models" / MODEL_FOLDER)
    model = {"synthesizer": "cosyvoice2", "models_dir": folder / "models", "dtype": "float32"}
    outcomes = {}
    (folder / "locked").mkdir()
    with Server(folder / "locked", synthesizer="preview", api_keys=_KEY) as locked:
        for name, attacks, settings in (
            ("preview", (*AT_THE_DOOR, *AT_THE_WYOMING_PORT), {"synthesizer": "preview"}),
            ("cosyvoice2", ON_THE_MODEL, model),
        ):
            chosen = [each for each in attacks if not names or _name(each) in names]
            if chosen:
                (folder / name).mkdir()
                outcomes[name] = _attacked(folder / name, locked.url, chosen, settings, tell)
        _examine(locked, next(iter(outcomes.values())))
    return outcomes


def _attacked(folder: Path, locked: str, attacks: list[Attack], settings: dict[str, Any], tell: Tell) -> Outcome:
    outcome = Outcome()
    with (
        Server(folder, stall_seconds=_STALL_SECONDS, wyoming_port=0, **settings) as server,
        Watch(server.url, server.process) as watch,
    ):
        target = Target(server.url, locked, server.wyoming, _STALL_SECONDS)
        with watch.stretch():
            _use_everything_once(server.url)
        with watch.stretch() as undisturbed:
            body = {"input": "Nothing happens meanwhile. " * 20, "response_format": "pcm"}
            httpx.post(f"{server.url}/v1/audio/speech", json=body, timeout=HANGS).raise_for_status()
        # The peak of ordinary use: at one moment a process that is kept for the next recording may just be starting.
        outcome.before = max(undisturbed.memory, watch.memory())
        outcome.pace, watch.all = undisturbed.stream, Noticed()
        for attack in attacks:
            with watch.stretch() as noticed:
                try:
                    came = attack(target)
                except Exception as problem:
                    came = f"NOT MET: {problem!r}"
                    outcome.problems.append(f"{_name(attack)}: {problem!r}")
            tell(f"{_name(attack)}\n    {came}\n    {noticed.line()}")
        outcome.noticed = watch.all
        try:
            eventually(lambda: watch.memory() < outcome.before + _LEFT)
        except AssertionError:
            held = {name: size >> 20 for name, size in watch.memory_by_process().items()}
            outcome.problems.append(f"memory is still held, {outcome.before >> 20} MiB before, now {held}")
        outcome.after = watch.memory()
        _examine(server, outcome)
    return outcome


def _use_everything_once(url: str) -> None:
    """Some of it is made at the first use and kept: encoders, and what reads numbers and recordings."""
    with httpx.Client(base_url=url, timeout=HANGS) as client:
        for form in ("mp3", "opus", "aac", "flac"):
            body = {"input": "Ready, 1.", "response_format": form, "speed": 0.5}
            client.post("/v1/audio/speech", json=body).raise_for_status()
        client.post("/v1/audio/voices", data=voice("first"), files={"audio": speech()})  # the preview has none
        client.delete("/v1/audio/voices/first")


def _examine(server: Server, outcome: Outcome) -> None:
    state = httpx.get(f"{server.url}/readyz", headers={"Authorization": f"Bearer {_KEY}"}).json()
    outcome.restarts += state["restarts"]
    if state["restarts"]:
        outcome.problems.append(f"restarted {state['restarts']} times: {state['restart_reason']}")
    if "Traceback" in server.text():
        outcome.problems.append("there is a traceback in the log")


def _name(attack: Attack) -> str:
    return attack.__name__.replace("_", " ")
