"""Starts the servers, has them attacked, and says what came of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from cosyserve.assets.manifest import MODEL_FOLDER
from tests.cosyvoice2.folder import make_model
from tests.hostile.attacks import ATTACKS, Target
from tests.hostile.watch import Noticed, Watch
from tests.running import Server, eventually

LIMIT_SECONDS = 0.5  # for /livez at its 99th percentile, and for a running stream
_LEFT = 100 * 2**20  # bytes that may still be held afterwards
_STALL_SECONDS = 3.0
_SETTLE_SECONDS = 60


@dataclass
class Outcome:
    noticed: Noticed = field(default_factory=Noticed)
    before: int = 0
    after: int = 0
    restarts: int = 0
    problems: list[str] = field(default_factory=list)


def attacked(folder: Path, names: Sequence[str] = (), tell: Callable[[str], None] = lambda line: None) -> Outcome:
    """The outcome of all attacks, or of those that are named."""
    make_model(folder / "models" / MODEL_FOLDER)
    settings: dict[str, Any] = {"synthesizer": "cosyvoice2", "models_dir": folder / "models", "dtype": "float32"}
    settings |= {"stall_seconds": _STALL_SECONDS, "max_streams": 16}
    (folder / "open").mkdir()
    (folder / "locked").mkdir()
    outcome = Outcome()
    with (
        Server(folder / "open", **settings) as server,
        Server(folder / "locked", synthesizer="preview", api_keys="sesame") as locked,
        Watch(server.url, server.process) as watch,
    ):
        target = Target(server.url, locked.url, _STALL_SECONDS)
        with watch.stretch():  # what is made at the first use and kept
            httpx.post(f"{server.url}/v1/audio/speech", json={"input": "Ready."}, timeout=60).raise_for_status()
            outcome.before = watch.memory()
        watch.all = Noticed()
        for attack in ATTACKS:
            name = attack.__name__.replace("_", " ")
            if names and name not in names:
                continue
            with watch.stretch() as noticed:
                try:
                    came = attack(target)
                except Exception as problem:
                    came = f"NOT MET: {problem!r}"
                    outcome.problems.append(f"{name}: {problem!r}")
            tell(f"{name}\n    {came}\n    {noticed.line()}")
        outcome.noticed = watch.all
        limit = outcome.before + _LEFT
        try:
            eventually(lambda: watch.memory() < limit, seconds=_SETTLE_SECONDS)
        except AssertionError:
            outcome.problems.append("memory is still held")
        outcome.after = watch.memory()
        for each in (server, locked):
            outcome.restarts += httpx.get(f"{each.url}/readyz", headers={"Authorization": "Bearer sesame"}).json()[
                "restarts"
            ]
            if "Traceback" in each.text():
                outcome.problems.append("there is a traceback in the log")
    if outcome.restarts:
        outcome.problems.append(f"it was restarted {outcome.restarts} times")
    return outcome
