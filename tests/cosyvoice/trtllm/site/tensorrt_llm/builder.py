"""The stand-in's builder: it reads what it is given, writes down what it was asked for, and makes no real engine."""

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from safetensors import safe_open

from tests.cosyvoice.trtllm.contract import CONTRACT, bound, made

_HERE = "tensorrt_llm.builder"


_UNTOLD = ("plugin_config", "output_timing_cache")


class _Plugins(SimpleNamespace):
    def __setattr__(self, name: str, value: object) -> None:
        kind = CONTRACT["settable"]["plugin_config"]["names"][name]
        if type(value).__name__ != kind:
            raise TypeError(f"plugin_config.{name} takes {kind}")
        super().__setattr__(name, value)


class BuildConfig(made(f"{_HERE}.BuildConfig")):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.plugin_config = _Plugins()


class Engine:
    def __init__(self, model: Any, config: Any) -> None:
        self._model, self._config = model, config

    def save(self, *args: Any, **kwargs: Any) -> None:
        taken = bound(
            f"{_HERE}.Engine.save", CONTRACT["classes"][f"{_HERE}.Engine"]["methods"]["save"], {}, args, kwargs
        )
        folder = Path(taken["engine_dir"])
        asked = {
            name: value
            for name, value in vars(self._config).items()
            if name not in ("plugin_config", "output_timing_cache")
        }
        asked |= {"plugins": vars(self._config.plugin_config), "dtype": self._model.dtype}
        if bad := os.environ.get("STANDIN_UNLOADABLE"):
            (folder / "rank0.engine").write_bytes(bad.encode())
        else:
            weights = Path(self._model.folder) / "model.safetensors"
            (folder / "rank0.engine").write_bytes(b"stand-in " + b"\0" * weights.stat().st_size)
        (folder / "config.json").write_text(json.dumps({"version": "1.2.1", "asked": asked, "keys": self._model.keys}))
        if behaviour := os.environ.get("STANDIN_BEHAVIOUR"):
            (folder / "behaviour.json").write_text(behaviour)
        if count := os.environ.get("STANDIN_COUNT"):
            with Path(count).open("a") as file:
                file.write("built\n")


def build(*args: Any, **kwargs: Any) -> Engine:
    about = CONTRACT["functions"][f"{_HERE}.build"]
    taken = bound(f"{_HERE}.build", about["positional"], {}, args, kwargs)
    print("[TRT-LLM] [I] Total time of building: the stand-in takes none", flush=True)
    if reason := os.environ.get("STANDIN_FAILS"):
        raise RuntimeError(reason)
    time.sleep(float(os.environ.get("STANDIN_SECONDS", "0")))
    with open(taken["build_config"].output_timing_cache, "wb") as cache:  # noqa: PTH123 - as the source has it
        cache.write(b"timings")
    with safe_open(Path(taken["model"].folder) / "model.safetensors", "pt") as file:
        taken["model"].keys = sorted(file.keys())
    return Engine(taken["model"], taken["build_config"])
