"""Where models can be downloaded from, and the order in which to try. All of it is pure except `measured`."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cosyserve.machine import Machine, Platform, platform_of
from cosyserve.store.manifest import File, Model

_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "MODELSCOPE_OFFLINE")
_TURBO = "/etc/network_turbo"
_PROXY = re.compile(r"\b(\w+_proxy)=[\"']?([^\s\"';&]+)", re.IGNORECASE)
_PROBE_SECONDS = 4
_PATIENT_SECONDS = 6  # for the second look, where nothing at all answered at the first
_PROBE_BYTES = 4 << 20
# In China ModelScope is the sure choice even where something else is somewhat faster at this moment.
_PREFERRED_SHARE = 0.5

Name = Literal["huggingface", "hf-mirror", "modelscope"]


@dataclass(frozen=True)
class Source:
    """`hub` is the client that speaks to it. Only the hub a token was made for gets it."""

    name: Name
    hub: Literal["huggingface", "modelscope"]
    endpoint: str
    own_token: bool = True

    def address(self, model: Model, file: File) -> str:
        """A plain address of a file, to measure by; the transfers are the clients' own."""
        at = model.hubs[self.hub]
        if self.hub == "modelscope":
            return f"{self.endpoint}/api/v1/models/{at.repository}/repo?Revision={at.revision}&FilePath={file.source}"
        return f"{self.endpoint}/{at.repository}/resolve/{at.revision}/{file.source}"


def offline(environ: Mapping[str, str]) -> str | None:
    """The variable by which the user has forbidden the network."""
    return next((name for name in _OFFLINE if environ.get(name, "").lower() in ("1", "on", "yes", "true")), None)


def sources(environ: Mapping[str, str], mirror: str) -> dict[Name, Source]:
    """All there are, as the variables of the hubs' own clients have them."""
    modelscope = environ.get("MODELSCOPE_ENDPOINT") or environ.get("MODELSCOPE_DOMAIN") or "https://modelscope.cn"
    modelscope = modelscope if "://" in modelscope else f"https://{modelscope}"
    return {
        "huggingface": Source("huggingface", "huggingface", environ.get("HF_ENDPOINT") or "https://huggingface.co"),
        "hf-mirror": Source("hf-mirror", "huggingface", mirror.rstrip("/"), own_token=False),
        "modelscope": Source("modelscope", "modelscope", modelscope.rstrip("/")),
    }


def order(machine: Machine, speeds: Mapping[Name, float]) -> list[Name]:
    """The sources by speed (bytes a second, 0 for one that brings nothing), with the one that suits this machine first
    unless it is much slower."""
    ranked = sorted(speeds, key=lambda name: -speeds[name])
    if machine.environ.get("HF_ENDPOINT"):
        preferred: Name = "huggingface"  # somebody has said which one
    else:
        preferred = "modelscope" if platform_of(machine) is Platform.AUTODL else "huggingface"
    if speeds.get(preferred, 0) > 0 and speeds[preferred] >= _PREFERRED_SHARE * max(speeds.values()):
        ranked.sort(key=lambda name: name != preferred)  # stable: the others keep their order
    return ranked


def turbo(machine: Machine) -> dict[str, str]:
    """The proxies of AutoDL's network_turbo, which helps with hosts outside China and hinders with those inside. Read,
    not run."""
    return dict(_PROXY.findall(machine.read(_TURBO)))


def environment(source: Source, machine: Machine, caches: Path | None = None) -> dict[str, str]:
    """What a transfer from `source` runs in: quiet clients, no secret of ours, and AutoDL's proxies where they help.

    What the clients keep beside the files goes into `caches`, and nothing of it into the home folder.
    """
    kept = {name: value for name, value in machine.environ.items() if not name.startswith("COSYSERVE_")}
    proxies = turbo(machine)
    if source.name == "huggingface":
        kept = {**proxies, **kept}
    else:
        kept = {name: value for name, value in kept.items() if proxies.get(name) != value or name == "no_proxy"}
    return {
        # With Xet an interrupted file cannot be resumed, and mirrors have none.
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        # Asks Alibaba Cloud's metadata service, which takes seconds wherever there is none.
        "MODELSCOPE_DOWNLOAD_INTRA_CLOUD": "false",
        "MODELSCOPE_DOWNLOAD_FILE_LOCK": "false",  # the caller has one
        "MODELSCOPE_DOWNLOAD_TOTAL_TIMEOUT": "86400",  # a slow line is no failure; one that stands still is ended
        "PYTHONUNBUFFERED": "1",
        **({} if caches is None else _away_from_home(kept, caches)),
        **kept,
    }


def _away_from_home(environ: Mapping[str, str], caches: Path) -> dict[str, str]:
    home = Path(environ.get("HOME", "/"))
    # What a login has left in the home folder is found there.
    cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    token = Path(environ.get("HF_HOME") or cache / "huggingface") / "token"
    modelscope = home / ".modelscope"
    return {
        "HF_HOME": str(caches),
        "HF_TOKEN_PATH": str(token),
        "MODELSCOPE_CACHE": str(caches),
        "MODELSCOPE_HOME": str(modelscope if modelscope.exists() else caches),
    }


def measured(model: Model, files: Sequence[File], among: Sequence[Source], machine: Machine) -> dict[Name, float]:
    """Bytes a second that each source gives at this moment, all asked at once, within ten seconds; 0 for one that
    answers and brings nothing. One that cannot be reached is left out."""
    sample = max(files, key=lambda file: file.expected)
    most = _PROBE_BYTES if len(among) > 1 else 1  # there is nothing to compare

    def look(seconds: float) -> dict[Name, float]:
        with ThreadPoolExecutor(len(among)) as threads:
            speeds = threads.map(
                lambda source: _speed(source, source.address(model, sample), machine, seconds, most), among
            )
            found = zip((source.name for source in among), speeds, strict=True)
        return {name: speed for name, speed in found if speed is not None}

    return look(_PROBE_SECONDS) or look(_PATIENT_SECONDS)


def _speed(source: Source, address: str, machine: Machine, seconds: float, most: int) -> float | None:
    """In a process of its own: proxies are read from the environment, and an answer may never come. A third of the time
    is for the process to start, on a machine that is busy."""
    argv = [sys.executable, "-S", str(Path(__file__).with_name("probe.py"))]
    question = json.dumps({"address": address, "seconds": seconds * 2 / 3, "bytes": most})
    process = subprocess.Popen(  # noqa: S603 - argv is ours
        argv,
        env=environment(source, machine),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        try:
            said, _ = process.communicate(question, timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()  # what it had said by then
    return float(said.split()[-1]) if said.strip() else None
